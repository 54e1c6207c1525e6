"""Means over the samples or pixels of an epoch, accumulated batch by batch on the device."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor

TOGETHER = 64
"""Batches that are added up at once: one by one, five small operations a step are some percent of a quick step."""


class MeanAccumulator:
    """What counts (samples, pixels), loss times these, and hits, summed over batches in double precision.

    Nothing waits for the device.

    Where batches are added up together depends on their number alone, so a sum that was saved and restored goes on bit
    for bit.
    """

    def __init__(self) -> None:
        self._total: Tensor | None = None
        self._rows: list[list[Tensor]] = []

    def add(self, samples: Tensor, loss: Tensor, *hits: Tensor) -> None:
        """Adds one batch.

        Args:
            samples: (), how many samples count.
            loss: (), their mean loss.
            hits: (), how many of them are hits, for each kind of hit; or, as the last one, (k,) several counts.
        """
        self._rows.append([samples, loss, *hits])
        if len(self._rows) == TOGETHER:
            self._add_up()

    @torch.no_grad()
    def _add_up(self) -> None:
        samples, loss, *hits = (torch.stack(column).double() for column in zip(*self._rows, strict=True))
        several = hits.pop() if hits and hits[-1].ndim == 2 else None
        sums = torch.stack([samples, loss * samples, *hits]).sum(1)
        if several is not None:
            sums = torch.cat([sums, several.sum(0)])
        self._total = sums if self._total is None else self._total + sums
        self._rows = []

    def total(self) -> Tensor | None:
        """(2 + number of hits,): the sums of samples, of loss times samples, and of hits; None without a batch."""
        if self._rows:
            self._add_up()
        return self._total

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs to go on adding."""
        return {"total": self._total, "rows": [list(row) for row in self._rows]}

    @classmethod
    def from_state_dict(cls, state: dict[str, Any], device: torch.device) -> Self:
        """The accumulator that a state was taken from.

        Args:
            state: What :meth:`state_dict` returned.
            device: Where its sums go on.
        """
        restored, total = cls(), state["total"]
        restored._total = None if total is None else total.to(device)
        restored._rows = [[value.to(device) for value in row] for row in state["rows"]]
        return restored
