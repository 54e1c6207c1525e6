"""Receptive fields: the windows that operations move over feature maps, and what each position sees of the image.

Both are read from torch's own operations while a network runs, so that it does not matter in which way the network
calls them. Sizes are pairs (height, width) in pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field
from typing import Any, Literal

import torch
from torch import Tensor

Pair = tuple[int, int]
Point = tuple[float, float]

aten: Any = torch.ops.aten
CONVOLUTIONS = (aten.convolution,)
WINDOW_POOLS = (aten.max_pool2d_with_indices, aten.avg_pool2d)
ADAPTIVE_POOLS = (aten._adaptive_avg_pool2d, aten.adaptive_max_pool2d)
REDUCTIONS = (aten.mean, aten.amax, aten.sum)
VIEWS = (aten.view, aten._unsafe_view, aten.reshape, aten.squeeze, aten.unsqueeze, aten.expand)
TURNS = (aten.permute, aten.transpose)
PRODUCTS = (aten.mm, aten.addmm)
MIXING = (
    *(aten.bmm, aten.baddbmm, aten.roll, aten.index, aten.unfold, aten.im2col, aten.grid_sampler_2d),
    *(aten.upsample_nearest2d, aten.upsample_bilinear2d, aten.upsample_bicubic2d),
    *(aten._scaled_dot_product_flash_attention_for_cpu, aten._scaled_dot_product_efficient_attention),
)
"""After these a position may see any other."""


@dataclass(frozen=True)
class SlidingWindow:
    """The window that a convolution or a pool moves over a map.

    Attributes:
        kernel: Its size.
        stride: Pixels between two positions.
        padding: Pixels added around the map.
        groups: Groups of the convolution.
        dilation: Pixels between two values of the kernel.
        pool_ops: Values that a pool reads; 0 for a convolution.
    """

    kernel: Pair
    stride: Pair
    padding: Pair
    groups: int = 1
    dilation: Pair = (1, 1)
    pool_ops: int = 0


def _pair(values: Sequence[int], otherwise: Sequence[int] = ()) -> Pair:
    values = list(values) or list(otherwise)
    return (values[0], values[-1])


def window_of(op: Any, args: Sequence[Any], out: Any) -> SlidingWindow | None:
    """The window of one operation on a map (b, c, h, w).

    Args:
        op: The operation, such as ``torch.ops.aten.convolution``.
        args: Its positional arguments.
        out: What it returned.

    Returns:
        None for an operation that moves no window over a map.
    """
    first = out[0] if isinstance(out, tuple | list) and out else out
    if op in CONVOLUTIONS and args[1].ndim == 4 and not args[6]:
        kernel = _pair(args[1].shape[2:])
        return SlidingWindow(kernel, _pair(args[3]), _pair(args[4]), groups=args[8], dilation=_pair(args[5]))
    if op in WINDOW_POOLS:
        kernel = _pair(args[1])
        stride = _pair(args[2] if len(args) > 2 else (), kernel)
        padding = _pair(args[3] if len(args) > 3 else (0,))
        return SlidingWindow(kernel, stride, padding, pool_ops=first.numel() * math.prod(kernel))
    if op in ADAPTIVE_POOLS:
        return _adaptive(args[0], first)
    if op in REDUCTIONS and _is_over_the_map(args):
        return SlidingWindow(_pair(args[0].shape[2:]), (1, 1), (0, 0), pool_ops=args[0].numel())
    return None


def _adaptive(x_bchw: Tensor, out_bchw: Tensor) -> SlidingWindow:
    """Adaptive pooling as the window it comes to; a map that has the size already is left as it is, at no cost."""
    sizes = list(zip(x_bchw.shape[2:], out_bchw.shape[2:], strict=True))
    strides = [max(into // out, 1) for into, out in sizes]
    kernels = [max(into - (out - 1) * stride, 1) for (into, out), stride in zip(sizes, strides, strict=True)]
    pool_ops = out_bchw.numel() * math.prod(kernels) if x_bchw.shape != out_bchw.shape else 0
    return SlidingWindow(_pair(kernels), _pair(strides), (0, 0), pool_ops=pool_ops)


def _is_over_the_map(args: Sequence[Any]) -> bool:
    if len(args) < 2 or not isinstance(args[1], list | tuple) or args[0].ndim != 4:
        return False
    return sorted(dim % 4 for dim in args[1]) == [2, 3]


@dataclass(frozen=True)
class ReceptiveField:
    """What one position of a tensor sees of the image.

    It is that of the windows: what normalisation learns from the whole map is left out, and it may reach over the
    image's border (into the padding). A position that sees a whole map, after global pooling of any kind and in layers
    on the flattened map, is said to see no more than the image.

    Attributes:
        field: Pixels that the position sees.
        jump: By how many pixels what its neighbour sees is further on.
        layout: Where the positions are: ``chw`` (b, c, h, w), ``hwc`` (b, h, w, c) or its rows (b h w, c), and
            ``vector`` (b, n) for one position alone.
        start: The middle of what the first position sees, in pixels from that of the image's first pixel.
    """

    field: Pair
    jump: Pair = (1, 1)
    layout: Literal["chw", "hwc", "vector"] = "chw"
    start: Point = dataclass_field(default=(0.0, 0.0), compare=False)

    def box(self, row: int, column: int) -> tuple[int, int, int, int]:
        """Top, left, bottom and right (ends excluded) of what a position sees; it may reach over the image's border.

        Args:
            row: The position's row in its map.
            column: Its column.
        """
        middle = [start + at * jump for start, at, jump in zip(self.start, (row, column), self.jump, strict=True)]
        top, left = (math.floor(m - (f - 1) / 2 + 0.5) for m, f in zip(middle, self.field, strict=True))
        return top, left, top + self.field[0], left + self.field[1]


ImageInputs = Sequence[tuple[Tensor, ReceptiveField | None]]
"""Inputs of an operation that depend on the image, with their receptive fields; None where one is not known."""


def receptive_field_after(
    op: Any, args: Sequence[Any], seen: ImageInputs, out: Tensor, image: Pair
) -> ReceptiveField | None:
    """The receptive field of what an operation returned.

    Args:
        op: The operation, such as ``torch.ops.aten.convolution``.
        args: Its positional arguments.
        seen: Those of its inputs that depend on the image, with their receptive fields.
        out: What it returned.
        image: Size of the image.

    Returns:
        None where it cannot be told, as after attention.
    """
    known = [(x, receptive) for x, receptive in seen if receptive is not None]
    if len(known) < len(seen) or op in MIXING:
        return None
    source, receptive = max(known, key=lambda pair: pair[0].ndim)
    window = window_of(op, args, out)
    if op in REDUCTIONS and receptive.layout != "vector":
        return _reduced(receptive, source, args, out, image)
    if op in (*WINDOW_POOLS, *ADAPTIVE_POOLS) and out.numel() == math.prod(source.shape[:2]):
        return _seeing_all(receptive, _pair(source.shape[2:]), out, image) if receptive.layout == "chw" else None
    if op in (*CONVOLUTIONS, *WINDOW_POOLS, *ADAPTIVE_POOLS):
        return _through(receptive, window) if window is not None and receptive.layout == "chw" else None
    if op in VIEWS:
        return _reshaped(receptive, source, out, image)
    if op in TURNS:
        return _turned(receptive, op, args, out)
    if op in PRODUCTS:
        return receptive if receptive.layout != "chw" else None
    return _widest([other for _, other in known], receptive)


def _through(receptive: ReceptiveField, window: SlidingWindow) -> ReceptiveField:
    """The field after a window: the field grows by (k - 1) jumps, the jump by the stride."""
    reaches = [(k - 1) * d for k, d in zip(window.kernel, window.dilation, strict=True)]
    grown = [f + reach * j for f, reach, j in zip(receptive.field, reaches, receptive.jump, strict=True)]
    jumps = [j * s for j, s in zip(receptive.jump, window.stride, strict=True)]
    moved = [(reach / 2 - p) * j for reach, p, j in zip(reaches, window.padding, receptive.jump, strict=True)]
    start = (receptive.start[0] + moved[0], receptive.start[1] + moved[1])
    return replace(receptive, field=_pair(grown), jump=_pair(jumps), start=start)


def _seeing_all(receptive: ReceptiveField, size: Pair, out: Tensor, image: Pair) -> ReceptiveField:
    """One position that sees all that the ``size`` positions of a map see, but not more than the image."""
    seen = [f + (n - 1) * j for f, n, j in zip(receptive.field, size, receptive.jump, strict=True)]
    field = _pair([min(s, i) for s, i in zip(seen, image, strict=True)])
    middle = ((image[0] - 1) / 2, (image[1] - 1) / 2)
    return ReceptiveField(field, image, "chw" if out.ndim == 4 else "vector", middle)


def _reduced(
    receptive: ReceptiveField, source: Tensor, args: Sequence[Any], out: Tensor, image: Pair
) -> ReceptiveField | None:
    """After a mean, a sum or a maximum over the whole map, or over channels alone; None after one over a part of it."""
    if source.ndim < 4:
        return None
    listed = args[1] if len(args) > 1 and isinstance(args[1], list | tuple) else ()
    dims = {dim % source.ndim for dim in listed or range(source.ndim)}
    places = {1, 2} if receptive.layout == "hwc" else {source.ndim - 2, source.ndim - 1}
    if places <= dims:
        return _seeing_all(receptive, _pair([source.shape[place] for place in sorted(places)]), out, image)
    return receptive if not places & dims else None


def _widest(branches: Sequence[ReceptiveField], first: ReceptiveField) -> ReceptiveField:
    """Branches that meet in a sum, a product or a concatenation."""
    fields = zip(*(receptive.field for receptive in branches), strict=True)
    jumps = zip(*(receptive.jump for receptive in branches), strict=True)
    widest = max(branches, key=lambda receptive: receptive.field)
    sides, steps = ([max(sizes) for sizes in pairs] for pairs in (fields, jumps))
    return ReceptiveField(_pair(sides), _pair(steps), first.layout, widest.start)


def _reshaped(receptive: ReceptiveField, before: Tensor, after: Tensor, image: Pair) -> ReceptiveField | None:
    if receptive.layout == "vector":
        return replace(receptive, layout="chw") if after.ndim == 4 else receptive
    if receptive.layout == "hwc":
        return receptive if before.shape[-1] == after.shape[-1] and after.ndim in (2, 4) else None
    if before.ndim >= 4 and after.ndim >= 4 and before.shape[-2:] == after.shape[-2:]:
        return receptive  # channels into groups, or back
    if before.ndim == 4 and tuple(after.shape) == (before.shape[0], before[0].numel()):
        return _seeing_all(receptive, _pair(before.shape[2:]), after, image)
    return None


def _turned(receptive: ReceptiveField, op: Any, args: Sequence[Any], after: Tensor) -> ReceptiveField | None:
    if receptive.layout == "vector":
        return receptive
    order = list(range(after.ndim))
    if op is aten.permute:
        order = [dim % after.ndim for dim in args[1]]
    else:
        first, second = (dim % after.ndim for dim in args[1:3])
        order[first], order[second] = second, first
    if receptive.layout == "chw" and order == [0, 2, 3, 1]:
        return replace(receptive, layout="hwc")
    if receptive.layout == "hwc" and order == [0, 3, 1, 2]:
        return replace(receptive, layout="chw")
    if receptive.layout == "chw" and after.ndim >= 4 and order[-2:] == [after.ndim - 2, after.ndim - 1]:
        return receptive
    return None
