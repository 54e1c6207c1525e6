"""Reading shards ahead of training: warm threads, shards held by windows, whole batches in their order."""
