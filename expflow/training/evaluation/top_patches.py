"""The parts of images that excite each feature map of a layer most, and what of them excites it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from expflow.architectures.accounting import eval_mode
from expflow.architectures.layer_outputs import find_layer, outputs_of
from expflow.architectures.layer_table import layer_field
from expflow.architectures.receptive_field import ReceptiveField
from expflow.errors import UserError
from expflow.training.evaluation.evaluator import Evaluator, Weights
from expflow.training.evaluation.guided import InversionRule, InvertedReLUs
from expflow.training.evaluation.network_inspection import as_picture

PATCHES = 9
"""Patches of a feature map (Zeiler and Fergus 2014, figure 2)."""
MOST_MAPS = 24
"""Feature maps that are shown."""
INVERSIONS: dict[InversionRule, str] = {"guided": "guided backpropagation", "deconvnet": "the deconvnet"}
"""Names of the rules in messages."""
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Patch:
    """What one unit sees of one image.

    Attributes:
        value: The unit's activation.
        picture: (height, width, channels) uint8; grey where the unit sees beyond the image's border.
        inverted: (height, width, channels) the gradient of the unit in these pixels; None where it was not asked for.
    """

    value: float
    picture: NDArray[np.uint8]
    inverted: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class TopPatches:
    """The patches of a layer.

    Attributes:
        layer: Dotted path of the layer.
        field: Height and width of its receptive field.
        whole: Whether whole images are shown, because a unit sees as much or its field cannot be told.
        maps: Number of feature maps that the layer has.
        images: Number of images that were looked through.
        patches: Of each shown map the strongest patches, the strongest first; none for a map that nothing excites.
        inverted_by: The rule by which each unit was projected back to the pixels; None where none was.
    """

    layer: str
    field: tuple[int, int] | None
    whole: bool
    maps: int
    images: int
    patches: tuple[tuple[Patch, ...], ...]
    inverted_by: InversionRule | None = None


def network_of(task: nn.Module) -> nn.Module:
    """The network whose layers have names: the task's ``model``, else the task itself.

    Args:
        task: The task.
    """
    model = getattr(task, "model", None)
    return model if isinstance(model, nn.Module) else task


def require_images(evaluator: Evaluator) -> None:
    """Refuse a task whose network cannot be looked into by showing it images.

    Args:
        evaluator: Holds network and data.

    Raises:
        UserError: The network takes noise, texts or several inputs.
    """
    task, spec = evaluator.task, evaluator.data_spec
    if callable(getattr(task, "served_inputs", None)) or not spec.of_kind("image"):
        raise UserError("layers and classes are shown by images, and this task's network takes none")
    try:
        with eval_mode(task), torch.no_grad():
            task(torch.zeros(2, *spec.image_shape))
    except Exception as error:  # whatever a network of the user's raises for what it is not made for
        raise UserError(
            "layers and classes are shown by images, and this task's network does not take images alone"
            f" ({type(error).__name__}: {error})"
        ) from error


def top_patches(
    evaluator: Evaluator, weights: Weights, layer: str, *, split: str = "val", inverted_by: InversionRule | None = None
) -> TopPatches:
    """For each feature map of a layer the images in which one of its units is excited most, and what that unit sees.

    Args:
        evaluator: Holds network and data.
        weights: The trained weights.
        layer: Dotted path of the layer.
        split: Whose images are looked through.
        inverted_by: The rule by which each unit is projected back to the pixels; None where it is not.

    Raises:
        UserError: There is no such layer, it gives no maps of channels, it cannot be inverted, or the network takes no
            images.

    Source:
        Zeiler and Fergus, Visualizing and Understanding Convolutional Networks, 2014, section 4.
    """
    require_images(evaluator)
    evaluator.put_weights(weights, "these weights")
    task, network = evaluator.task, network_of(evaluator.task)
    module = find_layer(network, layer)
    with eval_mode(task):
        best, images, shape = _strongest(task, module, evaluator.batches(split), layer)
        receptive = _receptive(evaluator, network, layer, shape)
        size = evaluator.data_spec.image_shape[1:]
        whole = receptive is None or any(seen >= side for seen, side in zip(receptive.field, size, strict=True))
        patches = []
        for units in best:
            shown = []
            for unit in units:
                box = (0, 0, *size) if whole or receptive is None else receptive.box(unit.row, unit.column)
                gradient = (
                    _inverted(task, module, images[unit.image], unit, layer, inverted_by) if inverted_by else None
                )
                shown.append(_patch(unit, images[unit.image], gradient, box))
            patches.append(tuple(shown))
    field = None if receptive is None else receptive.field
    return TopPatches(layer, field, whole, shape[0], shape[3], tuple(patches), inverted_by)


@dataclass(frozen=True)
class _Unit:
    """One position of one feature map for one image."""

    value: float
    image: int
    channel: int
    row: int
    column: int


def _strongest(
    task: nn.Module, module: nn.Module, batches: Any, layer: str
) -> tuple[list[list[_Unit]], dict[int, Tensor], tuple[int, int, int, int]]:
    """Of each map the strongest units, of one image each; the images; and (maps, rows, columns, images seen)."""
    best: list[list[_Unit]] = []
    images: dict[int, Tensor] = {}
    seen, shape = 0, (0, 0, 0)
    for batch in batches:
        image = batch["image"] if isinstance(batch, dict) and "image" in batch else None
        if image is None:
            raise UserError("the batches have no field `image`, so there is nothing to show")
        with torch.no_grad(), outputs_of(module) as outputs:
            task(image)
        maps = _maps(outputs, len(image), layer)
        valid = batch.get("valid", torch.ones(len(image), dtype=torch.bool))
        shape = (maps.shape[1], maps.shape[2], maps.shape[3])
        best = best or [[] for _ in range(min(shape[0], MOST_MAPS))]
        values, places = maps[:, : len(best)].flatten(2).max(2)
        for channel, units in enumerate(best):
            for at in values[:, channel].argsort(descending=True)[: PATCHES + int((~valid).sum())].tolist():
                if valid[at] and (value := float(values[at, channel])) > 0:
                    row, column = divmod(int(places[at, channel]), shape[2])
                    units.append(_Unit(value, seen + at, channel, row, column))
            units.sort(key=lambda unit: -unit.value)
            del units[PATCHES:]
        wanted = {unit.image for units in best for unit in units}
        images |= {seen + at: image[at].clone() for at in range(len(image)) if seen + at in wanted}
        images = {number: kept for number, kept in images.items() if number in wanted}
        seen += len(image)
    if not images:
        raise UserError(f"no image excites a feature map of {layer}: all its outputs are 0 or below")
    return best, images, (*shape, seen)


def _maps(outputs: list[Any], images: int, layer: str) -> Tensor:
    """(b, maps, rows, columns) of the layer's last call."""
    out = outputs[-1] if outputs else None
    if isinstance(out, Tensor) and out.ndim == 4 and len(out) == images:
        return out.detach().float().cpu()
    if isinstance(out, Tensor) and out.ndim == 2 and len(out) == images:
        return out.detach().float().cpu()[:, :, None, None]
    shape = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
    what = "does not run" if out is None else f"gives {shape}"
    raise UserError(
        f"{layer} {what}: patches are of layers that give (images, maps, height, width) or (images, units), such as a"
        " convolution; of a transformer show --attention"
    )


