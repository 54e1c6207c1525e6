"""A trained network as it is served: from a batch of inputs to its outputs, without training, metrics and loaders.

It computes in single precision, whatever it was trained in, so that a machine without the trial's device can run it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn

from expflow.errors import UserError
from expflow.training.evaluation.evaluator import Evaluator, Weights

INPUT = "image"
"""The field of a batch that the tasks' networks take."""


class InferenceNetwork(nn.Module):
    """A task's ``forward`` in eval mode, with nothing of Lightning around it.

    Args:
        task: The task; its own ``forward`` is what is served.
    """

    def __init__(self, task: LightningModule) -> None:
        super().__init__()
        self.task = task
        self.requires_grad_(False)
        self.eval()

    def forward(self, inputs: Tensor) -> Any:
        """Inputs (b, ...) as the loaders give them -> what the task's ``forward`` makes of them."""
        return self.task(inputs)


def inference_network(evaluator: Evaluator, weights: Weights) -> InferenceNetwork:
    """The evaluator's network with a trial's weights, as it is served.

    Args:
        evaluator: What has built the network.
        weights: The weights that ``val/*`` was measured on.

    Raises:
        UserError: The task has no ``forward``, so nothing says what its network gives.
        CheckpointMismatch: The weights are of another architecture.
    """
    if type(evaluator.task).forward is LightningModule.forward:
        raise UserError("the task has no forward(inputs), which is what a model that is served computes")
    evaluator.put_weights(weights, "these weights")
    return InferenceNetwork(evaluator.task)


def example_inputs(evaluator: Evaluator, split: str, samples: int) -> Tensor:
    """The first inputs of a split, as the network gets them.

    Args:
        evaluator: What has opened the data.
        split: Name of the split.
        samples: How many are taken at most.

    Returns:
        (n, ...) with n at least 2, so that an export does not take the size of the batch for a constant.

    Raises:
        UserError: The data have no such split, or the batch holds no tensor of inputs.
    """
    batch: Any = next(iter(evaluator.batches(split)))
    inputs: Any = batch
    own = getattr(evaluator.task, "served_inputs", None)
    if callable(own):
        inputs = own(batch)
    elif isinstance(batch, Mapping):
        inputs = batch.get(INPUT)
    elif isinstance(batch, list | tuple) and batch:
        inputs = batch[0]
    if not isinstance(inputs, Tensor):
        holds = f"the keys {', '.join(map(str, batch))}" if isinstance(batch, Mapping) else type(batch).__name__
        raise UserError(
            f"the batches hold {holds}; a model that is served takes one tensor: a batch that is one, the first of a "
            f"row, or the one under `{INPUT}`"
        )
    inputs = inputs[:samples].detach().cpu().contiguous()
    return torch.cat([inputs, inputs]) if len(inputs) == 1 else inputs
