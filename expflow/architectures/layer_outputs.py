"""The layers of a network by their names, and what they give."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from expflow.errors import UserError, nearest


def find_layer(network: nn.Module, layer: str) -> nn.Module:
    """A layer by its dotted path.

    Args:
        network: The network.
        layer: The path, as ``expflow models show`` prints it.

    Raises:
        UserError: There is none; the message has the nearest.
    """
    names = [name for name, _ in network.named_modules() if name]
    if layer in names:
        return network.get_submodule(layer)
    close = nearest(layer, names)
    few = ", ".join(name for name, module in network.named_children())
    raise UserError(
        f"the network has no layer {layer!r}; {f'nearest: {close}' if close else f'its parts are {few}'}"
        " (expflow models show NAME prints all)"
    )


@contextmanager
def outputs_of(layer: nn.Module) -> Iterator[list[Any]]:
    """The outputs of a layer's calls in the body, in order.

    Args:
        layer: The layer.
    """
    outputs: list[Any] = []
    handle = layer.register_forward_hook(lambda module, args, out: outputs.append(out))
    try:
        yield outputs
    finally:
        handle.remove()
