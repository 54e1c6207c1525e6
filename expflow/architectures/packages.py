"""Networks that torchvision and timm register: their names and arguments, listed, described and checked."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import timm
import torchvision

from expflow.architectures.constructors import (
    Construction,
    documented_parameters,
    timm_construction,
    torchvision_construction,
)
from expflow.architectures.package_segmentation import DESCRIPTIONS as SEGMENTATION_DESCRIPTIONS
from expflow.architectures.package_segmentation import segmentation_models, segmentation_parameters
from expflow.architectures.specs.detection_names import TORCHVISION_DETECTION
from expflow.config.identity import canonical_json
from expflow.config.spec import FieldError
from expflow.config.validation import unknown_key
from expflow.errors import UserError, nearest

CONSTRUCTIONS: dict[str, Callable[[str, Mapping[str, Any]], Construction]] = {
    "timm": timm_construction,
    "torchvision": torchvision_construction,
}

FILLED_BY_DATA = frozenset(
    {"num_classes", "classes", "in_chans", "in_channels", "img_size", "image_size", "input_size"}
)
"""Parameters whose values come from the data."""

NOT_FOR_FILES = frozenset({"cfg", "device", "dtype", "init_weights", "transform_input"})
"""Parameters that are not about the network, or that presume the pixels of pretrained weights."""

DESCRIPTIONS = {
    "act_layer": "Non-linearity, by timm's name.",
    "attention_dropout": "Probability to drop a weight of the attention.",
    "attn_drop_rate": "Probability to drop a weight of the attention.",
    "aux_logits": "Auxiliary classifiers that help to train; off unless asked for.",
    "block_config": "Layers of each dense block.",
    "bn_size": "Channels of a bottleneck, in units of the growth rate.",
    "depth": "Number of layers.",
    "depths": "Layers of each stage.",
    "dims": "Channels of each stage.",
    "drop_path_rate": "Stochastic depth: probability to skip the last block for a sample.",
    "drop_rate": "Probability to drop a value that the head sees.",
    "dropout": "Probability to drop a value.",
    "embed_dim": "Features of each token.",
    "global_pool": "How the head sees the last map, by timm's name.",
    "groups": "Groups of the inner convolutions.",
    "growth_rate": "Channels that a dense layer adds.",
    "layers": "Blocks of each stage.",
    "memory_efficient": "Compute again in the backward pass rather than keep.",
    "mlp_ratio": "Hidden units of each feed-forward, in units of the width.",
    "norm_layer": "Normalisation, by timm's name.",
    "num_heads": "Attentions side by side in each layer.",
    "patch_size": "Height and width of a patch in pixels.",
    "stochastic_depth_prob": "Stochastic depth: probability to skip the last block for a sample.",
    "width_mult": "Channels of every layer, in units of the paper's.",
    "width_per_group": "Channels of a group in the first stage.",
    "window_size": "Height and width of an attention window, in tokens.",
    "zero_init_residual": "Each residual block begins as its shortcut.",
}
"""What frequent arguments mean, where the package's own documentation is silent."""

_PLAIN = (bool, int, float, str)


@dataclass(frozen=True)
class PackageArgument:
    """An argument of a package's network.

    Attributes:
        default: Its value where a file gives none; None also where YAML could not express it.
        annotation: Its annotation in the package.
        description: What it means.
    """

    default: Any
    annotation: Any
    description: str


@functools.cache
def package_models(package: str) -> tuple[str, ...]:
    """The names of the classification networks that a package registers.

    Args:
        package: ``torchvision`` or ``timm``.
    """
    if package == "torchvision":
        return tuple(torchvision.models.list_models(module=torchvision.models))
    return tuple(name for name in timm.list_models() if _classifies(name))


def _classifies(name: str) -> bool:
    return not name.endswith("_enc")  # timm's towers of language models: maps, whatever num_classes says


@functools.cache
def package_arguments(source: str) -> dict[str, PackageArgument]:
    """The arguments that a file may give to a package's network, sorted by name.

    Those that the package fixes for this name are left out.

    Args:
        source: ``package/name``.

    Raises:
        UserError: The package has no such network; the message has the nearest name.
    """
    package, _, name = source.partition("/")
    segments = segmentation_models(package) if package != "timm" else ()
    if name in segments:
        return _segmentation_arguments(source)
    detects = TORCHVISION_DETECTION if package == "torchvision" else ()
    if name in detects:
        return _detection_arguments(source)
    classify = package_models(package) if package in CONSTRUCTIONS else ()
    if name not in classify:
        raise _no_such_network(package, name, classify, segments, detects)
    construct = CONSTRUCTIONS[package]
    usual = construct(name, {})
    words = {**DESCRIPTIONS, **documented_parameters(usual.cls)}
    elsewhere = f"As in {usual.cls.__module__}.{usual.cls.__qualname__}."
    taken: dict[str, PackageArgument] = {}
    for key, value in sorted(usual.parameters().items()):
        annotation = usual.annotation(key)
        if (
            key not in FILLED_BY_DATA | NOT_FOR_FILES
            and _yaml_can_give(value, annotation)
            and _is_passed_on(construct, name, key, value)
        ):
            default = False if key == "aux_logits" else value
            taken[key] = PackageArgument(
                default if _is_plain(default) else None, annotation, words.get(key) or elsewhere
            )
    return taken


