"""Guided backpropagation: from one unit of a network back to the pixels that excite it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

RELUS: frozenset[Any] = frozenset(
    {torch.relu, torch.relu_, functional.relu, functional.relu_, Tensor.relu, Tensor.relu_}
)
"""Calls that are answered by the guided one."""
OTHERS: frozenset[Any] = frozenset(
    {functional.gelu, functional.silu, functional.mish, functional.elu, functional.selu, functional.leaky_relu}
    | {functional.hardswish, functional.softplus, functional.relu6, functional.hardtanh, torch.tanh, torch.prelu}
)
"""Activations through which only the plain gradient passes."""


class _GuidedReLU(torch.autograd.Function):
    """ReLU, through which only positive gradients pass back, at units that are positive themselves."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = x.clamp(min=0)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        (y,) = ctx.saved_tensors
        return gradients[0].clamp(min=0) * (y > 0)


class GuidedReLUs(TorchFunctionMode):
    """In its body every ReLU, module or function, passes gradients back as guided backpropagation does.

    Attributes:
        relus: How many were called.
        others: How many other activations were called, which pass their plain gradient.

    Source:
        Springenberg et al., Striving for Simplicity: The All Convolutional Net, 2015, section 3.4.
    """

    def __init__(self) -> None:
        super().__init__()
        self.relus, self.others = 0, 0

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in RELUS:
            self.relus += 1
            return _GuidedReLU.apply(args[0])
        self.others += func in OTHERS
        return func(*args, **(kwargs or {}))
