"""Losses of regression, used on classes: how far the scores lie from the one-hot target.

All are sums over the classes, the squared Euclidean norm first of all; torch's losses of these names divide by their
number.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from expflow.data.dataspec import DataSpec
from expflow.losses.specs import L1Spec, SmoothL1Spec, SquaredSpec
from expflow.losses.targets import one_hot


class Distance(nn.Module):
    """L = sum_c d(s_c - y_c) for a distance d per class.

    Args:
        elementwise: (scores, targets), both (b, classes) -> the distance d of each.
    """

    def __init__(self, elementwise: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.elementwise = elementwise

    def forward(self, scores_bc: Tensor, target: Tensor) -> Tensor:
        """(b, classes) scores and (b,) labels, or (b, classes) targets, -> (b,) values."""
        return self.elementwise(scores_bc, one_hot(target, scores_bc)).sum(1)


def build_squared(spec: SquaredSpec, data_spec: DataSpec) -> Distance:
    """L = ||s - y||^2: (b, classes) scores and (b,) labels -> (b,) values.

    Scores 0.5, 2, -1 with the second label: 0.25 + 1 + 1 = 2.25.

    Args:
        spec: What the user chose.
        data_spec: Not used; every loss is built from the same arguments.

    Source:
        Gauss 1809, "Theoria motus corporum coelestium".
    """
    return Distance(nn.MSELoss(reduction="none"))


def build_l1(spec: L1Spec, data_spec: DataSpec) -> Distance:
    """L = sum_c |s_c - y_c|: (b, classes) scores and (b,) labels -> (b,) values.

    Scores 0.5, 2, -1 with the second label: 0.5 + 1 + 1 = 2.5.

    Args:
        spec: What the user chose.
        data_spec: Not used; every loss is built from the same arguments.

    Source:
        Laplace 1774.
    """
    return Distance(nn.L1Loss(reduction="none"))


def build_smooth_l1(spec: SmoothL1Spec, data_spec: DataSpec) -> Distance:
    """d(t) = t^2 / (2 beta) where |t| < beta, else |t| - beta / 2, summed over classes.

    (b, classes) scores and (b,) labels -> (b,) values. Scores 0.5, 2, -1 with the second label at beta 1: 0.125 + 0.5
    + 0.5 = 1.125.

    Args:
        spec: What the user chose.
        data_spec: Not used; every loss is built from the same arguments.

    Source:
        Girshick 2015, "Fast R-CNN", equation 3, with beta 1.
    """
    return Distance(nn.SmoothL1Loss(beta=spec.beta, reduction="none"))
