"""What a network costs, from the real module on the meta device: nothing is allocated, nothing is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import nn

from expflow.architectures import Count, build
from expflow.architectures.operations import Watch, macs_of
from expflow.architectures.specs.adapters import Adapter
from expflow.config.spec import Foreign, Spec
from expflow.data.dataspec import DataSpec
from expflow.errors import ExpflowError, UserError

T = TypeVar("T")


def count_parameters(module: nn.Module) -> int:
    """Number of parameters, trainable or not; a shared one counts once."""
    return sum(parameter.numel() for parameter in module.parameters())


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """In the body the network is in eval mode (batch norm refuses a batch of one value per channel)."""
    training = network.training
    network.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        network.train(training)


def multiply_adds(network: nn.Module, x_1chw: torch.Tensor) -> int:
    """Multiply-adds of convolutions and matrix products in one forward pass of ``x_1chw`` through ``network``.

    Biases, normalisation, activations and pooling are not counted, as in the papers' tables. The network is in eval
    mode for it and keeps its mode afterwards.
    """
    counted: list[int] = []
    with evaluating(network), Watch(lambda op, args, out: counted.append(macs_of(op, args, out))):
        network(x_1chw)
    return sum(counted)


@contextmanager
def _named(spec: Spec, data_spec: DataSpec) -> Iterator[None]:
    """Whatever a network raises in the body is told to the user as the reason, with its name and the image.

    Of a package's network also the legal value that is nearest, where it can be found by trying.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, ExpflowError) and error.__cause__ is None:  # it is ours, and says what to do
            raise
        shape = "x".join(map(str, data_spec.image_shape)) if "image" in data_spec.fields else "no image"
        reason = f"model {spec.name} cannot take this data ({shape}): {type(error).__name__}: {error}"
        if isinstance(error, ExpflowError):
            reason = str(error)
        if isinstance(spec, Adapter) and "image" in data_spec.fields:
            from expflow.architectures.fitting import advice

            reason += advice(spec, data_spec)
        raise UserError(reason) from error


def measured(spec: Spec, data_spec: DataSpec, measure: Callable[[nn.Module], T]) -> T:
    """What ``measure`` says of the network that ``spec`` describes, built on the meta device.

    ``measure`` creates its tensors on the default device, which is meta too. A network of the user's that does not run
    there is built for real instead. Raises :class:`UserError` with the reason when the network cannot be built, or
    ``measure`` fails.
    """

    def on(device: str) -> T:
        with torch.random.fork_rng(devices=[], enabled=device == "cpu"), torch.device(device):
            with Watch():  # says at once what drawing weights comes to where there are none
                network = build(spec, data_spec)
            return measure(network)

    with _named(spec, data_spec):
        if not isinstance(spec, Foreign):
            return on("meta")
        try:
            return on("meta")
        except Exception:  # noqa: BLE001 (the second try says whether the meta device or the network is to blame)
            return on("cpu")


def count_network(spec: Spec, data_spec: DataSpec, *, forward: bool = True) -> Count:
    """Parameters and, where ``forward``, multiply-adds of one network for one image of ``data_spec``.

    Raises :class:`UserError` with the reason when it cannot be built or cannot take such an image.
    """

    def measure(network: nn.Module) -> Count:
        macs = multiply_adds(network, torch.zeros(1, *data_spec.image_shape)) if forward else None
        return Count(count_parameters(network), macs)

    return measured(spec, data_spec, measure)


def count_task(build_task: Callable[[], nn.Module]) -> Count:
    """Parameters of a task that brings its network with it; nothing is known of its multiply-adds."""
    try:
        with torch.device("meta"):
            return Count(count_parameters(build_task()), None)
    except NotImplementedError:  # it computes with its weights while it is built
        with torch.random.fork_rng(devices=[]):
            return Count(count_parameters(build_task()), None)
