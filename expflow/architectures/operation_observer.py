"""Observing the operations of a running network, and what each costs in multiply-adds."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from expflow.architectures.meta_shapes import call_operation

aten: Any = torch.ops.aten
CONVOLUTION = aten.convolution
ATTENTIONS = (
    aten._scaled_dot_product_efficient_attention,
    aten._scaled_dot_product_flash_attention,
    aten._scaled_dot_product_flash_attention_for_cpu,
    aten._scaled_dot_product_cudnn_attention,
)


OperationCallback = Callable[[Any, Any, Any], None]
"""Called with an operation (``torch.ops.aten.mm``), its arguments, and what it returned."""


class OperationObserver(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A context manager in whose body every operation of torch is observed.

    It sees the operations below autograd, the simple ones of which all others consist. On the meta device frequent
    operations are answered by :mod:`expflow.architectures.meta_shapes`. Torch has no public way to observe them; its
    own counter of operations is made in this way too.

    Args:
        callback: Called after each operation; None where only the fast answers on the meta device are wanted.
    """

    def __init__(self, callback: OperationCallback | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._callback = callback

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # or torch imports its compiler to keep it out of here: a second, and a test notices

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = call_operation(func, args, kwargs or {})
        if self._callback is not None:
            self._callback(func.overloadpacket, args, out)
        return out


def macs_of(op: Any, args: Any, out: Any) -> int:
    """Multiply-adds of one operation: of a convolution, a matrix product or an attention; of any other 0.

    Biases and the softmax are not counted, and a causal attention costs what it would cost without its mask.

    Args:
        op: The operation, such as ``torch.ops.aten.mm``.
        args: Its positional arguments.
        out: What it returned.
    """
    if op is CONVOLUTION:
        x, weight, transposed = args[0], args[1], args[6]
        positions = (x if transposed else out).shape[2:]
        return int(x.shape[0] * math.prod(positions) * weight.numel())
    if op is aten.addmm:
        return int(math.prod(args[1].shape) * args[2].shape[1])
    if op is aten.mm or op is aten.bmm:
        return int(math.prod(args[0].shape) * args[1].shape[-1])
    if op is aten.baddbmm:
        return int(math.prod(args[1].shape) * args[2].shape[-1])
    if op in ATTENTIONS:
        queries, keys, values = (tensor.shape for tensor in args[:3])
        return int(math.prod(queries[:-1]) * keys[-2] * (queries[-1] + values[-1]))
    return 0
