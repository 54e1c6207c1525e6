"""All architectures by name, what each one takes, and the data that it is shown with. Torch-free."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

from pydantic_core import to_jsonable_python

from expflow.architectures.specs.clip import CLIPSpec
from expflow.architectures.specs.densenet import DenseNetSpec
from expflow.architectures.specs.igpt import IGPTSpec
from expflow.architectures.specs.package_models import PackageModelSpec
from expflow.architectures.specs.resnet import ResNetSpec
from expflow.architectures.specs.transformer import TransformerSpec
from expflow.config.spec import Spec
from expflow.data.dataspec import DataSpec, FieldSpec
from expflow.registry import MODELS

IMAGENET, CIFAR, MNIST = ((3, 224, 224), 1000), ((3, 32, 32), 10), ((1, 28, 28), 10)
VOC = ((3, 224, 224), 21)

USUAL_IMAGES: dict[str, tuple[tuple[int, int, int], int]] = {
    "deconvnet": VOC,
    **dict.fromkeys(("detr", "faster_rcnn", "fcos", "mask_rcnn", "retinanet", "ssd"), ((3, 224, 224), 91)),
    "keypoint_rcnn": ((3, 224, 224), 1),
    "encoder_decoder": VOC,
    "fcn": VOC,
    "segnet": VOC,
    "alexnet": ((3, 227, 227), 1000),
    **dict.fromkeys(("dcgan_generator", "dcgan_discriminator"), ((3, 64, 64), 10)),
    **dict.fromkeys(("pix2pix_generator", "patch_discriminator", "resnet_generator"), ((3, 256, 256), 10)),
    "context_encoder": ((3, 128, 128), 10),
    "lecture_net": MNIST,
    "lenet5": ((1, 32, 32), 10),
    "linear": CIFAR,
    "mlp": CIFAR,
    "perceptron": CIFAR,
    "two_layer": CIFAR,
}
"""Image shape and number of classes with which an architecture is shown; any other: ImageNet's."""


@dataclass(frozen=True)
class ArgumentDescription:
    """One key of an architecture.

    Attributes:
        name: The key in YAML.
        description: What it means.
        required: Whether it has no default.
        default: Its default as JSON; None where there is none, and where it depends on other keys.
    """

    name: str
    description: str
    required: bool
    default: Any


@dataclass(frozen=True)
class ArchitectureDescription:
    """One architecture.

    Attributes:
        name: Its name in YAML.
        summary: What it is, in one sentence.
        arguments: Its keys in order.
    """

    name: str
    summary: str
    arguments: tuple[ArgumentDescription, ...]


def describe_architecture(name: str) -> ArchitectureDescription:
    """What an architecture is and which keys it takes.

    Args:
        name: Its name in YAML.

    Raises:
        UnknownName: There is none of this name; from the registry.
    """
    cls = MODELS.spec(name)
    text = inspect.cleandoc(cls.__doc__ or "").partition("\n\n")[0].replace("\n", " ").replace("``", "")
    arguments = [
        ArgumentDescription(
            key,
            field.description or "",
            field.is_required(),
            None if field.is_required() else to_jsonable_python(field.get_default(call_default_factory=True)),
        )
        for key, field in cls.model_fields.items()
        if key != "name"
    ]
    return ArchitectureDescription(name, text, tuple(arguments))


def catalogue() -> list[ArchitectureDescription]:
    """Every architecture that has a name of its own, sorted by name."""
    return [describe_architecture(name) for name in MODELS.names()]


def image_data_spec(shape: tuple[int, int, int], classes: int) -> DataSpec:
    """The description of image data of which there are no images.

    Args:
        shape: (channels, height, width) of an image in pixels.
        classes: Number of classes.
    """
    return DataSpec({"image": FieldSpec(shape, "uint8")}, tuple(f"class {number}" for number in range(classes)))


def text_data_spec(length: int = 64, tokens: int = 37_000) -> DataSpec:
    """The description of pairs of texts of which there are none.

    Args:
        length: Tokens of the longest text.
        tokens: Of each vocabulary; by default about that of Vaswani et al. 2017.
    """
    field = FieldSpec((length,), "int64", kind="text", vocabulary=tuple(map(str, range(tokens))))
    return DataSpec({"source": field, "target": field})


def caption_data_spec(shape: tuple[int, int, int], length: int = 77, tokens: int = 49_408) -> DataSpec:
    """The description of images with texts of which there are none.

    Args:
        shape: (channels, height, width) of an image in pixels.
        length: Tokens of the longest text; by default, as those below, of Radford et al. 2021.
        tokens: Of the vocabulary.
    """
    field = FieldSpec((length,), "int64", kind="text", vocabulary=tuple(map(str, range(tokens))))
    return DataSpec({"image": FieldSpec(shape, "uint8"), "text": field})


def palette_data_spec(shape: tuple[int, int, int] = CIFAR[0], colours: int = 512) -> DataSpec:
    """The description of images with a palette of which there are none.

    Args:
        shape: (channels, height, width) of an image in pixels; by default, as the colours, of Chen et al. 2020.
        colours: Of the palette.
    """
    palette = tuple((number % 256,) * shape[0] for number in range(colours))
    return DataSpec({"image": FieldSpec(shape, "uint8", palette=palette)})


def usual_data(spec: Spec, shape: tuple[int, int, int] | None = None, classes: int | None = None) -> DataSpec:
    """The data that an architecture is shown with.

    Args:
        spec: The architecture; of a package's network the package is imported, which alone knows.
        shape: (channels, height, width) instead of the usual one.
        classes: Number of classes instead of the usual one.
    """
    if isinstance(spec, TransformerSpec):
        return text_data_spec()
    if isinstance(spec, CLIPSpec):
        return caption_data_spec(shape or IMAGENET[0])
    if isinstance(spec, IGPTSpec):
        return palette_data_spec(shape or CIFAR[0])
    usual_shape, usual_classes = USUAL_IMAGES.get(spec.name, IMAGENET)
    if isinstance(spec, ResNetSpec | DenseNetSpec) and spec.layout == "cifar":
        usual_shape, usual_classes = CIFAR
    elif isinstance(spec, PackageModelSpec) and shape is None:
        from expflow.architectures.packages import usual_image_shape  # imports torchvision and timm

        usual_shape = usual_image_shape(spec.source)
    if isinstance(spec, PackageModelSpec) and spec.segments:
        usual_classes = VOC[1]
    return image_data_spec(shape or usual_shape, classes or usual_classes)


def arguments_of(spec: Spec) -> tuple[ArgumentDescription, ...]:
    """The keys that an architecture takes, those of a package's network included.

    Args:
        spec: The architecture; of a package's network the package is imported.
    """
    own = describe_architecture(spec.name).arguments if spec.name in MODELS else ()
    if not isinstance(spec, PackageModelSpec):
        return own
    from expflow.architectures.packages import package_arguments  # imports torchvision and timm

    theirs = (
        ArgumentDescription(key, argument.description, False, to_jsonable_python(argument.default))
        for key, argument in package_arguments(spec.source).items()
    )
    return (*own, *theirs)
