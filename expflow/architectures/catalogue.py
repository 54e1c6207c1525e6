"""All architectures by name, what each one takes, and the data that it is shown with. Torch-free."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

from pydantic_core import to_jsonable_python

from expflow.architectures.specs.adapters import Adapter
from expflow.config.spec import Spec
from expflow.data.dataspec import DataSpec, FieldSpec
from expflow.registry import MODELS

IMAGENET, CIFAR, MNIST = ((3, 224, 224), 1000), ((3, 32, 32), 10), ((1, 28, 28), 10)

USUAL: dict[str, tuple[tuple[int, int, int], int]] = {
    "alexnet": ((3, 227, 227), 1000),
    "lecture_net": MNIST,
    "lenet5": ((1, 32, 32), 10),
    "linear": CIFAR,
    "mlp": CIFAR,
    "perceptron": CIFAR,
    "two_layer": CIFAR,
}
"""Image shape and number of classes with which an architecture is shown; any other: ImageNet's."""


@dataclass(frozen=True)
class Argument:
    """One key of an architecture. ``default`` is None where there is none, and where it depends on other keys."""

    name: str
    description: str
    required: bool
    default: Any


@dataclass(frozen=True)
class Entry:
    """One architecture: its name in YAML, what it is, and its keys."""

    name: str
    summary: str
    arguments: tuple[Argument, ...]


def entry(name: str) -> Entry:
    """What is known of the architecture ``name``. Raises :class:`~expflow.errors.UnknownName`."""
    cls = MODELS.spec(name)
    text = inspect.cleandoc(cls.__doc__ or "").partition("\n\n")[0].replace("\n", " ").replace("``", "")
    arguments = [
        Argument(
            key,
            field.description or "",
            field.is_required(),
            None if field.is_required() else to_jsonable_python(field.get_default(call_default_factory=True)),
        )
        for key, field in cls.model_fields.items()
        if key != "name"
    ]
    return Entry(name, text, tuple(arguments))


def catalogue() -> list[Entry]:
    """Every architecture that has a name of its own, sorted."""
    return [entry(name) for name in MODELS.names()]


def shown_with(shape: tuple[int, int, int], classes: int) -> DataSpec:
    """Data of images of ``shape`` (channels, height, width) and so many classes, without any images."""
    return DataSpec({"image": FieldSpec(shape, "uint8")}, tuple(f"class {number}" for number in range(classes)))


def usual_data(spec: Spec, shape: tuple[int, int, int] | None = None, classes: int | None = None) -> DataSpec:
    """The data that ``spec`` is shown with, unless ``shape`` and ``classes`` say otherwise."""
    usual_shape, usual_classes = USUAL.get(spec.name, IMAGENET)
    if getattr(spec, "layout", None) == "cifar":
        usual_shape, usual_classes = CIFAR
    elif isinstance(spec, Adapter) and shape is None:
        from expflow.architectures import packages  # imports the package, which alone knows

        usual_shape = packages.usual_shape(spec.source)
    return shown_with(shape or usual_shape, classes or usual_classes)


def arguments_of(spec: Spec) -> tuple[Argument, ...]:
    """The keys that ``spec`` takes, those of a package's network included (which imports the package)."""
    own = entry(spec.name).arguments if spec.name in MODELS else ()
    if not isinstance(spec, Adapter):
        return own
    from expflow.architectures import packages

    theirs = packages.arguments(spec.source).items()
    return (*own, *(Argument(key, each.description, False, to_jsonable_python(each.default)) for key, each in theirs))
