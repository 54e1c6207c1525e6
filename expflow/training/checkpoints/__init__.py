"""Checkpoints of trials (design section 8). Importing this imports neither torch nor Lightning.

``folder``    one checkpoint on the disk: written whole or not at all, verified before it is used
``choice``    which checkpoint an attempt goes on from
``retention`` which checkpoints of a sweep are kept
``extension`` whether a longer training can go on from one
``tensors``   files of tensors and plain data, read without running code (torch)
``state``     what a checkpoint of a Lightning training holds besides Lightning's own (torch, Lightning)
``reading``   one of them in memory (torch, Lightning)
``loaders``   training loaders that can be saved within an epoch (Lightning)
``callback``  when a training is saved, and the way back (Lightning)
"""

from expflow.training.checkpoints.choice import Choice, adopt, choose
from expflow.training.checkpoints.folder import Manifest, found, verify

__all__ = ["Choice", "Manifest", "adopt", "choose", "found", "verify"]
