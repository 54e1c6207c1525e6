"""Shapes of the results of frequent operations on the meta device, computed without torch's own slow answer.

Torch answers for most operations there in Python, and imports its compiler before the first answer: a second, longer
than all the rest of a plan. Yet their shapes follow from a line each. Whatever is not certain, operands that do not
fit above all, is left to torch. A test compares each answer with torch's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

aten: Any = torch.ops.aten


def call_operation(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Calls an operation; on the meta device frequent ones are answered from :data:`META_SHAPES`.

    Args:
        func: The operation with its overload, such as ``torch.ops.aten.mm.default``.
        args: Its positional arguments.
        kwargs: Its keyword arguments.

    Returns:
        What torch returns: on the meta device, empty tensors of the right shapes, strides and types.
    """
    shape_rule = META_SHAPES.get(func)
    result = shape_rule(*args, **kwargs) if shape_rule is not None else None
    return func(*args, **kwargs) if result is None else result


def _is_meta_float(x: Tensor) -> bool:
    return x.device.type == "meta" and x.dtype.is_floating_point


def _has_known_order(x: Tensor) -> bool:
    """Whether the order of its dimensions in memory is known: none of its values is repeated by a stride of 0."""
    return _is_meta_float(x) and all(s or n == 1 for n, s in zip(x.shape, x.stride(), strict=True))


def _empty_like(x: Tensor) -> Tensor:
    """Values side by side, in the order that the dimensions of ``x`` have."""
    if x.is_contiguous():
        return x.new_empty(x.shape)
    strides, step = list(x.stride()), 1
    for dim in sorted(range(x.ndim), key=lambda dim: (x.stride(dim), -dim)):
        strides[dim], step = step, step * x.shape[dim]
    return x.new_empty_strided(x.shape, strides)


def _broadcasts_to(small: Tensor, large: Tensor) -> bool:
    """Whether broadcasting brings ``small`` to the size of ``large``."""
    sizes = zip(reversed(small.shape), reversed(large.shape), strict=False)
    return small.ndim <= large.ndim and all(n in (1, m) for n, m in sizes)


def _shape_model(*operands: Any) -> Tensor | None:
    """The operand whose size, strides and type an elementwise result has; None where it is not so simple.

    That is the first one of full size. One before it also decides the order of the dimensions if it has several.
    """
    tensors = [operand for operand in operands if isinstance(operand, Tensor)]
    large = max(tensors, key=lambda tensor: (tensor.numel(), tensor.ndim))
    if not _has_known_order(large):
        return None
    for tensor in tensors[: next(index for index, tensor in enumerate(tensors) if tensor is large)]:
        if sum(n != 1 for n in tensor.shape) > 1 and not (tensor.is_contiguous() and large.is_contiguous()):
            return None
    alike = all(tensor.dtype is large.dtype and tensor.device == large.device for tensor in tensors)
    return large if alike and all(_broadcasts_to(tensor, large) for tensor in tensors) else None


def _elementwise(*operands: Any, **options: Any) -> Tensor | None:
    large = _shape_model(*operands)
    return _crossed(operands) if large is None else _empty_like(large)


def _crossed(operands: Sequence[Any]) -> Tensor | None:
    """A column and a row make a table, in whichever order."""
    tensors = [operand for operand in operands if isinstance(operand, Tensor)]
    if len(tensors) != 2 or any(not x.is_contiguous() or not _is_meta_float(x) for x in tensors):
        return None
    first, second = tensors
    column = first.ndim == 2 and first.shape[1] == 1 and second.ndim == 1
    return first.new_empty(first.shape[0], second.shape[0]) if column and first.dtype is second.dtype else None


def _in_place(x: Tensor, *others: Any, **options: Any) -> Tensor | None:
    return x if _shape_model(x, *others) is x else None


def _softmax(x: Tensor, *rest: Any, **options: Any) -> Tensor | None:
    return _empty_like(x) if _is_meta_float(x) and x.is_contiguous() and not options else None


def _normed_batch(x: Tensor, weight: Any, bias: Any, mean: Any, var: Any, training: bool, *rest: Any) -> Any:
    if training or not _has_known_order(x) or any(x.shape[1:2] != statistic.shape for statistic in (mean, var)):
        return None
    return _empty_like(x), x.new_empty(x.shape[1]), x.new_empty(x.shape[1])


def _normed_layer(x: Tensor, size: Sequence[int], weight: Any, bias: Any, eps: float) -> Any:
    if not _is_meta_float(x) or tuple(x.shape[-len(size) :]) != tuple(size):
        return None
    statistics = (*x.shape[: -len(size)], *(1 for _ in size))
    return x.new_empty(x.shape), x.new_empty(statistics), x.new_empty(statistics)


