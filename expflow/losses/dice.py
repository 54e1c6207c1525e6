"""Dice loss: how little a predicted area overlaps with the true one."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from expflow.data.dataspec import DataSpec
from expflow.errors import UserError
from expflow.losses.focal import FocalLoss, mean_cross_entropy, per_image
from expflow.losses.specs import DiceSpec
from expflow.losses.targets import IGNORED


class DiceLoss(nn.Module):
    """1 - mean over classes of (2 sum p t + s) / (sum p + sum t + s), sums over the pixels of an image that count.

    Args:
        spec: Smoothing, and weights of other losses.
    """

    def __init__(self, spec: DiceSpec) -> None:
        super().__init__()
        self._spec, self._focal = spec, FocalLoss(2.0)

    def forward(self, scores_bchw: Tensor, target_bhw: Tensor) -> Tensor:
        """(b, classes, h, w) scores and (b, h, w) labels, -100 where they count for nothing, -> (b,) values."""
        if scores_bchw.ndim != target_bhw.ndim + 1 or scores_bchw.ndim < 3:
            raise UserError(
                f"loss dice compares areas: scores (b, classes, h, w) with labels (b, h, w), found"
                f" {tuple(scores_bchw.shape)} and {tuple(target_bhw.shape)}; it is for the task segmentation"
            )
        counted_bhw = target_bhw != IGNORED
        p = scores_bchw.softmax(1) * counted_bhw[:, None]
        true = functional.one_hot(target_bhw.masked_fill(~counted_bhw, 0), scores_bchw.shape[1]).movedim(-1, 1)
        true = true.to(p.dtype) * counted_bhw[:, None]
        both, sizes = ((p * true).flatten(2).sum(2), (p + true).flatten(2).sum(2))
        values = 1 - ((2 * both + self._spec.smooth) / (sizes + self._spec.smooth)).mean(1)
        if self._spec.cross_entropy:
            values = values + self._spec.cross_entropy * mean_cross_entropy(scores_bchw, target_bhw)
        if self._spec.focal:
            values = values + self._spec.focal * per_image(self._focal(scores_bchw, target_bhw), target_bhw)
        return values


def build(spec: DiceSpec, data_spec: DataSpec) -> DiceLoss:
    """(b, classes, h, w) scores and (b, h, w) labels -> (b,) values, one for each image.

    Args:
        spec: What the user chose.
        data_spec: Not used; every loss is built from the same arguments.

    Source:
        Sudre et al. 2017, "Generalised Dice overlap as a deep learning loss function", equation 2, for several classes.
    """
    return DiceLoss(spec)