def _no_such_network(
    package: str, name: str, classify: Sequence[str], segments: Sequence[str], detects: Sequence[str]
) -> UserError:
    """The error that names the network which is nearest among those of the package."""
    known = (*classify, *segments, *detects)
    close = nearest(name, known)
    hint = f"nearest: {package}/{close}" if close else f"it has {len(known)} others, such as {known[0]}"
    words = {"classification": classify, "segmentation": segments, "detection": detects}
    kinds = " or ".join(kind for kind, names in words.items() if names)
    return UserError(f"{package} has no {kinds} network named {name!r}; {hint}")


def _detection_arguments(source: str) -> dict[str, PackageArgument]:
    from expflow.architectures.detectors import package_detector_parameters

    parameters = package_detector_parameters(source.partition("/")[2])
    return {
        key: PackageArgument(parameter.default, parameter.annotation, f"As in {source}.")
        for key, parameter in parameters.items()
    }


def _segmentation_arguments(source: str) -> dict[str, PackageArgument]:
    taken: dict[str, PackageArgument] = {}
    for key, parameter in segmentation_parameters(source).items():
        default = False if key == "aux_loss" else parameter.default
        words = SEGMENTATION_DESCRIPTIONS.get(key) or f"As in {source}."
        taken[key] = PackageArgument(default if _is_plain(default) else None, parameter.annotation, words)
    return taken


def _is_plain(value: Any) -> bool:
    """Whether YAML can express the value."""
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, _PLAIN)


def _yaml_can_give(value: Any, annotation: Any) -> bool:
    """Whether a parameter can be given by YAML: not one that takes nothing but classes and functions."""
    text = str(annotation)
    takes_objects = any(word in text for word in ("Callable", "Module", "Cfg", "Config", "Dict", "dict"))
    return not (takes_objects and "str" not in text) and (_is_plain(value) or "str" in text)


def _is_passed_on(construct: Callable[[str, Mapping[str, Any]], Construction], name: str, key: str, value: Any) -> bool:
    """Whether the package passes an argument of the caller's on to the network, rather than choosing it itself."""
    try:
        return key in construct(name, {key: value}).arguments
    except TypeError:  # given twice
        return False
    except Exception:  # noqa: BLE001 (the package's own code computes with it: then it does take it)
        return True


def check_package_model(source: str, given: Mapping[str, Any]) -> frozenset[str]:
    """Refuses a name that the package does not know and arguments that it does not take.

    Args:
        source: ``package/name``.
        given: The arguments as the file gives them.

    Returns:
        The names of those arguments that are given their default value.

    Raises:
        FieldError: The package has no such network, or it does not take an argument, or not of this type.
    """
    try:
        known = package_arguments(source)
    except UserError as error:
        raise FieldError("name", str(error)) from error
    for key, value in given.items():
        if key in FILLED_BY_DATA:
            raise FieldError(key, f"{source} takes it from the data; remove it here")
        if key not in known:
            raise FieldError(key, _refusal(source, key, known))
        _check_type(key, value, known[key].annotation)
    return frozenset(key for key, value in given.items() if _same(value, known[key].default))


def _refusal(source: str, key: str, known: Mapping[str, PackageArgument]) -> str:
    package, _, name = source.partition("/")
    classifies = package in CONSTRUCTIONS and name in package_models(package)
    if classifies and key in CONSTRUCTIONS[package](name, {}).parameters():
        return f"{source} fixes it; it takes {', '.join(known)}"
    message = unknown_key(key, known)
    return message if "expected one of" in message else f"{message}; it takes {', '.join(sorted(known))}"


def _check_type(key: str, value: Any, annotation: Any) -> None:
    """Refuse a value that is certainly of the wrong type, which only annotations of plain types tell."""
    allowed = {kind for kind in (get_args(annotation) or (annotation,)) if kind is not type(None)}
    if not allowed or not allowed <= set(_PLAIN):
        return
    if float in allowed:
        allowed.add(int)
    if type(value) not in allowed:
        words = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
        expected = " or ".join(
            words[kind] for kind in _PLAIN if kind in allowed and not (kind is int and float in allowed)
        )
        raise FieldError(key, f"expected {expected}, found {value!r}")


def _same(value: Any, default: Any) -> bool:
    return default is not None and canonical_json(value) == canonical_json(default)


def usual_image_shape(source: str) -> tuple[int, int, int]:
    """(channels, height, width) of the images that a network is published for.

    Args:
        source: ``package/name``.
    """
    package, _, name = source.partition("/")
    if package == "timm":
        config = timm.get_pretrained_cfg(name)
        return (3, 224, 224) if config is None else config.input_size
    size = 299 if name == "inception_v3" else 224
    return 3, size, size
