"""Multi-class support vector loss."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from expflow.data.dataspec import DataSpec
from expflow.losses import specs


class Hinge(nn.Module):
    """L = sum over j != y of max(0, s_j - s_y + margin) (Weston and Watkins 1999, section 2).

    Nothing is lost once the right score lies ``margin`` above every other. Scores 5, 4, 2 at margin 1: 0 where the
    first label is right, 2 for the second, 4 + 3 = 7 for the third. Torch's ``MultiMarginLoss`` divides it by the
    number of classes. Where the target are shares of several labels, it is the mean over labels by their shares.
    """

    def __init__(self, margin: float) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, scores_bc: Tensor, target: Tensor) -> Tensor:
        """(b, classes) scores and (b,) labels, or (b, classes) shares of labels, -> (b,) values."""
        if target.ndim == scores_bc.ndim:
            return (self._of_each(scores_bc, scores_bc) * target).sum(1)
        return self._of_each(scores_bc, scores_bc.gather(1, target[:, None])).squeeze(1)

    def _of_each(self, scores_bc: Tensor, right_bk: Tensor) -> Tensor:
        """The loss of each sample if the score of the right class were each of ``right_bk``; (b, k)."""
        wrong_bkc = torch.relu(scores_bc[:, None, :] - right_bk[:, :, None] + self.margin)
        return wrong_bkc.sum(2) - self.margin  # the right class itself contributes exactly the margin


def build(spec: specs.Hinge, data_spec: DataSpec) -> Hinge:
    """The loss of ``spec``."""
    return Hinge(spec.margin)
