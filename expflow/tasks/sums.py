"""Sums over the batches of an epoch, kept on the device."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor

TOGETHER = 64
"""Batches that are added up at once: one by one, five small operations a step are some percent of a quick step."""


class Sums:
    """Samples, loss times samples, and hits, summed over batches in double precision; nothing waits for the device.

    Where batches are added up together depends on their number alone, so a sum that was saved and restored goes on bit
    for bit.
    """

    def __init__(self) -> None:
        self._total: Tensor | None = None
        self._rows: list[list[Tensor]] = []

    def add(self, samples: Tensor, loss: Tensor, *hits: Tensor) -> None:
        """One batch: how many samples count, their mean loss, and how many of them are hits of each kind. All ()."""
        self._rows.append([samples, loss, *hits])
        if len(self._rows) == TOGETHER:
            self._settle()

    @torch.no_grad()
    def _settle(self) -> None:
        samples, loss, *hits = (torch.stack(column).double() for column in zip(*self._rows, strict=True))
        sums = torch.stack([samples, loss * samples, *hits]).sum(1)
        self._total = sums if self._total is None else self._total + sums
        self._rows = []

    def total(self) -> Tensor | None:
        """(2 + kinds of hits,) the sums; None where no batch was added."""
        if self._rows:
            self._settle()
        return self._total

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs to go on adding."""
        return {"total": self._total, "rows": [list(row) for row in self._rows]}

    @classmethod
    def of(cls, state: dict[str, Any], device: torch.device) -> Self:
        """What :meth:`state_dict` was taken from."""
        made, total = cls(), state["total"]
        made._total = None if total is None else total.to(device)
        made._rows = [[each.to(device) for each in row] for row in state["rows"]]
        return made
