"""What tasks share whose networks give one vector for each image."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from expflow.architectures.outputs import WithAuxiliary
from expflow.data.dataspec import VOID
from expflow.errors import UserError
from expflow.tasks.base import at_least_single


def checked_vector(output: Any, samples: int, width: int, what: str) -> Tensor:
    """The (b, width) tensor that a network gave, at least in single precision.

    Args:
        output: What the network gave.
        samples: b, how many images it was given.
        width: How many numbers each is to have.
        what: What they are, for the message.

    Raises:
        UserError: It is something else.
    """
    output = output.logits if isinstance(output, WithAuxiliary) else output
    if not isinstance(output, Tensor) or output.shape != (samples, width):
        given = f"shape {tuple(output.shape)}" if isinstance(output, Tensor) else f"type {type(output).__name__}"
        raise UserError(
            f"the network gives an output of {given} for {samples} images; expected a tensor of shape"
            f" ({samples}, {width}), {what}"
        )
    return at_least_single(output)


def mean_over_valid(loss: Any, output: Tensor, target: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Mean loss over the valid samples (), and their number ().

    Args:
        loss: (output, target) -> (b,) values, (b, k) values or their mean.
        output: (b, k).
        target: (b, k) or (b,).
        valid: (b,), false for padding.
    """
    values = loss(output, target)
    samples = valid.sum()
    if values.ndim == 0:  # a loss of the user's that averages by itself: padding must not reach it
        return loss(output[valid], target[valid]), samples
    if values.ndim == 2:
        values = values.sum(1)
    return torch.where(valid, values, 0).sum() / samples.clamp(min=1), samples


def answered(scores_bc: Tensor, labels_bc: Tensor) -> tuple[Tensor, Tensor]:
    """Scores and targets of a binary loss, in which an answer that is not known is right beyond doubt.

    So it adds nothing to a loss of logits (with label smoothing a constant), and has no gradient.

    Args:
        scores_bc: (b, classes) scores.
        labels_bc: (b, classes) uint8: 1, 0, or 255 where it is not known.

    Returns:
        Both (b, classes), the targets in the scores' type.
    """
    unknown = labels_bc == VOID
    return scores_bc.masked_fill(unknown, SURE), labels_bc.masked_fill(unknown, 1).to(scores_bc.dtype)


SURE = 30.0
"""A score whose sigmoid is 1 in single precision."""


class EpochScores:
    """Scores and labels of the samples of an epoch, kept on the device batch by batch."""

    def __init__(self) -> None:
        self._scores: list[Tensor] = []
        self._labels: list[Tensor] = []

    def add(self, scores_bc: Tensor, labels_bc: Tensor, valid_b: Tensor) -> None:
        """Keeps a batch; padding is kept as not known, so that nothing waits for the device.

        Args:
            scores_bc: (b, classes).
            labels_bc: (b, classes) uint8.
            valid_b: (b,), false for padding.
        """
        self._scores.append(scores_bc.detach())
        self._labels.append(labels_bc.masked_fill(~valid_b[:, None], VOID))

    def gathered(self) -> tuple[Tensor, Tensor]:
        """(n, classes) scores and labels of all ranks. All ranks have to call it, each with a batch or more."""
        return gathered_rows(torch.cat(self._scores)), gathered_rows(torch.cat(self._labels))


def gathered_rows(rows: Tensor) -> Tensor:
    """Rows of all ranks, those of rank 0 first; ranks may have different numbers. All have to call it.

    Args:
        rows: (n, …) this rank's, on its device.
    """
    if not torch.distributed.is_initialized() or torch.distributed.get_world_size() == 1:
        return rows
    return _over_ranks(rows, 0)


def _over_ranks(rows: Tensor, fill: float) -> Tensor:
    """Rows of all ranks, which may have different numbers of them."""
    ranks = torch.distributed.get_world_size()
    lengths = [torch.zeros(1, dtype=torch.int64, device=rows.device) for _ in range(ranks)]
    torch.distributed.all_gather(lengths, torch.tensor([len(rows)], device=rows.device))
    longest = int(torch.stack(lengths).max())
    padded = rows.new_full((longest, *rows.shape[1:]), fill)
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in range(ranks)]
    torch.distributed.all_gather(parts, padded)
    return torch.cat([part[: int(length)] for part, length in zip(parts, lengths, strict=True)])
