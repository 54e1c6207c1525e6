"""What frequent operations give on the meta device, said at once.

Torch answers for most operations there in Python, and imports its compiler before the first answer: a second, longer
than all the rest of a plan. Yet their sizes follow from a line each. Whatever is not certain, operands that do not
fit above all, is left to torch. A test holds each answer against torch's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

aten: Any = torch.ops.aten


def outcome(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """What the operation ``func`` gives for these arguments: on the meta device, empty tensors of the right sizes."""
    say = _SAYS.get(func)
    said = say(*args, **kwargs) if say is not None else None
    return func(*args, **kwargs) if said is None else said


def _as_meta(x: Any) -> bool:
    return isinstance(x, Tensor) and x.device.type == "meta" and x.dtype.is_floating_point


def _is_dense(x: Tensor) -> bool:
    """Whether its values lie side by side, in whatever order of the dimensions."""
    return x.is_contiguous() or x.numel() == 1 + sum((n - 1) * s for n, s in zip(x.shape, x.stride(), strict=True))


def _fits(small: Tensor, large: Tensor) -> bool:
    """Whether ``small`` is repeated to the size of ``large`` without a say in the order of the result's dimensions."""
    if small.dtype is not large.dtype or small.device != large.device:
        return False
    if small.shape == large.shape:
        return small.stride() == large.stride()
    wide = [dim for dim, n in enumerate(small.shape) if n != 1]
    offset = large.ndim - small.ndim
    return offset >= 0 and len(wide) <= 1 and all(small.shape[dim] == large.shape[dim + offset] for dim in wide)


def _model(*operands: Any) -> Tensor | None:
    """The operand whose size, strides and type an elementwise result has; None where it is not so simple."""
    tensors = [each for each in operands if isinstance(each, Tensor)]
    large = max(tensors, key=lambda each: (each.numel(), each.ndim))
    if not _as_meta(large) or not _is_dense(large):
        return None
    return large if all(each is large or _fits(each, large) for each in tensors) else None


def _elementwise(*operands: Any, **options: Any) -> Tensor | None:
    large = _model(*operands)
    return None if large is None else torch.empty_like(large)


def _in_place(x: Any, *others: Any, **options: Any) -> Tensor | None:
    return x if _model(x, *others) is x else None


def _softmax(x: Any, *rest: Any, **options: Any) -> Tensor | None:
    return torch.empty_like(x) if _as_meta(x) and x.is_contiguous() and not options else None


def _normed_batch(x: Any, weight: Any, bias: Any, mean: Any, var: Any, training: bool, *rest: Any) -> Any:
    if training or not _as_meta(x) or not _is_dense(x) or any(x.shape[1:2] != each.shape for each in (mean, var)):
        return None
    return torch.empty_like(x), x.new_empty(0), x.new_empty(0)


def _normed_layer(x: Any, size: Sequence[int], weight: Any, bias: Any, eps: float) -> Any:
    if not _as_meta(x) or not x.is_contiguous() or tuple(x.shape[-len(size) :]) != tuple(size):
        return None
    statistics = (*x.shape[: -len(size)], *(1 for _ in size))
    return torch.empty_like(x), x.new_empty(statistics), x.new_empty(statistics)


def _addmm(bias: Any, a: Any, b: Any, **options: Any) -> Tensor | None:
    fits = _as_meta(a) and a.dtype is b.dtype is bias.dtype and a.shape[1] == b.shape[0] and bias.shape == b.shape[1:]
    return a.new_empty(a.shape[0], b.shape[1]) if fits and not options else None


def _mean(x: Any, dims: Sequence[int] | None, keepdim: bool = False, **options: Any) -> Tensor | None:
    if not _as_meta(x) or not x.is_contiguous() or not dims or options:
        return None
    gone = {dim % x.ndim for dim in dims}
    sizes = [(1 if dim in gone else n) for dim, n in enumerate(x.shape) if keepdim or dim not in gone]
    return x.new_empty(sizes)


def _cat(parts: Sequence[Any], dim: int = 0) -> Tensor | None:
    first = parts[0]
    rests = [(*each.shape[: dim % each.ndim], *each.shape[dim % each.ndim + 1 :]) for each in parts if each.ndim]
    alike = all(_as_meta(each) and each.dtype is first.dtype for each in parts)
    ordered = first.ndim == 3 or all(each.is_contiguous() for each in parts)  # maps may have their channels last
    if not alike or not ordered or len(rests) < len(parts) or any(rest != rests[0] for rest in rests):
        return None
    sizes = list(first.shape)
    sizes[dim] = sum(each.shape[dim] for each in parts)
    return first.new_empty(sizes)


_NAMED = (
    "relu gelu sigmoid tanh silu leaky_relu elu mish hardswish hardsigmoid hardtanh softplus neg exp log sqrt rsqrt"
)
_ARITHMETIC = [
    getattr(getattr(aten, name), kind) for name in ("add", "sub", "mul", "div") for kind in ("Tensor", "Scalar")
]
_CHANGES = "normal_ uniform_ zero_ erfinv_ clamp_ relu_ hardtanh_ hardswish_ silu_"

_SAYS: dict[Any, Callable[..., Any]] = {
    **{getattr(aten, name).default: _elementwise for name in _NAMED.split()},
    **dict.fromkeys((*_ARITHMETIC, aten.pow.Tensor_Scalar), _elementwise),
    **{getattr(aten, name).default: _in_place for name in _CHANGES.split()},
    **dict.fromkeys((aten.add_.Tensor, aten.sub_.Tensor, aten.mul_.Tensor, aten.div_.Tensor), _in_place),
    **dict.fromkeys((aten._softmax.default, aten._safe_softmax.default), _softmax),
    aten.native_batch_norm.default: _normed_batch,
    aten.native_layer_norm.default: _normed_layer,
    aten.convolution.default: _convolution,
    aten.addmm.default: _addmm,
    aten.mean.dim: _mean,
    aten.cat.default: _cat,
}
