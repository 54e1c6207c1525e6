"""Data: sources become shards once, shards become batches of named fields. Importing this package imports no torch.

``specs`` declares the sources, ``sources`` opens them, ``prepare`` writes their shards, ``shards`` is the format,
``stores`` reads shards from wherever they lie, ``streaming`` makes batches, ``decode`` and ``augment`` the
images in them.
"""
