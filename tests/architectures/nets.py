"""What the tests of families share: data of a size, networks without memory, and weights taken over from another."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from expflow.architectures import build
from expflow.data.dataspec import DataSpec, FieldSpec

WEIGHTED = (nn.Conv2d, nn.BatchNorm2d, nn.Linear)


def data(channels=3, size=32, classes=10, width=None):
    """The DataSpec of images, square unless a width is given."""
    shape = (channels, size, width or size)
    return DataSpec({"image": FieldSpec(shape, "uint8")}, tuple(map(str, range(classes))))


def large(channels=3, size=224, classes=1000, width=None):
    """The same, of ImageNet's size."""
    return data(channels, size, classes, width)


IMAGENET = large()


def meta(spec, data_spec):
    """The network of ``spec`` with no memory behind its weights."""
    with torch.device("meta"):
        return build(spec, data_spec)


def params(module: nn.Module) -> int:
    """Number of parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def weighted(network: nn.Module) -> list[nn.Module]:
    """Convolutions, norms and linear layers, in the order in which the network lists them."""
    return [module for module in network.modules() if isinstance(module, WEIGHTED)]


def filled(network: nn.Module) -> nn.Module:
    """A network from the meta device with memory, in eval mode: weights that keep the scale, and norms that do not."""
    generator = torch.Generator().manual_seed(1)
    network.to_empty(device="cpu")
    for module in weighted(network):
        if isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
            for tensor, low in ((module.running_mean, -0.1), (module.bias.data, -0.1)):
                tensor.uniform_(low, -low, generator=generator)
            for tensor in (module.running_var, module.weight.data):
                tensor.uniform_(0.3, 0.9, generator=generator)
        else:
            bound = math.sqrt(3 / module.weight[0].numel())
            module.weight.data.uniform_(-bound, bound, generator=generator)
            if module.bias is not None:
                module.bias.data.uniform_(-0.1, 0.1, generator=generator)
    return network.eval()


def take_over(ours: nn.Module, theirs: Sequence[nn.Module]) -> nn.Module:
    """``ours``, from the meta device, with the weights and statistics of the layers ``theirs``, pair by pair.

    Norms are paired with norms and the rest with the rest, each in order; another number or another size is an error.
    """
    ours.to_empty(device="cpu")
    mine = weighted(ours)
    for norms in (True, False):
        pairs = [[module for module in net if isinstance(module, nn.BatchNorm2d) == norms] for net in (mine, theirs)]
        for own, other in zip(*pairs, strict=True):
            state, shapes = other.state_dict(), {key: value.shape for key, value in own.state_dict().items()}
            assert {key: value.numel() for key, value in state.items()} == {k: s.numel() for k, s in shapes.items()}
            own.load_state_dict({key: value.reshape(shapes[key]) for key, value in state.items()})
    return ours.eval()


def assert_equal_outputs(spec, make_theirs, *, size=64, order=weighted):
    """``spec`` and the network that ``make_theirs`` gives have as many parameters and, with its weights, one output.

    ``order`` lists the layers of theirs in the order of ours.
    """
    with torch.device("meta"):
        theirs = make_theirs()
    ours = meta(spec, data(size=size, classes=1000))
    assert params(ours) == params(theirs)
    theirs = filled(theirs)
    ours = take_over(ours, order(theirs))
    x_bchw = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, actual = theirs(x_bchw), ours(x_bchw)
    assert expected.std() > 1e-3
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)
