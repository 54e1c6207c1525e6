"""Resizing and padding images, and copying them into a batch's memory. Images are uint8 from beginning to end."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from expflow.data.augment.sizes import Size


def resized(pixels_hwc: NDArray[np.uint8], size: Size) -> Tensor:
    """Resize an image, bilinear with antialiasing, as torchvision does.

    Args:
        pixels_hwc: The image, (height, width, channels).
        size: (height, width) of the result.

    Returns:
        The image as (channels, *size), which may share the argument's memory.
    """
    height, width, channels = pixels_hwc.shape
    # Torch takes no memory that it must not write to, such as Pillow's.
    owned = np.ascontiguousarray(pixels_hwc) if pixels_hwc.flags.writeable else pixels_hwc.copy()
    image_hwc = torch.from_numpy(owned)
    # Strides that say "channels last" for a batch of one, too, lead to the faster of torch's two ways, and out of it.
    strides = (height * width * channels, 1, width * channels, channels)
    image_bchw = image_hwc.as_strided((1, channels, height, width), strides)
    if (height, width) != size:
        image_bchw = functional.interpolate(image_bchw, size=size, mode="bilinear", antialias=True)
    return image_bchw[0]


def padded_to(image_chw: Tensor, at: Size, size: Size) -> Tensor:
    """Put an image on black of a larger size.

    Args:
        image_chw: The image, (channels, height, width).
        at: (top, left) of the result in the image; 0 or below.
        size: (height, width) of the result.
    """
    _, height, width = image_chw.shape
    top, left = -at[0], -at[1]
    return functional.pad(image_chw, (left, size[1] - left - width, top, size[0] - top - height))


def pad_and_crop(image_chw: Tensor, pad: int, top: int, left: int) -> Tensor:
    """Surround an image with black pixels, and take a part of the old size.

    Args:
        image_chw: The image, (channels, height, width).
        pad: Pixels that are added to every side.
        top: The part's first row in the padded image.
        left: The part's first column in the padded image.
    """
    _, height, width = image_chw.shape
    padded = functional.pad(image_chw, (pad, pad, pad, pad))
    return padded[:, top : top + height, left : left + width]


def pad_and_crop_all(
    images: NDArray[np.uint8], pad: int, tops: NDArray[np.int64], lefts: NDArray[np.int64], fill: int = 0
) -> NDArray[np.uint8]:
    """:func:`pad_and_crop` of many images.

    Args:
        images: (n, channels, height, width).
        pad: Pixels that are added to every side.
        tops: Each part's first row, (n,).
        lefts: Each part's first column, (n,).
        fill: The value of the pixels that are added.
    """
    n, channels, height, width = images.shape
    padded = np.pad(images, ((0, 0), (0, 0), (pad, pad), (pad, pad)), constant_values=fill)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (height, width), axis=(2, 3))
    return np.ascontiguousarray(
        windows[np.arange(n)[:, None], np.arange(channels)[None], tops[:, None], lefts[:, None]]
    )


def copy_into_slot(image_chw: Tensor, slot: NDArray[Any]) -> None:
    """Copy an image into its slot of a batch, by rows of whole pixels where both have them.

    Args:
        image_chw: The image, (channels, height, width).
        slot: The memory of the same shape.
    """
    pixels = image_chw.numpy()
    np.copyto(slot.transpose(1, 2, 0), pixels.transpose(1, 2, 0))
