"""Rows of all ranks, through which gradients find their way back to the rank that they are of."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _Gathering(torch.autograd.Function):
    """Forward: the rows of all ranks. Backward: the gradients that all ranks have for this one's rows, summed."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.rows = len(rows)
        parts = [torch.empty_like(rows) for _ in range(torch.distributed.get_world_size())]
        torch.distributed.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Tensor:
        total = gradients[0].contiguous()
        torch.distributed.all_reduce(total)
        begin = torch.distributed.get_rank() * ctx.rows
        own: Tensor = total[begin : begin + ctx.rows]
        return own


def gathered_with_gradients(rows: Tensor) -> Tensor:
    """(n, …) of this rank -> (ranks * n, …) of all, those of rank 0 first. All ranks have to call it, with equal n.

    The gradient of a rank's rows is the sum of what all ranks' losses say of them.

    Args:
        rows: This rank's.
    """
    gathered: Tensor = _Gathering.apply(rows)
    return gathered
