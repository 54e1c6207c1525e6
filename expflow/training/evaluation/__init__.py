"""What is measured on which samples, and what is kept of it. Importing this imports neither torch nor Lightning.

``predictions``             a split's predictions, sample by sample, in a file of plain arrays
``prediction_recorder``     how they come out of a validation, on one rank or many (Lightning)
``confusion``               how often each class was taken for each other one
``evaluator``               a finished trial's weights on a split (Lightning)
``ensembles``               several trials' networks combined (torch, Lightning)
``batchnorm_recalibration`` running statistics of batch norms, measured anew for averaged weights (Lightning)
``network_inspection``      the first layer's weights and single images, as plain arrays for figures (torch)
``diagnosis``               what learning curves say about a training
"""
