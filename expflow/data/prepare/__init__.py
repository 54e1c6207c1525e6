"""From a data source to a folder of shards: planned, written by several processes, published by one rename."""
