"""The windows that operations move over feature maps: what they cost, and what each position sees of the image.

Torch's own operations are looked at while a network runs, so that it does not matter in which way the network calls
them. Sizes are pairs (height, width).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

Pair = tuple[int, int]

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
class Window:
    """What a convolution or a pool moves over a map. ``pool_ops``: values looked at, 0 for a convolution."""

    kernel: Pair
    stride: Pair
    padding: Pair
    groups: int = 1
    dilation: Pair = (1, 1)
    pool_ops: int = 0


def _pair(values: Sequence[int], otherwise: Sequence[int] = ()) -> Pair:
    values = list(values) or list(otherwise)
    return (values[0], values[-1])


def window_of(op: Any, args: Sequence[Any], out: Any) -> Window | None:
    """The window of one operation on a map (b, c, h, w); None for any other operation."""
    first = out[0] if isinstance(out, tuple | list) and out else out
    if op in CONVOLUTIONS and args[1].ndim == 4 and not args[6]:
        kernel = _pair(args[1].shape[2:])
        return Window(kernel, _pair(args[3]), _pair(args[4]), groups=args[8], dilation=_pair(args[5]))
    if op in WINDOW_POOLS:
        kernel = _pair(args[1])
        stride = _pair(args[2] if len(args) > 2 else (), kernel)
        padding = _pair(args[3] if len(args) > 3 else (0,))
        return Window(kernel, stride, padding, pool_ops=first.numel() * math.prod(kernel))
    if op in ADAPTIVE_POOLS:
        return _adaptive(args[0], first)
    if op in REDUCTIONS and _is_over_the_map(args):
        return Window(_pair(args[0].shape[2:]), (1, 1), (0, 0), pool_ops=args[0].numel())
    return None


def _adaptive(x_bchw: Tensor, out_bchw: Tensor) -> Window:
    """Adaptive pooling as the window it comes to; a map that has the size already is left as it is, at no cost."""
    sizes = list(zip(x_bchw.shape[2:], out_bchw.shape[2:], strict=True))
    strides = [max(into // out, 1) for into, out in sizes]
    kernels = [max(into - (out - 1) * stride, 1) for (into, out), stride in zip(sizes, strides, strict=True)]
    pool_ops = out_bchw.numel() * math.prod(kernels) if x_bchw.shape != out_bchw.shape else 0
    return Window(_pair(kernels), _pair(strides), (0, 0), pool_ops=pool_ops)


def _is_over_the_map(args: Sequence[Any]) -> bool:
    if len(args) < 2 or not isinstance(args[1], list | tuple) or args[0].ndim != 4:
        return False
    return sorted(dim % 4 for dim in args[1]) == [2, 3]


@dataclass(frozen=True)
class Sight:
    """What one position of a tensor sees of the image: ``field`` pixels; its neighbour sees ``jump`` pixels further.

    ``layout`` says where the positions are: ``chw`` (b, c, h, w), ``hwc`` (b, h, w, c) or its rows (b h w, c), and
    ``vector`` (b, n) for one position alone. The receptive field is that of the windows: what normalisation learns
    from the whole map is left out, and it may reach over the image's border (into the padding).
    """

    field: Pair
    jump: Pair = (1, 1)
    layout: Literal["chw", "hwc", "vector"] = "chw"


Seen = Sequence[tuple[Tensor, Sight | None]]
"""Inputs of an operation that depend on the image, each with what its positions see; None where that is not known."""


def sight_after(op: Any, args: Sequence[Any], seen: Seen, out: Tensor, image: Pair) -> Sight | None:
    """What each position of ``out`` sees after ``op``; None where that cannot be said, as after attention."""
    known = [(x, sight) for x, sight in seen if sight is not None]
    if len(known) < len(seen) or op in MIXING:
        return None
    source, sight = max(known, key=lambda each: each[0].ndim)
    window = window_of(op, args, out)
    if op in REDUCTIONS and window is not None:
        return _seeing_all(sight, window.kernel, out, image) if sight.layout == "chw" else None
    if op in (*CONVOLUTIONS, *WINDOW_POOLS, *ADAPTIVE_POOLS):
        return _through(sight, window) if window is not None and sight.layout == "chw" else None
    if op in VIEWS:
        return _reshaped(sight, source, out, image)
    if op in TURNS:
        return _turned(sight, op, args, out)
    if op in PRODUCTS:
        return sight if sight.layout != "chw" else None
    return _widest([each for _, each in known], sight)


def _through(sight: Sight, window: Window) -> Sight:
    """A window over what ``sight`` sees: the field grows by (k - 1) jumps, the jump by the stride."""
    reaches = [(k - 1) * d for k, d in zip(window.kernel, window.dilation, strict=True)]
    grown = [f + reach * j for f, reach, j in zip(sight.field, reaches, sight.jump, strict=True)]
    jumps = [j * s for j, s in zip(sight.jump, window.stride, strict=True)]
    return replace(sight, field=_pair(grown), jump=_pair(jumps))


def _seeing_all(sight: Sight, size: Pair, out: Tensor, image: Pair) -> Sight:
    """One position that sees all that the ``size`` positions of a map see, but not more than the image."""
    seen = [f + (n - 1) * j for f, n, j in zip(sight.field, size, sight.jump, strict=True)]
    field = _pair([min(s, i) for s, i in zip(seen, image, strict=True)])
    return Sight(field, image, "chw" if out.ndim == 4 else "vector")


def _widest(sights: Sequence[Sight], first: Sight) -> Sight:
    """Branches that meet in a sum, a product or a concatenation."""
    fields = zip(*(each.field for each in sights), strict=True)
    jumps = zip(*(each.jump for each in sights), strict=True)
    return Sight(_pair([max(each) for each in fields]), _pair([max(each) for each in jumps]), first.layout)


def _reshaped(sight: Sight, before: Tensor, after: Tensor, image: Pair) -> Sight | None:
    if sight.layout == "vector":
        return replace(sight, layout="chw") if after.ndim == 4 else sight
    if sight.layout == "hwc":
        return sight if before.shape[-1] == after.shape[-1] and after.ndim in (2, 4) else None
    if before.ndim >= 4 and after.ndim >= 4 and before.shape[-2:] == after.shape[-2:]:
        return sight  # channels into groups, or back
    if before.ndim == 4 and tuple(after.shape) == (before.shape[0], before[0].numel()):
        return _seeing_all(sight, _pair(before.shape[2:]), after, image)
    return None


def _turned(sight: Sight, op: Any, args: Sequence[Any], after: Tensor) -> Sight | None:
    if sight.layout == "vector":
        return sight
    order = list(range(after.ndim))
    if op is aten.permute:
        order = [dim % after.ndim for dim in args[1]]
    else:
        first, second = (dim % after.ndim for dim in args[1:3])
        order[first], order[second] = second, first
    if sight.layout == "chw" and order == [0, 2, 3, 1]:
        return replace(sight, layout="hwc")
    if sight.layout == "hwc" and order == [0, 3, 1, 2]:
        return replace(sight, layout="chw")
    if sight.layout == "chw" and after.ndim >= 4 and order[-2:] == [after.ndim - 2, after.ndim - 1]:
        return sight
    return None
