"""What rises in a dream: how sure a network is of a class, or how much a layer gives."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from expflow.errors import UserError


def class_odds(output: Any, classes: int, number: int) -> tuple[Tensor, Tensor]:
    """The log-odds of a class (b,), which are climbed, and its probability (b,), which is shown.

    The score alone would also rise where those of all classes do.

    Args:
        output: What a classifier gives.
        classes: How many classes there are.
        number: Which one.

    Raises:
        UserError: The output is no score for each class.

    Source:
        Simonyan et al., Deep Inside Convolutional Networks, 2014, section 2.
    """
    scores = getattr(output, "logits", output)
    if not isinstance(scores, Tensor) or scores.ndim != 2 or scores.shape[1] != classes:
        raise UserError("the network gives no score for each class; dream of a layer instead")
    others = torch.cat([scores[:, :number], scores[:, number + 1 :]], 1)
    return scores[:, number] - others.logsumexp(1), scores.softmax(1)[:, number]


def layer_energy(output: Any, name: str) -> Tensor:
    """The mean square of a layer's output (b,), which is climbed and shown.

    Args:
        output: What the layer gives.
        name: The layer, for messages.

    Raises:
        UserError: It gives no numbers.

    Source:
        Mordvintsev et al., Inceptionism, 2015.
    """
    if not isinstance(output, Tensor) or not output.is_floating_point():
        raise UserError(f"{name} gives {type(output).__name__}, not a tensor of numbers")
    return output.flatten(1).square().mean(1)
