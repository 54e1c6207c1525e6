"""What a network costs, counted on the real module on the meta device: nothing is allocated, nothing is computed."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import nn

from expflow.architectures.building import build
from expflow.architectures.network_cost import NetworkCost
from expflow.architectures.operation_observer import OperationObserver, macs_of
from expflow.architectures.specs.package_models import PackageModelSpec
from expflow.config.component_specs import input_shape, model_output
from expflow.config.spec import Spec, UserComponent
from expflow.data.dataspec import DataSpec
from expflow.errors import ExpflowError, UserError
from expflow.registry import load_dotted

T = TypeVar("T")


def count_parameters(module: nn.Module) -> int:
    """Number of parameters, trainable or not; a shared one counts once.

    Args:
        module: Whose parameters, those of its children included.
    """
    return sum(parameter.numel() for parameter in module.parameters())


@contextmanager
def eval_mode(network: nn.Module) -> Iterator[None]:
    """In the body ``network`` is in eval mode and computes no gradients; afterwards it has its own mode again.

    Batch norm in train mode refuses a batch of one value per channel.

    Args:
        network: The network whose mode changes.
    """
    training = network.training
    network.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        network.train(training)


def example_inputs(spec: Spec, data_spec: DataSpec) -> tuple[torch.Tensor, ...]:
    """What a network is given of one sample, as zeros on the default device: (1, c, h, w) an image, (1, z) a vector of
    noise, (1, t) texts or colours of pixels, or an image and a text.

    A network of the user's that has to be called with more than an image is given the texts of the data, or else a time
    step (1,) int64, as tasks call it.

    Args:
        spec: The network.
        data_spec: The data.
    """
    texts = tuple(
        torch.zeros(1, *data_spec.fields[name].shape, dtype=torch.int64) for name in data_spec.of_kind("text")
    )
    if "image" not in data_spec.fields:
        return texts
    if model_output(spec) == "pixels":
        return (torch.zeros(1, data_spec.image_size[0] * data_spec.image_size[1], dtype=torch.int64),)
    image = torch.zeros(1, *input_shape(spec, data_spec.image_shape))
    if isinstance(spec, UserComponent) and _needed_inputs(spec) > 1:
        return (image, *texts) if texts else (image, torch.zeros(1, dtype=torch.int64))
    return (image, *texts) if model_output(spec) == "embeddings" else (image,)


def _needed_inputs(spec: UserComponent) -> int:
    """How many inputs a network of the user's has to be called with; 1 where its code does not say."""
    try:
        forward = inspect.signature(load_dotted(spec.name).forward)
    except (AttributeError, TypeError, ValueError):  # a function that builds one, or no Python at all
        return 1
    ordered = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    needed = [one for one in forward.parameters.values() if one.kind in ordered and one.default is one.empty]
    return len(needed) - 1  # without self


def multiply_adds(network: nn.Module, *inputs: torch.Tensor) -> int:
    """Multiply-adds of convolutions and matrix products in one forward pass in eval mode.

    Biases, normalisation, activations and pooling are not counted, as in the papers' tables.

    Args:
        network: The network; it keeps its mode.
        inputs: What it is given of one sample, as an image (1, c, h, w), on the network's device, which may be meta.
    """
    counts: list[int] = []
    with eval_mode(network), OperationObserver(lambda op, args, out: counts.append(macs_of(op, args, out))):
        network(*inputs)
    return sum(counts)


@contextmanager
def _errors_name_the_model(spec: Spec, data_spec: DataSpec) -> Iterator[None]:
    """Whatever the body raises becomes a UserError with the model's name, the image's shape and the reason.

    Of a package's network also the legal value that is nearest, where one is found by trying.
    """
    try:
        yield
    except Exception as error:
        if (
            isinstance(error, ExpflowError) and error.__cause__ is None
        ):  # one of ours already has the reason and the remedy
            raise
        shape = "x".join(map(str, data_spec.image_shape)) if "image" in data_spec.fields else "no image"
        reason = f"model {spec.name} cannot take this data ({shape}): {type(error).__name__}: {error}"
        if isinstance(error, ExpflowError):
            reason = str(error)
        if isinstance(spec, PackageModelSpec) and "image" in data_spec.fields:
            from expflow.architectures.legal_values import suggest_legal_value  # imports torchvision and timm

            reason += suggest_legal_value(spec, data_spec)
        raise UserError(reason) from error


def measure_network(spec: Spec, data_spec: DataSpec, measure: Callable[[nn.Module], T]) -> T:
    """Builds a network on the meta device and measures it there.

    A user's network that does not run on the meta device is built on the CPU instead.

    Args:
        spec: The network.
        data_spec: The images and classes that it is built for.
        measure: Called with the network; it creates its tensors on the default device, which is the network's.

    Returns:
        What ``measure`` returned.

    Raises:
        UserError: The network cannot be built, or ``measure`` failed; the message has the reason.
    """

    def measure_on(device: str) -> T:
        with torch.random.fork_rng(devices=[], enabled=device == "cpu"), torch.device(device):
            with OperationObserver():  # knows the shapes of drawn weights without torch's slow answer on meta
                network = build(spec, data_spec)
            return measure(network)

    with _errors_name_the_model(spec, data_spec):
        if not isinstance(spec, UserComponent):
            return measure_on("meta")
        try:
            return measure_on("meta")
        except Exception:  # noqa: BLE001 (the second try shows whether the meta device or the network is at fault)
            return measure_on("cpu")


def count_network(spec: Spec, data_spec: DataSpec, *, forward: bool = True) -> NetworkCost:
    """Parameters and multiply-adds of one network for one image, without allocating its weights.

    Args:
        spec: The network.
        data_spec: The image and the classes that it is built for.
        forward: Whether multiply-adds are counted, for which an image passes through the network.

    Raises:
        UserError: It cannot be built, or cannot take such an image; the message has the reason.
    """

    def measure(network: nn.Module) -> NetworkCost:
        macs = multiply_adds(network, *example_inputs(spec, data_spec)) if forward else None
        return NetworkCost(count_parameters(network), macs)

    return measure_network(spec, data_spec, measure)


def count_task(build_task: Callable[[], nn.Module]) -> NetworkCost:
    """Parameters of a task that brings its network with it; its multiply-adds are unknown.

    Args:
        build_task: Builds the task; it is called on the meta device, and again on the CPU where it does not run there.
    """
    try:
        with torch.device("meta"):
            return NetworkCost(count_parameters(build_task()), None)
    except NotImplementedError:  # it computes with its weights while it is built
        with torch.random.fork_rng(devices=[]):
            return NetworkCost(count_parameters(build_task()), None)
