"""Data: sources become shards once, shards become batches of named fields. Importing this package imports no torch."""
