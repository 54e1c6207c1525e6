"""What a network may give besides a tensor of scores."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class WithAuxiliary(NamedTuple):
    """Scores of a network in train mode, and those of its auxiliary classifiers, which only help it learn.

    In eval mode such a network gives its scores alone. The task classification adds the auxiliary losses, weighted;
    a network of the user's may give this as well.

    Attributes:
        logits: Scores (b, classes).
        auxiliary: Scores (b, classes) of each auxiliary classifier.
    """

    logits: Tensor
    auxiliary: tuple[Tensor, ...]
