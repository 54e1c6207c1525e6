"""Arguments of the architectures, a module for each family beside its network. Nothing here imports torch."""