def _normed_groups(
    x: Tensor, weight: Any, bias: Any, n: int, channels: int, pixels: int, groups: int, *rest: Any
) -> Any:
    if not _is_meta_float(x) or not x.is_contiguous() or x.shape[:2] != (n, channels):
        return None
    return x.new_empty(x.shape), x.new_empty(n, groups), x.new_empty(n, groups)


def _addmm(bias: Tensor, a: Tensor, b: Tensor, **options: Any) -> Tensor | None:
    fits = (
        _is_meta_float(a)
        and a.dtype is b.dtype is bias.dtype
        and a.shape[1] == b.shape[0]
        and bias.shape == b.shape[1:]
    )
    return a.new_empty(a.shape[0], b.shape[1]) if fits and not options else None


def _mm(a: Tensor, b: Tensor) -> Tensor | None:
    fits = _is_meta_float(a) and a.dtype is b.dtype and a.device == b.device and a.shape[1] == b.shape[0]
    return a.new_empty(a.shape[0], b.shape[1]) if fits else None


def _bmm(a: Tensor, b: Tensor) -> Tensor | None:
    fits = _is_meta_float(a) and a.dtype is b.dtype and a.device == b.device and a.shape[2] == b.shape[1]
    return a.new_empty(*a.shape[:2], b.shape[2]) if fits and a.shape[0] == b.shape[0] else None


def _random(size: Sequence[int], **options: Any) -> Tensor | None:
    device = options.get("device")
    return torch.empty(size, **options) if device is not None and torch.device(device).type == "meta" else None


def _zeros(x: Tensor, *, dtype: Any = None, device: Any = None, **options: Any) -> Tensor | None:
    plain = _has_known_order(x) and dtype in (None, x.dtype) and device in (None, x.device)
    return _empty_like(x) if plain and options.get("memory_format") is None else None


def _reduced(x: Tensor, dims: Sequence[int] | None, keepdim: bool = False, **options: Any) -> Tensor | None:
    if not _is_meta_float(x) or not dims or options:
        return None
    gone = {dim % x.ndim for dim in dims}
    sizes = [(1 if dim in gone else n) for dim, n in enumerate(x.shape) if keepdim or dim not in gone]
    return x.new_empty(sizes)


def _cat(parts: Sequence[Tensor], dim: int = 0) -> Tensor | None:
    first = parts[0]
    rests = [(*part.shape[: dim % part.ndim], *part.shape[dim % part.ndim + 1 :]) for part in parts if part.ndim]
    alike = all(_is_meta_float(part) and part.dtype is first.dtype for part in parts)
    ordered = first.ndim == 3 or all(part.is_contiguous() for part in parts)  # maps may have their channels last
    if not alike or not ordered or len(rests) < len(parts) or any(rest != rests[0] for rest in rests):
        return None
    sizes = list(first.shape)
    sizes[dim] = sum(part.shape[dim] for part in parts)
    return first.new_empty(sizes)


def _stacked(parts: Sequence[Tensor], dim: int = 0) -> Tensor | None:
    first = parts[0]
    alike = all(_is_meta_float(part) and part.dtype is first.dtype and part.shape == first.shape for part in parts)
    if not alike or not all(part.is_contiguous() for part in parts) or not -1 <= dim <= first.ndim:
        return None
    dim %= first.ndim + 1
    return first.new_empty((*first.shape[:dim], len(parts), *first.shape[dim:]))


