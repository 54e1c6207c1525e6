"""How predicted masks of objects overlap with the true ones."""

from __future__ import annotations

import torch
from torch import Tensor

from expflow.data.kinds.boxes import is_crowd


def instance_ious(masks: Tensor, instances: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Overlaps of predicted masks with the objects of an image (m, k), and the predicted masks' pixels (m,).

    At a crowd the overlap is the share of the predicted mask that lies in it.

    Args:
        masks: (m, pixels) bool.
        instances: (pixels,) which box each pixel is of, from 1; 0 is none.
        labels: (k,) of the boxes, as in batches.
    """
    true = instances[None] == torch.arange(1, len(labels) + 1, device=labels.device)[:, None]
    shared = masks.float() @ true.float().T
    areas, true_areas = masks.sum(1).float(), true.sum(1).float()
    union = torch.where(is_crowd(labels)[None], areas[:, None], areas[:, None] + true_areas[None] - shared)
    return shared / union.clamp(min=1), areas
