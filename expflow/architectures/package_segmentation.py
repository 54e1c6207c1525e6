"""Segmentation networks of torchvision and segmentation_models_pytorch under their own names, sized by the data."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import torchvision
from torch import nn

from expflow.architectures.specs.segmentation_names import TORCHVISION_SEGMENTATION
from expflow.data.dataspec import DataSpec
from expflow.errors import UserError

_OTHER_PARAMETERS = frozenset(
    {
        "weights",
        "progress",
        "num_classes",
        "weights_backbone",
        "encoder_weights",
        "in_channels",
        "classes",
        "activation",
    }
    | {"aux_params", "kwargs"}
)
"""Parameters that the data fill, that are about pretrained weights, or that would change scores into something else."""

DESCRIPTIONS = {
    "aux_loss": "Whether an earlier map is scored as well, which the task adds to the loss in training.",
    "decoder_attention_type": "Attention in the decoder, by the package's name (scse).",
    "decoder_channels": "Channels of the decoder's maps.",
    "encoder_depth": "How often the encoder halves the image.",
    "encoder_name": "The encoder by the package's name; tu-<name> is one of timm's.",
    "encoder_output_stride": "Pixels of the image that a value of the encoder's last map stands for, in a row.",
    "upsampling": "How many times larger the scores become at the end.",
}
"""What frequent arguments mean."""


def segmentation_models(package: str) -> tuple[str, ...]:
    """The names of the segmentation networks that a package has.

    Args:
        package: ``torchvision`` or ``smp`` (segmentation_models_pytorch).

    Raises:
        UserError: The package is not installed.
    """
    if package == "torchvision":
        return TORCHVISION_SEGMENTATION
    smp = _smp()
    base = import_module("segmentation_models_pytorch.base").SegmentationModel
    return tuple(name for name, value in vars(smp).items() if isinstance(value, type) and issubclass(value, base))


def _smp() -> Any:
    try:
        return import_module("segmentation_models_pytorch")
    except ImportError as error:
        raise UserError(
            "smp/<name> are networks of segmentation_models_pytorch, which is not installed: pip install"
            " 'expflow[segmentation]'"
        ) from error


def _maker(source: str) -> Callable[..., nn.Module]:
    package, _, name = source.partition("/")
    maker: Callable[..., nn.Module] = (
        torchvision.models.get_model_builder(name) if package == "torchvision" else getattr(_smp(), name)
    )
    return maker


def segmentation_parameters(source: str) -> dict[str, inspect.Parameter]:
    """The parameters of a segmentation network that a file may give.

    Args:
        source: ``package/name`` of one that there is.
    """
    parameters = inspect.signature(inspect.unwrap(_maker(source))).parameters
    return {name: parameter for name, parameter in sorted(parameters.items()) if name not in _OTHER_PARAMETERS}


def build_segmentation(source: str, given: Mapping[str, Any], data_spec: DataSpec) -> nn.Module:
    """A package's segmentation network with fresh weights: (b, c, h, w) -> (b, classes, h, w), or a mapping with that
    under ``out``.

    Args:
        source: ``package/name``.
        given: The arguments that the file gives.
        data_spec: The images and classes that it is for.
    """
    make = _maker(source)
    if source.startswith("torchvision/"):
        return make(weights=None, weights_backbone=None, num_classes=data_spec.num_classes, **given)
    return make(encoder_weights=None, in_channels=data_spec.in_channels, classes=data_spec.num_classes, **given)
