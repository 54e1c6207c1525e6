"""Targets in the form that a loss needs."""

from __future__ import annotations

import torch
from torch import Tensor


def one_hot(target: Tensor, scores_bc: Tensor) -> Tensor:
    """(b,) labels -> (b, classes) with 1 at the label and 0 elsewhere, as numbers of the kind that the scores are.

    A target that is already (b, classes), such as the shares of a mixed image, stays as it is.
    """
    if target.ndim == scores_bc.ndim:
        return target.to(scores_bc.dtype)
    return torch.nn.functional.one_hot(target, scores_bc.shape[1]).to(scores_bc.dtype)
