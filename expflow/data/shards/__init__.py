"""The format of shards: tars of samples, each with an index, below one manifest with sizes and checksums."""
