"""Building blocks by name: activations, normalisations, pooling, initialisation, dropout and stochastic depth.

The names are those of ``expflow.architectures.specs.blocks``.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor, nn

from expflow.errors import UnknownName

__all__ = [
    "ACTIVATIONS",
    "INITS",
    "NORMS",
    "SqueezeExcitation",
    "StochasticDepth",
    "activation",
    "dropout",
    "init_weights",
    "norm1d",
    "norm2d",
    "pool2d",
]

LEAK = 0.1
"""Slope of leaky_relu below zero, max(0.1 x, x), as courses print it; torch's own default is 0.01."""

GROUPS = 32
"""Groups of group norm where they divide the channels (Wu and He 2018, "Group Normalization", section 4.1)."""


def _leaky_relu() -> nn.Module:
    return nn.LeakyReLU(LEAK)


ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "leaky_relu": _leaky_relu,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "mish": nn.Mish,
    "hard_swish": nn.Hardswish,
    "softplus": nn.Softplus,
}


def _group_norm(channels: int) -> nn.Module:
    return nn.GroupNorm(math.gcd(GROUPS, channels), channels)


def _layer_norm(channels: int) -> nn.Module:
    return nn.GroupNorm(1, channels)  # over channels and pixels of one sample, as Wu and He define it for images


def _instance_norm(channels: int) -> nn.Module:
    return nn.GroupNorm(channels, channels)  # unlike torch's InstanceNorm2d it also takes maps of one pixel


def _local_response_norm(channels: int) -> nn.Module:
    # AlexNet section 3.3: n = 5, k = 2, alpha = 1e-4, beta = 0.75; torch divides alpha by n, the paper does not
    return nn.LocalResponseNorm(5, alpha=5 * 1e-4, beta=0.75, k=2.0)


def _no_norm(channels: int) -> nn.Module:
    return nn.Identity()


NORMS: dict[str, Callable[[int], nn.Module]] = {
    "none": _no_norm,
    "batch": nn.BatchNorm2d,
    "layer": _layer_norm,
    "group": _group_norm,
    "instance": _instance_norm,
    "local_response": _local_response_norm,
}

FEATURE_NORMS: dict[str, Callable[[int], nn.Module]] = {
    "none": _no_norm,
    "batch": nn.BatchNorm1d,
    "layer": nn.LayerNorm,
}

POOLS: dict[str, Callable[..., nn.Module]] = {"max": nn.MaxPool2d, "average": nn.AvgPool2d}


def activation(name: str) -> nn.Module:
    """A non-linearity; elementwise, not in place.

    Args:
        name: A key of :data:`ACTIVATIONS`.

    Raises:
        UnknownName: There is none of this name.
    """
    if name not in ACTIVATIONS:
        raise UnknownName("activation", name, list(ACTIVATIONS))
    return ACTIVATIONS[name]()


def norm2d(name: str, channels: int) -> nn.Module:
    """A normalisation of maps (b, c, h, w); the identity for ``none``.

    Group norm has 32 groups, or the largest divisor of 32 that divides the channels.

    Args:
        name: A key of :data:`NORMS`.
        channels: Channels of the maps.

    Raises:
        UnknownName: There is none of this name.
    """
    if name not in NORMS:
        raise UnknownName("normalisation", name, list(NORMS))
    return NORMS[name](channels)


def norm1d(name: str, features: int) -> nn.Module:
    """A normalisation of vectors (b, features); the identity for ``none``.

    Args:
        name: A key of :data:`FEATURE_NORMS`: none, batch or layer.
        features: Length of the vectors.

    Raises:
        UnknownName: There is none of this name.
    """
    if name not in FEATURE_NORMS:
        raise UnknownName("normalisation of vectors", name, list(FEATURE_NORMS))
    return FEATURE_NORMS[name](features)