def _receptive(evaluator: Evaluator, network: nn.Module, layer: str, shape: tuple[int, ...]) -> ReceptiveField | None:
    """What a unit sees; None where it cannot be told, or the layer has one unit for the whole image."""
    if shape[1:3] == (1, 1):
        return None
    example = torch.zeros(1, *evaluator.data_spec.image_shape)
    if isinstance(network, nn.ModuleDict):  # several networks, of which the task calls the one that takes images
        network, layer = evaluator.task, f"model.{layer}"
    with torch.no_grad():
        receptive = layer_field(network, example, layer)
    return receptive if receptive is not None and receptive.layout == "chw" else None


def _inverted(
    task: nn.Module, module: nn.Module, image: Tensor, unit: _Unit, layer: str, rule: InversionRule
) -> Tensor:
    """(c, h, w) the gradient of a unit in the pixels."""
    pixels = image[None].float().requires_grad_()
    with torch.enable_grad(), outputs_of(module) as outputs, InvertedReLUs(rule) as relus:
        task(pixels)
        out = outputs[-1]
        value = out[0, unit.channel, unit.row, unit.column] if out.ndim == 4 else out[0, unit.channel]
    if relus.others and not relus.relus:
        raise UserError(
            f"{INVERSIONS[rule]} follows ReLUs, and this network has other activations; take --top-patches, or --dream"
        )
    if not value.requires_grad:
        raise UserError(f"{layer} does not follow from the pixels by operations with gradients; it cannot be inverted")
    return torch.autograd.grad(value, pixels)[0][0].detach()


def _patch(unit: _Unit, image: Tensor, gradient: Tensor | None, box: Box) -> Patch:
    picture = _cut(torch.from_numpy(as_picture(image).copy()), box, 128).numpy()
    inverted = None
    if gradient is not None:
        inverted = _cut(gradient.permute(1, 2, 0).double(), box, 0.0).numpy()
    return Patch(unit.value, picture, inverted)


def _cut(picture_hwc: Tensor, box: Box, beyond: float) -> Tensor:
    """A part of a picture; ``beyond`` where the box reaches over its border."""
    top, left, bottom, right = box
    height, width = picture_hwc.shape[:2]
    part = torch.full((bottom - top, right - left, picture_hwc.shape[2]), beyond, dtype=picture_hwc.dtype)
    rows, columns = (max(top, 0), min(bottom, height)), (max(left, 0), min(right, width))
    if rows[0] < rows[1] and columns[0] < columns[1]:
        inside = picture_hwc[rows[0] : rows[1], columns[0] : columns[1]]
        part[rows[0] - top : rows[1] - top, columns[0] - left : columns[1] - left] = inside
    return part
