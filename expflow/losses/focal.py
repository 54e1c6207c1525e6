"""Focal loss: cross-entropy that attends to what is still wrong."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from expflow.data.dataspec import DataSpec
from expflow.losses.cross_entropy import weights_of_classes
from expflow.losses.specs import FocalSpec
from expflow.losses.targets import IGNORED, check_target


class FocalLoss(nn.Module):
    """FL = -w_y (1 - p_y)^gamma log p_y.

    Args:
        gamma: The exponent.
        weight: (classes,) w; None for 1.
    """

    weight: Tensor | None

    def __init__(self, gamma: float, weight: Tensor | None = None) -> None:
        super().__init__()
        self.gamma = gamma
        self.register_buffer("weight", weight)

    def forward(self, scores: Tensor, target: Tensor) -> Tensor:
        """(b, classes, …) scores and (b, …) labels, or (b, classes) shares, -> (b, …) values; 0 where it is -100."""
        log_p = scores.log_softmax(1)
        losses = -((1 - log_p.exp()) ** self.gamma) * log_p
        if self.weight is not None:
            losses = losses * self.weight.view(1, -1, *[1] * (scores.ndim - 2))
        if scores.ndim == 2:
            check_target(target, scores)
        if target.ndim == scores.ndim:
            return (losses * target).sum(1)
        ignored = target == IGNORED
        values = losses.gather(1, target.masked_fill(ignored, 0)[:, None])[:, 0]
        return values.masked_fill(ignored, 0)


def build(spec: FocalSpec, data_spec: DataSpec) -> FocalLoss:
    """(b, classes, …) scores and (b, …) labels -> (b, …) values.

    Scores 5, 4, 2 with the first label: p = 0.70538, loss at gamma 2 (1 - p)^2 0.34901 = 0.030292.

    Args:
        spec: What the user chose.
        data_spec: The data, whose number of classes the weights must have.

    Raises:
        UserError: There are not as many class weights as classes.

    Source:
        Lin et al. 2017, "Focal Loss for Dense Object Detection", equation 5.
    """
    return FocalLoss(spec.gamma, weights_of_classes(spec.class_weights, data_spec))


def per_image(values: Tensor, target: Tensor) -> Tensor:
    """(b, …) values of pixels -> (b,) their means over the pixels that count.

    Args:
        values: The values, 0 where the target is -100.
        target: (b, …) labels.
    """
    counted = (target != IGNORED).flatten(1).sum(1).clamp(min=1)
    return values.flatten(1).sum(1) / counted


def mean_cross_entropy(scores: Tensor, target: Tensor) -> Tensor:
    """(b, classes, …) scores and (b, …) labels -> (b,) means of the cross-entropy over the pixels that count.

    Args:
        scores: The scores.
        target: The labels, -100 where they count for nothing.
    """
    return per_image(functional.cross_entropy(scores, target, reduction="none", ignore_index=IGNORED), target)
