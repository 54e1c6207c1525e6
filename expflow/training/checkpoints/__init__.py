"""Checkpoints of trials. Importing this imports neither torch nor Lightning.

``storage``            one checkpoint on the disk: written whole or not at all, verified before it is used
``selection``          which checkpoint an attempt goes on from
``retention``          which checkpoints of a sweep are deleted
``schedule_extension`` whether a longer training can go on from one
``tensor_files``       files of tensors and plain data, read without running code (torch)
``training_state``     what a checkpoint of a Lightning training holds besides Lightning's own (torch, Lightning)
``loading``            one of them in memory (torch, Lightning)
``resumable_loader``   training loaders that can be saved within an epoch (Lightning)
``checkpointer``       when a training is saved, and how it is restored (Lightning)
``writer``             writing one, by all ranks together (Lightning)
"""

from expflow.training.checkpoints.selection import CheckpointSelection, adopt_checkpoint, select_checkpoint
from expflow.training.checkpoints.storage import CheckpointManifest, list_checkpoints, verify_checkpoint

__all__ = [
    "CheckpointManifest",
    "CheckpointSelection",
    "adopt_checkpoint",
    "list_checkpoints",
    "select_checkpoint",
    "verify_checkpoint",
]