def _window_positions(
    n: int, kernel: int, stride: int, padding: int = 0, dilation: int = 1, *, ceil: bool = False
) -> int:
    """Positions of a window along ``n`` values; at least 1 where it fits."""
    reach = n + 2 * padding - dilation * (kernel - 1) - 1
    if ceil:
        places = -(-reach // stride) + 1
        return places - 1 if (places - 1) * stride >= n + padding else places
    return reach // stride + 1


def _convolution(
    x: Tensor, weight: Tensor, bias: Any, stride: Any, padding: Any, dilation: Any, turned: bool, more: Any, groups: int
) -> Tensor | None:
    fits = _is_meta_float(x) and x.ndim == weight.ndim == 4 and x.dtype is weight.dtype and x.device == weight.device
    if not fits or not (x.is_contiguous() and weight.is_contiguous()) or len(stride) < 2:
        return None
    if turned:
        return _transposed_convolution(x, weight, stride, padding, dilation, more, groups)
    sizes = list(map(_window_positions, x.shape[2:], weight.shape[2:], stride, padding, dilation))
    if min(sizes) < 1 or x.shape[1] != weight.shape[1] * groups or weight.shape[0] % groups:
        return None
    return x.new_empty((x.shape[0], weight.shape[0], *sizes))


def _transposed_convolution(
    x: Tensor, weight: Tensor, stride: Any, padding: Any, dilation: Any, more: Any, groups: int
) -> Tensor | None:
    sides = zip(x.shape[2:], weight.shape[2:], stride, padding, dilation, more, strict=True)
    sizes = [(n - 1) * step - 2 * edge + gap * (window - 1) + rest + 1 for n, window, step, edge, gap, rest in sides]
    if min(sizes) < 1 or x.shape[1] != weight.shape[0] or weight.shape[0] % groups:
        return None
    return x.new_empty((x.shape[0], weight.shape[1] * groups, *sizes))


def _pooled(
    x: Tensor, kernel: Any, stride: Any = (), padding: Any = (0,), dilation: Any = (1,), ceil: bool = False
) -> Tensor | None:
    """The result of pooling in windows; its arguments are pairs, or one number for all sides."""
    sides = x.ndim - 2
    windows = [
        list(option) * (sides if len(option) == 1 else 1) for option in (kernel, stride or kernel, padding, dilation)
    ]
    if (
        not _is_meta_float(x)
        or not x.is_contiguous()
        or any(2 * p > k for k, p in zip(windows[0], windows[2], strict=True))
    ):
        return None
    sizes = [_window_positions(*side, ceil=ceil) for side in zip(x.shape[2:], *windows, strict=True)]
    return x.new_empty((*x.shape[:2], *sizes)) if min(sizes) > 0 else None


def _max_pooled(x: Tensor, *window: Any) -> Any:
    out = _pooled(x, *window)
    return None if out is None else (out, out.new_empty(out.shape, dtype=torch.int64))


def _mean_pooled(x: Tensor, kernel: Any, stride: Any = (), padding: Any = (0,), ceil: bool = False, *rest: Any) -> Any:
    return _pooled(x, kernel, stride, padding, (1,), ceil)


_NAMED = (
    "relu gelu sigmoid tanh silu leaky_relu elu mish hardswish hardsigmoid hardtanh softplus neg exp log sqrt rsqrt sin"
    " cos"
)
_ARITHMETIC = [
    getattr(getattr(aten, name), kind) for name in ("add", "sub", "mul", "div") for kind in ("Tensor", "Scalar")
]
_CHANGES = "copy_ normal_ uniform_ zero_ erfinv_ clamp_ relu_ hardtanh_ hardswish_ silu_"


def _edge_padded(x: Tensor, padding: Sequence[int]) -> Tensor | None:
    """``padding``: left, right, top, bottom."""
    left, right, top, bottom = padding
    if min(padding) < 0 or x.ndim != 4 or 0 in x.shape or not (_is_meta_float(x) and x.is_contiguous()):
        return None
    return x.new_empty((*x.shape[:2], x.shape[2] + top + bottom, x.shape[3] + left + right))


def _reflected(x: Tensor, padding: Sequence[int]) -> Tensor | None:
    """As :func:`_edge_padded`; less is reflected than there is."""
    fits = x.ndim == 4 and max(padding[:2]) < x.shape[3] and max(padding[2:]) < x.shape[2]
    return _edge_padded(x, padding) if fits else None


def _zero_padded(x: Tensor, padding: Sequence[int], value: float = 0) -> Tensor | None:
    """``padding``: two numbers for each dimension, the last dimension first; negative ones cut off."""
    if 0 in x.shape or not (_is_meta_float(x) and x.is_contiguous()):
        return None
    sizes = list(x.shape)
    for side, (low, high) in enumerate(zip(padding[::2], padding[1::2], strict=True), start=1):
        sizes[-side] += low + high
    return x.new_empty(sizes) if min(sizes) > 0 else None


def _scattered(x: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor | None:
    fits = index.shape == source.shape and index.ndim == x.ndim and x.dtype is source.dtype and x.is_contiguous()
    inside = all(n <= m or axis == dim % x.ndim for axis, (n, m) in enumerate(zip(index.shape, x.shape, strict=False)))
    meta = _is_meta_float(x) and index.dtype is torch.int64 and index.device == source.device == x.device
    return x.new_empty(x.shape) if fits and inside and meta else None


def _resized(x: Tensor, size: Sequence[int], *rest: Any) -> Tensor | None:
    fits = _is_meta_float(x) and x.ndim == 4 and x.is_contiguous() and 0 not in x.shape and min(size) > 0
    return x.new_empty((*x.shape[:2], *size)) if fits else None


def _is_dense(x: Any) -> bool:
    return isinstance(x, Tensor) and x.device.type == "meta" and x.is_contiguous() and x.numel() > 0


def _compared(x: Tensor, number: Any) -> Tensor | None:
    return x.new_empty(x.shape, dtype=torch.bool) if _is_dense(x) else None


def _both(a: Tensor, b: Tensor) -> Tensor | None:
    """Of two masks, as what may be seen, and of padding."""
    if not all(_is_dense(x) and x.dtype is torch.bool for x in (a, b)):
        return None
    pairs = list(zip(reversed(a.shape), reversed(b.shape), strict=False))
    if any(n != m and 1 not in (n, m) for n, m in pairs):
        return None
    longer = a if a.ndim >= b.ndim else b
    sizes = [*longer.shape[: longer.ndim - len(pairs)], *(max(pair) for pair in reversed(pairs))]
    return a.new_empty(sizes)


def _lower_triangle(x: Tensor, diagonal: int = 0) -> Tensor | None:
    return x.new_empty(x.shape) if _is_dense(x) and x.ndim > 1 else None


def _chosen(condition: Tensor, a: Tensor, b: Tensor) -> Tensor | None:
    """One of two numbers in each place."""
    numbers = all(x.ndim == 0 and _is_meta_float(x) for x in (a, b))
    fits = _is_dense(condition) and condition.dtype is torch.bool and numbers and a.dtype is b.dtype
    return a.new_empty(condition.shape) if fits else None


def _normed(x: Tensor, order: Any, dims: Any, keepdim: bool = False, **options: Any) -> Tensor | None:
    return _reduced(x, dims, keepdim, **options) if dims is not None and x.is_contiguous() else None


def _embedded(weight: Tensor, index: Tensor, *options: Any) -> Tensor | None:
    fits = _is_meta_float(weight) and weight.ndim == 2 and _is_dense(index) and index.dtype is torch.int64
    return weight.new_empty(*index.shape, weight.shape[1]) if fits else None


def _largest_at(x: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor | None:
    if dim is None or keepdim or not _is_dense(x) or not -x.ndim <= dim < x.ndim:
        return None
    sizes = [n for place, n in enumerate(x.shape) if place != dim % x.ndim]
    return x.new_empty(sizes, dtype=torch.int64)


def _gathered(x: Tensor, dim: int, index: Tensor, **options: Any) -> Tensor | None:
    fits = _is_dense(x) and index.dtype is torch.int64 and index.ndim == x.ndim and -x.ndim <= dim < x.ndim
    inside = all(n <= m or axis == dim % x.ndim for axis, (n, m) in enumerate(zip(index.shape, x.shape, strict=False)))
    return x.new_empty(index.shape) if fits and inside and index.device == x.device else None


META_SHAPES: dict[Any, Callable[..., Any]] = {
    **{getattr(aten, name).default: _elementwise for name in _NAMED.split()},
    **dict.fromkeys((*_ARITHMETIC, aten.pow.Tensor_Scalar, aten.pow.Scalar, aten.clamp_min.default), _elementwise),
    **{getattr(aten, name).default: _in_place for name in _CHANGES.split()},
    **dict.fromkeys((aten.add_.Tensor, aten.sub_.Tensor, aten.mul_.Tensor, aten.div_.Tensor), _in_place),
    **dict.fromkeys((aten._softmax.default, aten._safe_softmax.default), _softmax),
    aten.native_batch_norm.default: _normed_batch,
    aten.native_layer_norm.default: _normed_layer,
    aten.native_group_norm.default: _normed_groups,
    aten.convolution.default: _convolution,
    aten.addmm.default: _addmm,
    aten.mm.default: _mm,
    aten.randn.default: _random,
    aten.zeros_like.default: _zeros,
    aten.bmm.default: _bmm,
    aten.max_pool2d_with_indices.default: _max_pooled,
    aten.avg_pool2d.default: _mean_pooled,
    aten.avg_pool3d.default: _mean_pooled,
    aten.mean.dim: _reduced,
    aten.sum.dim_IntList: _reduced,
    aten.replication_pad2d.default: _edge_padded,
    aten.reflection_pad2d.default: _reflected,
    aten.constant_pad_nd.default: _zero_padded,
    aten.cat.default: _cat,
    aten.stack.default: _stacked,
    aten.scatter.src: _scattered,
    **dict.fromkeys((aten.eq.Scalar, aten.ne.Scalar), _compared),
    aten.bitwise_and.Tensor: _both,
    aten.tril.default: _lower_triangle,
    aten.where.self: _chosen,
    aten.linalg_vector_norm.default: _normed,
    aten.embedding.default: _embedded,
    aten.argmax.default: _largest_at,
    aten.gather.default: _gathered,
    aten.upsample_bilinear2d.default: _resized,
    aten.upsample_nearest2d.default: _resized,
}
