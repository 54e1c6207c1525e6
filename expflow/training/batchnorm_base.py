"""The common base class of torch's batch norms, whose name in torch is private.

It is the only way to find the batch norms of any network: torch has no public class or function for it, its own
``convert_sync_batchnorm`` and ``update_bn`` ask for this class, and a list of the public ones would miss subclasses of
the base in a user's network. Everything of expflow imports it from here; ``tests/training/test_batchnorm_base.py``
notices when it is no longer the base of all of them.
"""

from torch.nn.modules.batchnorm import _BatchNorm

BatchNormBase = _BatchNorm
"""Base of ``BatchNorm1d``, ``2d`` and ``3d``, their lazy forms and ``SyncBatchNorm``."""