def pool2d(name: str, kernel: int, stride: int | None = None, padding: int = 0, *, ceil: bool = False) -> nn.Module:
    """Pooling in square windows.

    Args:
        name: A key of :data:`POOLS`: max or average.
        kernel: Height and width of a window in pixels.
        stride: Pixels between two windows; by default ``kernel``, so that windows do not overlap.
        padding: Pixels added around the map.
        ceil: Whether a window that reaches over the border also counts.

    Raises:
        UnknownName: There is none of this name.
    """
    if name not in POOLS:
        raise UnknownName("pooling", name, list(POOLS))
    return POOLS[name](kernel, stride or kernel, padding, ceil_mode=ceil)


def dropout(probability: float) -> nn.Module:
    """Dropout of single values, or the identity where ``probability`` is 0.

    Args:
        probability: Probability to drop a value.
    """
    return nn.Dropout(probability) if probability else nn.Identity()


class StochasticDepth(nn.Module):
    """Leaves a sample's branch out of the sum, in train mode; the branches kept are scaled up.

    Args:
        probability: Probability to leave a sample's branch out.

    Source:
        Huang et al. 2016, "Deep Networks with Stochastic Depth", section 3, where scaling is left to the test instead.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.p = probability

    def forward(self, x: Tensor) -> Tensor:
        """(b, …) -> (b, …), with whole samples set to 0."""
        if not self.training or self.p == 0:
            return x
        kept = x.new_empty(x.shape[0], *(1 for _ in x.shape[1:])).bernoulli_(1 - self.p)
        return x * (kept / (1 - self.p) if self.p < 1 else kept)


class SqueezeExcitation(nn.Module):
    """Scales each channel by what two small layers make of the means of all channels: (b, c, h, w) -> (b, c, h, w).

    Args:
        channels: Channels of the maps.
        squeezed: Channels between the two layers.

    Source:
        Hu et al. 2018, "Squeeze-and-Excitation Networks", section 3.
    """

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1, self.fc2 = nn.Conv2d(channels, squeezed, 1), nn.Conv2d(squeezed, channels, 1)
        self.activation, self.scale_activation = nn.ReLU(), nn.Sigmoid()

    def forward(self, x_bchw: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, c, h, w), each channel times its scale between 0 and 1."""
        squeezed = self.activation(self.fc1(self.avgpool(x_bchw)))
        scale: Tensor = self.scale_activation(self.fc2(squeezed))
        return scale * x_bchw


def _he_fan_in(weight: Tensor) -> Tensor:
    return nn.init.kaiming_normal_(weight, mode="fan_in", nonlinearity="relu")


def _he_fan_out(weight: Tensor) -> Tensor:
    return nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu")


def _normal(weight: Tensor) -> Tensor:
    return nn.init.normal_(weight, std=0.01)  # AlexNet section 5


INITS: dict[str, Callable[[Tensor], Tensor] | None] = {
    "torch": None,
    "he_fan_in": _he_fan_in,
    "he_fan_out": _he_fan_out,
    "xavier": nn.init.xavier_uniform_,
    "normal": _normal,
    "orthogonal": nn.init.orthogonal_,
}


def init_weights(module: nn.Module, scheme: str) -> None:
    """Draws the weights of all convolutions and linear layers in ``module`` in place; their biases become 0.

    Args:
        module: The network.
        scheme: ``he_fan_in``, ``he_fan_out``: normal, variance 2 / fan (He et al. 2015, "Delving Deep into Rectifiers",
            section 2.2). ``xavier``: uniform, variance 2 / (fan-in + fan-out) (Glorot and Bengio 2010, equation 16).
            ``normal``: standard deviation 0.01 (Krizhevsky et al. 2012, section 5). ``orthogonal``: Saxe et al. 2014.
            ``torch``: all stays as torch drew it.

    Raises:
        UnknownName: There is no such scheme.
    """
    if scheme not in INITS:
        raise UnknownName("initialisation", scheme, list(INITS))
    draw = INITS[scheme]
    if draw is None:
        return
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            draw(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
