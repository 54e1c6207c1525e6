"""Batch norms that take their statistics over the samples of all ranks, as one rank would (``sync_batchnorm``)."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from expflow.training.batchnorm_base import BatchNormBase
from expflow.training.contract import World


def convert_batch_norms(module: nn.Module, world: World) -> None:
    """Replace the batch norms of a module, in place; names and weights stay. One rank needs nothing.

    On GPUs they become torch's SyncBatchNorm, which does not run on CPUs: there they become :class:`CpuSyncBatchNorm`.

    Args:
        module: The module whose children are replaced, at every depth.
        world: This rank's place among the trial's ranks.
    """
    if world.ranks == 1:
        return
    for name, child in list(module.named_children()):
        if isinstance(child, BatchNormBase) and not isinstance(child, nn.SyncBatchNorm):
            convert: Any = nn.SyncBatchNorm.convert_sync_batchnorm if world.gpus else CpuSyncBatchNorm.of
            setattr(module, name, convert(child))
        else:
            convert_batch_norms(child, world)


class CpuSyncBatchNorm(BatchNormBase):
    """Batch norm (Ioffe and Szegedy 2015) over the samples of all ranks, in plain operations.

    Mean and variance are each added up over the ranks, one after the other, which loses no digits to a difference of
    squares.
    """

    @classmethod
    def of(cls, norm: BatchNormBase) -> CpuSyncBatchNorm:
        """A batch norm with statistics over all ranks, which shares weights and running statistics with another.

        Args:
            norm: The batch norm of one rank that it takes the place of.
        """
        converted = cls(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        converted.weight, converted.bias = norm.weight, norm.bias
        converted.running_mean, converted.running_var = norm.running_mean, norm.running_var
        converted.num_batches_tracked = norm.num_batches_tracked
        return converted.train(norm.training)

    def _check_input_dim(self, input: Tensor) -> None:
        """Any input (b, c, …) is taken."""

    def forward(self, input: Tensor) -> Tensor:
        """(b, c, …) -> the same shape."""
        if not self.training:
            return super().forward(input)
        over = [0, *range(2, input.ndim)]
        shape = [1, -1, *[1] * (input.ndim - 2)]
        sums_and_count = torch.cat([input.sum(over), input.new_tensor([input.numel() / input.shape[1]])])
        total = _summed(sums_and_count)
        count = total[-1].detach()
        mean = total[:-1] / count
        centred = input - mean.view(shape)
        variance = _summed(centred.square().sum(over)) / count
        self._update_statistics(mean.detach(), variance.detach(), count)
        normed = centred * torch.rsqrt(variance + self.eps).view(shape)
        if not self.affine:
            return normed
        return normed * self.weight.view(shape) + self.bias.view(shape)

    @torch.no_grad()
    def _update_statistics(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        share = 1 / self.num_batches_tracked.to(mean.dtype) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance * (count / (count - 1).clamp(min=1)), share)


class _Summed(torch.autograd.Function):
    """The sum over ranks; so the gradient is the sum of all ranks' gradients."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return _over_ranks(value)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _over_ranks(gradients[0])


def _summed(value: Tensor) -> Tensor:
    total: Tensor = _Summed.apply(value)
    return total


def _over_ranks(value: Tensor) -> Tensor:
    total = value.clone()
    dist.all_reduce(total)
    return total
