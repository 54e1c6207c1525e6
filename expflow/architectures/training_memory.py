"""The memory of a training step by count, on the meta device: nothing is allocated, nothing is computed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from expflow.architectures.accounting import example_inputs, measure_network
from expflow.config.spec import Spec
from expflow.data.dataspec import DataSpec


def training_bytes(spec: Spec, data_spec: DataSpec, batch: int) -> int:
    """Bytes of weights, their gradients, buffers, and of what the backward pass keeps of one batch.

    The optimizer's state and libraries' workspaces are not counted, nor what a mixed precision saves.

    Args:
        spec: The network.
        data_spec: The images and classes that it is built for.
        batch: Samples of a batch in one rank; at least 2 are counted, since batch norms refuse one.

    Raises:
        UserError: The network cannot be built for these data; the message has the reason.
    """

    def measure(network: nn.Module) -> int:
        inputs = [value.expand(max(2, batch), *value.shape[1:]) for value in example_inputs(spec, data_spec)]
        own = {id(tensor.untyped_storage()) for tensor in network.parameters()}
        kept: dict[int, Any] = {}  # storages by identity; held, so that no identity is used twice

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if id(storage) not in own:
                kept[id(storage)] = storage
            return tensor

        network.train()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            output = network(*inputs)
        weights = sum(_bytes(parameter) for parameter in network.parameters())
        gradients = sum(_bytes(parameter) for parameter in network.parameters() if parameter.requires_grad)
        buffers = sum(_bytes(buffer) for buffer in network.buffers())
        del output
        return weights + gradients + buffers + sum(int(storage.nbytes()) for storage in kept.values())

    return measure_network(spec, data_spec, measure)


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
