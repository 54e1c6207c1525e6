"""Targets in the form that a loss needs."""

from __future__ import annotations

import torch
from torch import Tensor

from expflow.errors import UserError

IGNORED = -100
"""The class of a pixel that no loss counts, as torch's losses have it."""


def check_target(target: Tensor, scores_bc: Tensor) -> None:
    """Refuses targets that do not fit the scores, which broadcasting would make something else of.

    Args:
        target: (b,) labels, or (b, classes) shares of labels.
        scores_bc: (b, classes) scores.

    Raises:
        UserError: The target has neither of these shapes.
    """
    if target.shape not in (scores_bc.shape[:1], scores_bc.shape):
        raise UserError(
            f"labels of shape {tuple(target.shape)} do not fit scores of shape {tuple(scores_bc.shape)}; expected one"
            " label for each sample, or its shares of all classes"
        )


def one_hot(target: Tensor, scores_bc: Tensor) -> Tensor:
    """(b,) labels -> (b, classes) with 1 at the label and 0 elsewhere, of the scores' dtype.

    Args:
        target: (b,) labels; or (b, classes) shares, such as those of a mixed image, which only change their dtype.
        scores_bc: (b, classes) scores.

    Raises:
        UserError: The target does not fit the scores; from :func:`check_target`.
    """
    check_target(target, scores_bc)
    if target.ndim == scores_bc.ndim:
        return target.to(scores_bc.dtype)
    return torch.nn.functional.one_hot(target, scores_bc.shape[1]).to(scores_bc.dtype)
