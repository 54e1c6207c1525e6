"""The size that images have after the transforms, worked out without torch and without reading an image."""

from __future__ import annotations

from dataclasses import dataclass, replace

from expflow.data.augment.specs import AugmentedSourceSpec
from expflow.data.dataspec import DataSpec, FieldSpec
from expflow.errors import UserError

VARIES = 0
"""Height and width of a stored field whose samples differ in size."""

MARGIN = 8 / 7
"""What images that differ in size are resized to before the centre crop, as a multiple of it: 256 for 224."""

Size = tuple[int, int]
"""(height, width)."""


@dataclass(frozen=True)
class ImageSizes:
    """The sizes of eval's operations, and of the results of both modes, in pixels.

    Attributes:
        resize: The shorter side after the resize of eval; None where it does not resize.
        crop: Height and width of the centre crop of eval; None where it does not crop.
        eval: (height, width) of evaluated images.
        train: (height, width) of training images.
        letterbox: Whether eval resizes the longer side to that of ``eval``, and pads.
    """

    resize: int | None
    crop: int | None
    eval: Size
    train: Size
    letterbox: bool = False


def stored_size(field: FieldSpec) -> Size | None:
    """(height, width) of stored images; None where they differ in size.

    Args:
        field: How the images are stored.
    """
    _, height, width = field.shape
    return None if field.varies or VARIES in (height, width) else (height, width)


def image_sizes(stored: Size | None, spec: AugmentedSourceSpec) -> ImageSizes:
    """The sizes that a spec leads to.

    Args:
        stored: (height, width) of the stored images; None where they differ.
        spec: The source's spec.

    Raises:
        UserError: Images that differ in size would stay so, or a crop is larger than what it is taken from.
    """
    if spec.letterbox and spec.image_size is not None:
        square = (spec.image_size, spec.image_size)
        return ImageSizes(None, None, square, _train_size(square, spec), letterbox=True)
    crop = spec.eval.center_crop or spec.image_size
    resize = spec.eval.resize
    if crop is None and stored is None:
        raise UserError("the images differ in size; write data.image_size, so that they fit into one batch")
    if resize is None and crop is not None:
        resize = round(crop * MARGIN) if stored is None else crop
    if stored is not None and resize == min(stored):
        resize = None
    seen = (crop, crop) if crop is not None else after_resize(stored or (0, 0), resize)
    inside = after_resize(stored, resize) if stored is not None else (resize or 0, resize or 0)
    if min(inside) < (crop or 0):
        raise UserError(
            f"data.eval.center_crop: {crop} is larger than the image of {inside[0]} x {inside[1]} pixels it is cut from"
        )
    if crop is not None and inside == seen and stored is not None:
        crop = None
    return ImageSizes(resize, crop, seen, _train_size(seen, spec))


def _train_size(seen: Size, spec: AugmentedSourceSpec) -> Size:
    crop = spec.train.random_resized_crop
    size = (crop.size, crop.size) if crop is not None and crop.size is not None else seen
    if crop is not None and 0 < crop.probability < 1 and size != seen:
        raise UserError(
            f"data.train.random_resized_crop.size: {size[0]} with a probability of {crop.probability:g} would give"
            f" images of two sizes; without it they have {seen[0]} x {seen[1]} pixels"
        )
    return seen if crop is None or crop.probability == 0 else size


def after_resize(size: Size, shorter: int | None) -> Size:
    """(height, width) of a resized image that keeps its proportion, rounded as torchvision does.

    Args:
        size: (height, width) before.
        shorter: The shorter side afterwards; None leaves the size as it is.
    """
    height, width = size
    if shorter is None or min(size) == shorter:
        return size
    return (shorter, int(shorter * width / height)) if height <= width else (int(shorter * height / width), shorter)


def inside_square(size: Size, side: int) -> Size:
    """(height, width) of an image that is resized until it fills a square one way, and keeps its proportion.

    Args:
        size: (height, width) before.
        side: Height and width of the square.
    """
    height, width = size
    if height >= width:
        return side, max(1, (2 * side * width + height) // (2 * height))
    return max(1, (2 * side * height + width) // (2 * width)), side


def seen_by_model(data: DataSpec, spec: object) -> DataSpec:
    """The data's description with the image size that the model is given, which is that of eval.

    Args:
        data: How the data are stored.
        spec: The source's spec; one without transforms leaves the size as it is.

    Raises:
        UserError: As :func:`image_sizes`.
    """
    if not isinstance(spec, AugmentedSourceSpec) or "image" not in data.fields:
        return data
    height, width = image_sizes(stored_size(data.fields["image"]), spec).eval
    return replace(data, fields={name: field.resized(height, width) for name, field in data.fields.items()})
