"""From one unit of a network back to the pixels that excite it: guided backpropagation, and the deconvnet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

InversionRule = Literal["guided", "deconvnet"]
"""How gradients pass a ReLU on their way back to the pixels."""
RELUS: frozenset[Any] = frozenset(
    {torch.relu, torch.relu_, functional.relu, functional.relu_, Tensor.relu, Tensor.relu_}
)
"""Calls whose gradient follows a rule."""
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


class _DeconvReLU(torch.autograd.Function):
    """ReLU, which on the way back is a ReLU of the gradient, whatever the unit was."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return gradients[0].clamp(min=0)


_BY_RULE: dict[InversionRule, type[torch.autograd.Function]] = {"guided": _GuidedReLU, "deconvnet": _DeconvReLU}


class InvertedReLUs(TorchFunctionMode):
    """In its body every ReLU, module or function, passes gradients back by a rule.

    Under the deconvnet's rule the gradient of a unit is the projection of that network: the gradient of a convolution
    is the one by its transposed filters, and that of max pooling puts each value back where it was taken from (the
    paper's switches).

    Args:
        rule: ``guided`` lets positive gradients pass where a unit is positive itself, ``deconvnet`` everywhere.

    Attributes:
        relus: How many were called.
        others: How many other activations were called, which pass their plain gradient.

    Source:
        Springenberg et al., Striving for Simplicity: The All Convolutional Net, 2015, section 3.4, for both rules;
        Zeiler and Fergus, Visualizing and Understanding Convolutional Networks, 2014, section 2.1, for the deconvnet.
    """

    def __init__(self, rule: InversionRule = "guided") -> None:
        super().__init__()
        self._relu: Any = _BY_RULE[rule]
        self.relus, self.others = 0, 0

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in RELUS:
            self.relus += 1
            return self._relu.apply(args[0])
        self.others += func in OTHERS
        return func(*args, **(kwargs or {}))
