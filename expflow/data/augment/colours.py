"""Changes of an image that leave its size: RandAugment, colour jitter, random erasing.

The operations are torchvision's (``transforms.v2.functional``); what is random comes from the sample's own numbers
(:mod:`expflow.data.augment.sample_random`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional

from expflow.data.augment import sample_random
from expflow.data.augment.specs import ColorJitter, RandAugment, TrainTransform

ERASED_AREA = (0.02, 0.33)
ERASED_RATIO = (0.3, 3.3)
ERASE_ATTEMPTS = 10
"""Zhong et al. 2017, table 1, as torchvision has them."""

STRONGEST = 30
"""The magnitude at which an operation of RandAugment is strongest."""

Operation = Callable[[Tensor, float], Tensor]
"""An image (channels, height, width) and a strength from -1 to 1 -> the image changed."""


class ColourAugmentation:
    """All that a training transform does after crop and flip. ``any`` is whether it does anything.

    Args:
        train: The training transform.
        mean: The data's mean colour, (channels,) from 0 to 1, with which erased rectangles are filled; empty for black.
        channels: The images' number of channels.
    """

    def __init__(self, train: TrainTransform, mean: Sequence[float], channels: int) -> None:
        self._train = train
        self._fill = torch.tensor([round(255 * value) for value in mean or [0.0] * channels], dtype=torch.uint8)
        self.any = bool(train.rand_augment or train.color_jitter or train.random_erasing)

    def __call__(self, image_chw: Tensor, key: int) -> Tensor:
        """Change an image (channels, height, width) by the numbers of a sample. The argument is left alone."""
        if self._train.rand_augment is not None:
            image_chw = rand_augment(image_chw, self._train.rand_augment, key)
        if self._train.color_jitter is not None:
            image_chw = color_jitter(image_chw, self._train.color_jitter, key)
        if sample_random.uniform(key, sample_random.ERASE_OR_NOT) < self._train.random_erasing:
            image_chw = random_erasing(image_chw, self._fill, key)
        return image_chw


def _shear(image_chw: Tensor, x: float, y: float) -> Tensor:
    shear = [math.degrees(math.atan(x)), math.degrees(math.atan(y))]
    sheared: Tensor = functional.affine(image_chw, angle=0.0, translate=[0, 0], scale=1.0, shear=shear, center=[0, 0])
    return sheared


def _translate(image_chw: Tensor, x: float, y: float) -> Tensor:
    height, width = image_chw.shape[-2:]
    shift = [int(x * 150 / 331 * width), int(y * 150 / 331 * height)]
    moved: Tensor = functional.affine(image_chw, angle=0.0, translate=shift, scale=1.0, shear=[0.0, 0.0])
    return moved


SIGNED: dict[str, Operation] = {
    "shear_x": lambda image, strength: _shear(image, 0.3 * strength, 0.0),
    "shear_y": lambda image, strength: _shear(image, 0.0, 0.3 * strength),
    "translate_x": lambda image, strength: _translate(image, strength, 0.0),
    "translate_y": lambda image, strength: _translate(image, 0.0, strength),
    "rotate": lambda image, strength: functional.rotate(image, 30.0 * strength),
    "brightness": lambda image, strength: functional.adjust_brightness(image, 1 + 0.9 * strength),
    "color": lambda image, strength: functional.adjust_saturation(image, 1 + 0.9 * strength),
    "contrast": lambda image, strength: functional.adjust_contrast(image, 1 + 0.9 * strength),
    "sharpness": lambda image, strength: functional.adjust_sharpness(image, 1 + 0.9 * strength),
}
"""Operations whose strength is drawn with a sign."""

UNSIGNED: dict[str, Operation] = {
    "identity": lambda image, strength: image,
    "posterize": lambda image, strength: functional.posterize(image, round(8 - 4 * strength)),
    "solarize": lambda image, strength: functional.solarize(image, 255.0 * (1 - strength)),
    "autocontrast": lambda image, strength: functional.autocontrast(image),
    "equalize": lambda image, strength: functional.equalize(image),
}

_OPERATIONS = tuple((SIGNED | UNSIGNED).items())


def rand_augment(image_chw: Tensor, spec: RandAugment, key: int) -> Tensor:
    """Apply some of the fourteen operations of RandAugment, drawn evenly and with repeats.

    Args:
        image_chw: An image, (channels, height, width) uint8.
        spec: How many operations, and their magnitude.
        key: The sample's key.

    Source:
        Cubuk et al. 2019, "RandAugment", figure 2.
    """
    for first in range(0, 3 * spec.operations, 3):
        name, operation = _OPERATIONS[sample_random.integer(key, sample_random.RAND_AUGMENT + first, len(_OPERATIONS))]
        negative = name in SIGNED and sample_random.uniform(key, sample_random.RAND_AUGMENT + first + 1) < 0.5
        strength = spec.magnitude / STRONGEST
        image_chw = operation(image_chw, -strength if negative else strength)
    return image_chw


def color_jitter(image_chw: Tensor, spec: ColorJitter, key: int) -> Tensor:
    """Change brightness, contrast, saturation and hue, each by a factor (hue: a shift) of its own.

    Args:
        image_chw: An image, (channels, height, width) uint8.
        spec: The ranges of the factors.
        key: The sample's key.
    """
    factors = (
        (functional.adjust_brightness, spec.brightness),
        (functional.adjust_contrast, spec.contrast),
        (functional.adjust_saturation, spec.saturation),
    )
    for number, (adjust, most) in enumerate(factors):
        if most:
            image_chw = adjust(
                image_chw,
                sample_random.uniform_between(key, sample_random.JITTER + number, max(1 - most, 0.0), 1 + most),
            )
    if spec.hue:
        image_chw = functional.adjust_hue(
            image_chw, sample_random.uniform_between(key, sample_random.JITTER + 3, -spec.hue, spec.hue)
        )
    return image_chw


def random_erasing(image_chw: Tensor, fill: Tensor, key: int) -> Tensor:
    """Fill a random rectangle with one colour.

    Args:
        image_chw: An image, (channels, height, width) uint8.
        fill: The colour, (channels,) uint8: the data's mean, which is 0 once normalised.
        key: The sample's key.

    Source:
        Zhong et al. 2017, "Random erasing data augmentation".
    """
    _, height, width = image_chw.shape
    low, high = (math.log(ratio) for ratio in ERASED_RATIO)
    for attempt in range(0, 4 * ERASE_ATTEMPTS, 4):
        area = height * width * sample_random.uniform_between(key, sample_random.ERASE + attempt, *ERASED_AREA)
        ratio = math.exp(sample_random.uniform_between(key, sample_random.ERASE + attempt + 1, low, high))
        tall, wide = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if tall < height and wide < width:
            top = sample_random.integer(key, sample_random.ERASE + attempt + 2, height - tall + 1)
            left = sample_random.integer(key, sample_random.ERASE + attempt + 3, width - wide + 1)
            erased = image_chw.clone()
            erased[:, top : top + tall, left : left + wide] = fill[:, None, None]
            return erased
    return image_chw
