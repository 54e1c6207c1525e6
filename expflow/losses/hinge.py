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
    number of classes.
    """

    def __init__(self, margin: float) -> None:
        super().__init__()
        self.margin = margin

    def forward(self, scores_bc: Tensor, label_b: Tensor) -> Tensor:
        """(b, classes) scores and (b,) labels -> (b,) values."""
        right_b1 = scores_bc.gather(1, label_b[:, None])
        wrong_bc = torch.relu(scores_bc - right_b1 + self.margin)
        return wrong_bc.sum(1) - self.margin  # the right class itself contributes exactly the margin


def build(spec: specs.Hinge, data_spec: DataSpec) -> Hinge:
    """The loss of ``spec``."""
    return Hinge(spec.margin)
