"""From shards to batches: the loader, the order of an epoch, shards read ahead, and small splits decoded once."""
