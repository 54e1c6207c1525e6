"""Penalties on the size of a network's weights, which a task adds to its loss.

Two conventions for the square are in use, and one rate means twice as much in the first as in the second:

- ``l2``:      lambda * sum w^2,     whose gradient is 2 lambda w (Hoerl and Kennard 1970, "Ridge Regression");
- ``half_l2``: lambda / 2 * sum w^2, whose gradient is lambda w: with SGD it is the weight decay lambda (Krogh and
  Hertz 1991, equation 3);
- ``l1``:      lambda * sum |w| (Tibshirani 1996, "the Lasso"), which makes weights exactly zero.

Weights 1, -2, 3 at lambda 0.1: l1 gives 0.6, l2 gives 1.4, half_l2 gives 0.7.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

PENALTIES: dict[str, Callable[[Tensor], Tensor]] = {
    "l1": lambda weight: weight.abs().sum(),
    "l2": lambda weight: weight.square().sum(),
    "half_l2": lambda weight: weight.square().sum() / 2,
}


def penalised_weights(network: nn.Module) -> list[nn.Parameter]:
    """The weights that a penalty applies to: trainable matrices and kernels, not biases nor scales of norms.

    Args:
        network: The network that has them.
    """
    return [parameter for parameter in network.parameters() if parameter.requires_grad and parameter.ndim > 1]


def penalty(name: str, weights: Iterable[Tensor], strength: float) -> Tensor:
    """A penalty on the size of all weights together; a tensor of one number.

    Args:
        name: A key of :data:`PENALTIES`.
        weights: The weights, of any shapes.
        strength: The factor lambda.

    Source:
        Hoerl and Kennard 1970 (``l2``); Krogh and Hertz 1991, equation 3 (``half_l2``); Tibshirani 1996 (``l1``).
    """
    values = [PENALTIES[name](weight) for weight in weights]
    return strength * torch.stack(values).sum() if values else torch.zeros(())
