"""Multi-class support vector loss."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from expflow.data.dataspec import DataSpec
from expflow.losses.specs import HingeSpec
from expflow.losses.targets import check_target


class Hinge(nn.Module):
    """L = sum over j != y of max(0, s_j - s_y + margin).

    Nothing is lost once the right score lies ``margin`` above every other. Scores 5, 4, 2 at margin 1: 0 where the
    first label is right, 2 for the second, 4 + 3 = 7 for the third. Torch's ``MultiMarginLoss`` divides it by the
    number of classes. Where the target are shares of several labels, it is the mean over labels by their shares.

    Args:
        margin: How far the right score must lie above every other.

    Source:
        Weston and Watkins 1999, "Support Vector Machines for Multi-Class Pattern Recognition", section 2.
    """

    def __init__(self, margin: float) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, scores_bc: Tensor, target: Tensor) -> Tensor:
        """(b, classes) scores and (b,) labels, or (b, classes) shares of labels, -> (b,) values."""
        check_target(target, scores_bc)
        if target.ndim == scores_bc.ndim:
            return (self._if_right(scores_bc, scores_bc) * target).sum(1)
        return self._if_right(scores_bc, scores_bc.gather(1, target[:, None])).squeeze(1)

    def _if_right(self, scores_bc: Tensor, right_bk: Tensor) -> Tensor:
        """(b, k): the loss of each sample if the score of the right class were each of ``right_bk``."""
        wrong_bkc = torch.relu(scores_bc[:, None, :] - right_bk[:, :, None] + self.margin)
        return wrong_bkc.sum(2) - self.margin  # the right class itself contributes exactly the margin


def build(spec: HingeSpec, data_spec: DataSpec) -> Hinge:
    """Multi-class hinge loss: (b, classes) scores and (b,) labels -> (b,) values.

    Args:
        spec: What the user chose.
        data_spec: Not used; every loss is built from the same arguments.
    """
    return Hinge(spec.margin)
