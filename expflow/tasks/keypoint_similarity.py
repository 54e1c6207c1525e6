"""How near predicted points of objects are to the true ones: COCO's object keypoint similarity (OKS)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from expflow.data.keypoint_layout import PERSON, KeypointLayout
from expflow.errors import UserError

PERSON_SIGMAS = tuple(part / 1000 for part in (26, 25, 25, 35, 35, 79, 79, 72, 72, 62, 62, 107, 107, 87, 87, 89, 89))
"""COCO's for its 17 points of a person, measured on what several people marked in the same images."""

USUAL_SIGMA = 0.05
"""Of points of anything else, where the task says nothing: about the mean of COCO's on heads and arms."""


def sigmas_of(layout: KeypointLayout, given: Sequence[float]) -> tuple[float, ...]:
    """How far each point may be off: a standard deviation as a share of the root of the object's area.

    Args:
        layout: Which points they are.
        given: What the task says: one for all, one for each, or nothing for COCO's where they are COCO's of a person,
            and :data:`USUAL_SIGMA` otherwise.

    Raises:
        UserError: They are neither one nor as many as there are points.
    """
    count = len(layout.names)
    if not given:
        return PERSON_SIGMAS if layout.names == PERSON else (USUAL_SIGMA,) * count
    if len(given) not in (1, count):
        raise UserError(
            f"task.keypoint_sigmas: expected one number for all points, or one for each of the {count}"
            f" ({', '.join(layout.names)}), found {len(given)}"
        )
    return tuple(given) * (count if len(given) == 1 else 1)


def keypoint_similarities(
    points: Tensor, true: Tensor, boxes: Tensor, areas: Tensor, scale: Tensor, sigmas: Sequence[float]
) -> Tensor:
    """The similarity of each prediction with each object, (d, k), from 0 to 1: the mean over the object's known points.

    Of an object without a known point it is that of points that count for nothing as long as they lie within twice its
    box.

    Args:
        points: (d, p, 3) predicted x and y; what stands behind them is not used.
        true: (k, p, 3) x, y and visibility.
        boxes: (k, 4) of the objects.
        areas: (k,) of the objects, in pixels of the original image.
        scale: () pixels of the original image that a pixel of this one is wide.
        sigmas: (p,) how far each point may be off.

    Source:
        Lin et al. 2014, "Microsoft COCO: Common Objects in Context", and its evaluation code.
    """
    known = true[..., 2] > 0
    apart = points[:, None, :, :2] - true[None, ..., :2]
    low, high = boxes[:, None, :2], boxes[:, None, 2:]
    sides = high - low
    places = points[:, None, :, :2]
    beyond = ((low - sides) - places).clamp(min=0) + (places - (high + sides)).clamp(min=0)
    none_known = ~known.any(1)
    apart = torch.where(none_known[:, None, None], beyond, apart) * scale
    variances = 2 * (2 * apart.new_tensor(sigmas)) ** 2
    errors = apart.square().sum(-1) / variances / (areas[:, None] + torch.finfo(torch.float64).eps)
    counted = known | none_known[:, None]
    return (torch.exp(-errors) * counted).sum(-1) / counted.sum(-1)
