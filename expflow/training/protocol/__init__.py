"""What is measured on which samples, and what is kept of it. Importing this imports neither torch nor Lightning.

``predictions``  a split's predictions, sample by sample, in a file of plain arrays
``collecting``   how they come out of a validation, on one rank or many (Lightning)
``evaluating``   a finished trial's weights on a split, alone or combined with those of its siblings (Lightning)
``restating``    running statistics of batch norms, taken anew for averaged weights (Lightning)
``inside``       the first layer's weights and single images, as plain arrays for whoever draws them
``diagnosis``    what learning curves say about a training
"""
