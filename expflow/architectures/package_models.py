"""Networks of torchvision and timm under their own names, sized by the data."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import timm
import torch
import torchvision
from torch import Tensor, nn

from expflow.architectures.constructors import Construction, torchvision_construction
from expflow.architectures.outputs import WithAuxiliary
from expflow.architectures.package_segmentation import build_segmentation
from expflow.architectures.packages import CONSTRUCTIONS, package_arguments
from expflow.architectures.specs.nearest import divisors, nearest_legal
from expflow.architectures.specs.package_models import PackageModelSpec
from expflow.data.dataspec import DataSpec
from expflow.errors import UserError


def build(spec: PackageModelSpec, data_spec: DataSpec) -> nn.Module:
    """A package's network with fresh weights: (b, c, h, w) -> (b, classes), or (b, classes, h, w) where it segments.

    In train mode a network with auxiliary classifiers gives a :class:`WithAuxiliary`, any other its scores alone.

    Args:
        spec: The network's name and arguments.
        data_spec: The images and classes that it is for.

    Raises:
        UserError: Patches do not tile the image; the message has the nearest that do.
    """
    package, _, name = spec.source.partition("/")
    if spec.detects:
        return _build_detector(spec, data_spec)
    if spec.segments:
        return _build_segmentation(spec, data_spec)
    construction = CONSTRUCTIONS[package](name, spec.arguments)
    _check_patches(spec, construction, data_spec)
    make = _build_timm if package == "timm" else _build_torchvision
    return make(name, construction, spec.arguments, data_spec)


def _build_detector(spec: PackageModelSpec, data_spec: DataSpec) -> nn.Module:
    from expflow.architectures.detectors import build_package_detector

    detector = build_package_detector(spec.source.partition("/")[2], spec.arguments, data_spec)
    if data_spec.in_channels != 3:
        _take_channels(detector, data_spec.in_channels)
    return detector


def _build_segmentation(spec: PackageModelSpec, data_spec: DataSpec) -> nn.Module:
    network = build_segmentation(spec.source, spec.arguments, data_spec)
    if spec.source.startswith("torchvision/") and data_spec.in_channels != 3:
        _take_channels(network, data_spec.in_channels)
    return network


def _check_patches(spec: PackageModelSpec, construction: Construction, data_spec: DataSpec) -> None:
    """Refuse patches that do not tile the image: a package may silently leave out the pixels that fill no patch."""
    parameters, size = construction.parameters(), data_spec.image_size
    patch, scales = parameters.get("patch_size"), parameters.get("img_scale")
    pair = (patch, patch) if isinstance(patch, int) else patch
    if not ({"img_size", "image_size"} & parameters.keys() and isinstance(pair, list | tuple) and len(pair) == 2):
        return
    tiles = _branches_tile(pair, scales) if scales else _patches_tile(pair)
    if tiles(*size) or parameters.get("dynamic_img_pad"):
        return
    if "patch_size" in package_arguments(spec.source) and not scales:
        change = f"patch_size: {nearest_legal(pair[0], divisors(math.gcd(*size)))}"
    else:
        sides = range(1, 2 * size[0] + 20 * max(pair))
        change = f"image size: {nearest_legal(size[0], [side for side in sides if tiles(side, side)])}"
    shape = "x".join(map(str, size))
    raise UserError(
        f"{spec.source}: patches of {pair[0]}x{pair[1]} pixels do not tile an image of {shape}; nearest {change}"
    )


def _patches_tile(patch: Sequence[int]) -> Callable[[int, int], bool]:
    """Whether patches of (height, width) tile an image of a height and a width."""
    return lambda height, width: not (height % patch[0] or width % patch[1])


def _branches_tile(patches: Sequence[int], scales: Sequence[float]) -> Callable[[int, int], bool]:
    """The same where each branch of a network scales the image by its own factor and has square patches of its own."""
    branches = tuple(zip(patches, scales, strict=True))
    return lambda height, width: (
        not any(int(side * scale) % patch for patch, scale in branches for side in (height, width))
    )


def _side(size: tuple[int, int]) -> int | tuple[int, int]:
    return size[0] if size[0] == size[1] else size


def _build_timm(name: str, construction: Construction, given: Mapping[str, Any], data_spec: DataSpec) -> nn.Module:
    sized: dict[str, Any] = {}
    if "img_size" in construction.parameters():
        sized["img_size"] = _side(data_spec.image_size)
    network: nn.Module = timm.create_model(
        name, pretrained=False, num_classes=data_spec.num_classes, in_chans=data_spec.in_channels, **sized, **given
    )
    return network


def _build_torchvision(
    name: str, construction: Construction, given: Mapping[str, Any], data_spec: DataSpec
) -> nn.Module:
    parameters, size = construction.parameters(), data_spec.image_size
    supplied: dict[str, Any] = {"num_classes": data_spec.num_classes}
    if "image_size" in parameters:
        if size[0] != size[1]:
            legal = " and ".join(f"{side}x{side}" for side in sorted(size))
            raise UserError(
                f"torchvision/{name} takes square images only; these are {size[0]}x{size[1]}; nearest: {legal}"
            )
        supplied["image_size"] = size[0]
    if "input_size" in parameters:
        supplied["input_size"] = size
    if "aux_logits" in parameters:
        supplied |= {"aux_logits": False, "init_weights": True}  # init_weights: as the package does, without a warning
    network = _construct(name, {**supplied, **given})
    if data_spec.in_channels != 3:
        _take_channels(network, data_spec.in_channels)
    if getattr(network, "aux_logits", False):
        network.register_forward_hook(_name_auxiliary)
    return network


def _construct(name: str, given: Mapping[str, Any]) -> nn.Module:
    if name.startswith("regnet"):  # its function computes with tensors, which must not lie on the meta device
        construction = torchvision_construction(name, given)
        return construction.cls(**construction.arguments)
    network: nn.Module = torchvision.models.get_model(name, weights=None, **given)
    return network


def _name_auxiliary(network: nn.Module, x: Any, output: Any) -> Tensor | WithAuxiliary:
    if isinstance(output, Tensor):
        return output
    return WithAuxiliary(output[0], tuple(scores for scores in output[1:] if scores is not None))


def _take_channels(network: nn.Module, channels: int) -> None:
    """Put a convolution that takes ``channels`` in the place of the first one, which takes 3.

    Its weights are drawn anew, normal, with the old ones' variance scaled so that its output keeps its variance.
    """
    path, old = next((path, module) for path, module in network.named_modules() if isinstance(module, nn.Conv2d))
    new = nn.Conv2d(
        channels,
        old.out_channels,
        old.kernel_size,  # type: ignore[arg-type] # torch annotates the attributes less exactly than the arguments
        old.stride,  # type: ignore[arg-type]
        old.padding,  # type: ignore[arg-type]
        old.dilation,  # type: ignore[arg-type]
        bias=old.bias is not None,
    )
    with torch.no_grad():
        new.weight.copy_(torch.randn_like(new.weight) * old.weight.std() * math.sqrt(old.in_channels / channels))
        if new.bias is not None and old.bias is not None:
            new.bias.copy_(old.bias)
    network.set_submodule(path, new)
