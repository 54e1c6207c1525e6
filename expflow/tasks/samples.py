"""What a task draws at each validation to be looked at: pictures, or rows of text.

A task draws where it has a method ``draw_samples(generator)``; nothing else is asked of it, so a LightningModule of the
user's may have one as well. ``generator`` is a ``torch.Generator`` of the CPU that begins anew with the same seed each
time, so that what is drawn differs by the weights alone. The method is called in eval mode, on rank 0 alone, and
returns one of

- (n, c, h, w) pictures of 1 or 3 channels, from 0 to 1;
- (rows, columns, c, h, w) such pictures that belong together row by row: original and reconstruction;
- one picture that is whole already, an array (height, width, 3) of uint8;
- a :class:`SampleTable`;
- None, where there is nothing to draw.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from expflow.errors import UserError

MOST_SAMPLES = 64
"""Images or sentences that a task keeps of the data as conditions of its samples, unless its key says fewer."""

SMALLEST_SIDE = 56
"""Pixels: smaller pictures are enlarged by a whole factor until their longer side has so many."""

GAP = 2
"""Pixels between two pictures."""

GREY = 128


@dataclass(frozen=True)
class SampleTable:
    """Samples that are text.

    Attributes:
        columns: The columns' names.
        rows: The rows, a text for each column.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def csv(self) -> str:
        """The table as comma-separated values, names of columns first."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows(self.rows)
        return text.getvalue()


def sample_grid(samples: Tensor) -> NDArray[np.uint8]:
    """Pictures side by side in one, (height, width) or (height, width, 3).

    Args:
        samples: (n, c, h, w), for about as many rows as columns, or (rows, columns, c, h, w); from 0 to 1.

    Raises:
        UserError: It is neither, or has other channels than 1 or 3.
    """
    if samples.ndim not in (4, 5) or samples.shape[-3] not in (1, 3) or 0 in samples.shape:
        raise UserError(
            f"draw_samples gave a tensor of shape {tuple(samples.shape)}; expected pictures (n, c, h, w), or rows of"
            " them (rows, columns, c, h, w), of 1 or 3 channels"
        )
    pixels = samples.detach().float().nan_to_num(0.0).clamp(0, 1).mul(255).round().to(torch.uint8).cpu()
    rows = pixels if pixels.ndim == 5 else _about_square(pixels)
    factor = max(1, math.ceil(SMALLEST_SIDE / max(rows.shape[-2:])))
    rows = rows.repeat_interleave(factor, -1).repeat_interleave(factor, -2)
    groups = max(1, round(math.sqrt(len(rows) / rows.shape[1])))  # of rows, side by side: a page is no ribbon
    missing = rows.new_full((-len(rows) % groups, *rows.shape[1:]), GREY)
    parts = torch.cat([rows, missing]).chunk(groups)
    grid = _joined([_joined([_joined(list(row), 2) for row in part], 1) for part in parts], 2, 4)
    array: NDArray[np.uint8] = grid.permute(1, 2, 0).numpy()
    return array[..., 0] if array.shape[2] == 1 else array


def _joined(pictures: list[Tensor], dim: int, gaps: int = 1) -> Tensor:
    """Pictures (c, h, w) side by side (``dim`` 2) or one below the other (1), with so many gaps between two."""
    shape = list(pictures[0].shape)
    shape[dim] = gaps * GAP
    gap = pictures[0].new_full(shape, GREY)
    return torch.cat([part for picture in pictures for part in (gap, picture)][1:], dim)


def _about_square(pixels: Tensor) -> Tensor:
    """(n, c, h, w) -> (rows, columns, c, h, w); what the last row lacks is grey."""
    columns = math.ceil(math.sqrt(len(pixels)))
    rows = -(-len(pixels) // columns)
    missing = pixels.new_full((rows * columns - len(pixels), *pixels.shape[1:]), GREY)
    return torch.cat([pixels, missing]).view(rows, columns, *pixels.shape[1:])


class FirstSamples:
    """The first valid samples of a validation, which stay the conditions of what is drawn.

    Validation has one order, so they are the same in each of them, and after a resume.

    Args:
        number: How many are kept.
        fields: The fields that are kept.
    """

    def __init__(self, number: int, *fields: str) -> None:
        self._number, self._fields = number, fields
        self._parts: list[dict[str, Tensor]] = []
        self._kept, self._following = 0, True

    def follow(self, batch: dict[str, Tensor], batch_idx: int) -> None:
        """Keep what is wanted of a batch of a validation; nothing once there are enough.

        Args:
            batch: With ``valid`` and the fields.
            batch_idx: Its number in its validation.
        """
        if batch_idx == 0:
            self._following = not self._kept  # another validation than the first one
        if not self._following or self._kept >= self._number:
            return
        chosen = batch["valid"].nonzero()[: self._number - self._kept, 0]
        self._parts.append({field: batch[field][chosen] for field in self._fields})
        self._kept += len(chosen)

    def field(self, name: str) -> Tensor | None:
        """What was kept of a field; None before there is anything.

        Args:
            name: The field.
        """
        return torch.cat([part[name] for part in self._parts]) if self._kept else None

    def batch(self) -> dict[str, Tensor] | None:
        """What was kept of all fields, as a batch without padding; None before there is anything."""
        if not self._kept:
            return None
        fields = {name: torch.cat([part[name] for part in self._parts]) for name in self._fields}
        device = fields[self._fields[0]].device
        return {**fields, "valid": torch.ones(self._kept, dtype=torch.bool, device=device)}


def drawn(value: Any) -> NDArray[np.uint8] | SampleTable | None:
    """What ``draw_samples`` returned, as it is written.

    Args:
        value: What it returned.

    Raises:
        UserError: It is none of what it may be.
    """
    if value is None or isinstance(value, SampleTable):
        return value
    if isinstance(value, Tensor):
        return sample_grid(value)
    if isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.ndim == 3 and value.shape[2] == 3:
        return value
    given = f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
    raise UserError(
        f"draw_samples gave {given}; expected a tensor of pictures, an array (height, width, 3) of uint8, a SampleTable"
        " or None"
    )
