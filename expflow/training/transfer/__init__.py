"""Transfer learning: what the key ``init`` means to a training. Importing this imports neither torch nor Lightning.

``pretrained``     the weights that a trial begins with, as files and their sha256
``weight_loading`` those files read, and put into a network that they fit (torch)
``freezing``       what is not trained, and until when (torch, Lightning)
``probe_features`` features of a frozen backbone, computed once for each image; the head is trained on them (torch)
``init_check``     where a recipe's ``init`` does not fit its network, before anything is started (torch)
"""

from expflow.training.transfer.pretrained import PretrainedWeights

__all__ = ["PretrainedWeights"]
