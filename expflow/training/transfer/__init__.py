"""Transfer learning: what the key ``init`` means to a training. Importing this imports neither torch nor Lightning.

``source``   the weights that a trial begins with, as files and their sha256
``weights``  those files read, and put into a network that they fit (torch)
``freezing`` what is not trained, and until when (torch, Lightning)
``features`` what a frozen backbone gives for each image, computed once (torch)
``probe``    the head alone, trained on those features (torch, Lightning)
``check``    what of a recipe's ``init`` its network does not bear out, before anything is started (torch)
"""

from expflow.training.transfer.source import Pretrained

__all__ = ["Pretrained"]
