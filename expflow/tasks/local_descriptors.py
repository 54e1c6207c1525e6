"""Descriptors of small patches of images: pixels, SIFT, HOG and colour histograms."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from expflow.errors import PackageMissing
from expflow.tasks.bovw_spec import BovwSpec

ORIENTATIONS = 9
"""Directions that HOG tells apart (Dalal and Triggs 2005)."""
SIFT_WIDTH = 128
SIFT_CELLS = 6.0
"""Width of a SIFT descriptor in units of its keypoint's size: 4 cells of 3 scales, where the size is 2 scales."""
LIBRARY_PATH = "LD_LIBRARY_PATH"
GREY = (0.299, 0.587, 0.114)
"""Shares of red, green and blue in a grey value (ITU-R BT.601)."""


@dataclass(frozen=True)
class LocalDescriptors:
    """The descriptors of a batch of images.

    Attributes:
        values: (b, n, d) float32.
        places: (b, n, 2) float32, where each lies: down and to the right, from 0 to 1.
        present: (b, n) bool; false for what only fills up the images that have fewer.
    """

    values: Tensor
    places: Tensor
    present: Tensor


Describe = Callable[[Tensor, BovwSpec], LocalDescriptors]


def descriptor_width(spec: BovwSpec, channels: int) -> int:
    """d, the numbers of a descriptor.

    Args:
        spec: The task's arguments.
        channels: Colours of an image.
    """
    return {
        "dense": channels * spec.patch**2,
        "sift": SIFT_WIDTH,
        "hog": 4 * ORIENTATIONS,
        "colour": channels * spec.bins,
    }[spec.descriptor]


def describe(images_bchw: Tensor, spec: BovwSpec) -> LocalDescriptors:
    """The descriptors of images.

    Args:
        images_bchw: (b, c, h, w) uint8, on the CPU, no side shorter than a patch.
        spec: The task's arguments.

    Raises:
        PackageMissing: The descriptor's package is not installed.
    """
    return DESCRIBERS[spec.descriptor](images_bchw, spec)


def _patches(images_bchw: Tensor, spec: BovwSpec) -> tuple[Tensor, Tensor]:
    """(b, n, c, p * p) the patches of a grid, from 0 to 1, and (n, 2) their middles."""
    channels, height, width = images_bchw.shape[1:]
    columns = functional.unfold(images_bchw.float() / 255, spec.patch, stride=spec.stride)
    patches = columns.transpose(1, 2).unflatten(2, (channels, spec.patch**2))
    return patches, _middles(height, width, spec.patch, spec.stride)


def _middles(height: int, width: int, patch: int, stride: int) -> Tensor:
    """(n, 2) middles of a grid's patches, row by row, from 0 to 1."""
    down = (torch.arange(0, height - patch + 1, stride) + patch / 2) / height
    right = (torch.arange(0, width - patch + 1, stride) + patch / 2) / width
    return torch.cartesian_prod(down, right)


def _on_grid(values: Tensor, middles: Tensor) -> LocalDescriptors:
    """Descriptors (b, n, d) at the same places (n, 2) of all images."""
    images, points = values.shape[:2]
    return LocalDescriptors(values, middles.expand(images, -1, -1), torch.ones(images, points, dtype=torch.bool))


def _dense(images_bchw: Tensor, spec: BovwSpec) -> LocalDescriptors:
    patches, middles = _patches(images_bchw, spec)
    values = patches.flatten(2)
    return _on_grid(functional.normalize(values - values.mean(2, keepdim=True), dim=2, eps=1e-2), middles)


def _colour(images_bchw: Tensor, spec: BovwSpec) -> LocalDescriptors:
    """Shares of a patch's pixels in each bin, colour by colour."""
    patches, middles = _patches(images_bchw, spec)
    bins = (patches * spec.bins).long().clamp(max=spec.bins - 1)
    counts = torch.zeros(*bins.shape[:3], spec.bins).scatter_add_(3, bins, torch.ones_like(patches))
    return _on_grid((counts / spec.patch**2).flatten(2), middles)


def _grey(images_bchw: Tensor) -> NDArray[np.uint8]:
    """(b, h, w) uint8 grey values; of one channel, or of red, green and blue."""
    if images_bchw.shape[1] == 3:
        shares = torch.tensor(GREY).view(3, 1, 1)
        return np.asarray((images_bchw.float() * shares).sum(1).round().clamp(0, 255).byte().numpy())
    return np.asarray(images_bchw[:, 0].contiguous().numpy())


def _hog(images_bchw: Tensor, spec: BovwSpec) -> LocalDescriptors:
    """Blocks of 2x2 cells, one cell apart."""
    try:
        from skimage.feature import hog
    except ImportError as error:
        raise _missing("hog", "scikit-image") from error
    cell = spec.patch // 2
    blocks = np.stack(
        [
            hog(
                image,
                orientations=ORIENTATIONS,
                pixels_per_cell=(cell, cell),
                cells_per_block=(2, 2),
                feature_vector=False,
            )
            for image in _grey(images_bchw)
        ]
    )
    values = torch.from_numpy(np.ascontiguousarray(blocks, np.float32)).flatten(1, 2).flatten(2)
    height, width = (cell * (side // cell) for side in images_bchw.shape[2:])  # what is left beyond whole cells
    return _on_grid(values, _middles(height, width, spec.patch, cell))


def _sift(images_bchw: Tensor, spec: BovwSpec) -> LocalDescriptors:
    cv2 = _opencv()
    cv2.setNumThreads(1)  # the trial's threads are counted, and images this small gain nothing
    sift: Any = cv2.SIFT_create()
    height, width = images_bchw.shape[2:]
    middles = _middles(height, width, spec.patch, spec.stride)
    size = spec.patch / SIFT_CELLS
    grid = [cv2.KeyPoint(float(x * width), float(y * height), size, 0.0) for y, x in middles.tolist()]
    rows, places = list[Tensor](), list[Tensor]()
    for image in _grey(images_bchw):
        points = sift.detect(image, None) if spec.points == "detected" else grid
        kept, values = sift.compute(image, points) if points else ((), None)
        if values is None or not len(kept):
            kept, values = (), np.zeros((0, SIFT_WIDTH), np.float32)
        rows.append(functional.normalize(torch.from_numpy(np.asarray(values, np.float32)), dim=1))
        places.append(torch.tensor([[p.pt[1] / height, p.pt[0] / width] for p in kept]).reshape(-1, 2))
    most = max(1, *map(len, rows))
    return LocalDescriptors(
        torch.stack([functional.pad(row, (0, 0, 0, most - len(row))) for row in rows]),
        torch.stack([functional.pad(place, (0, 0, 0, most - len(place))) for place in places]),
        torch.stack([torch.arange(most) < len(row) for row in rows]),
    )


def _opencv() -> Any:
    """OpenCV. As it is imported it changes the path of libraries, for processes that this one may start."""
    before = os.environ.get(LIBRARY_PATH)
    try:
        import cv2
    except ImportError as error:
        raise _missing("sift", "opencv-python-headless") from error
    if before is None:
        os.environ.pop(LIBRARY_PATH, None)
    else:
        os.environ[LIBRARY_PATH] = before
    return cv2


def _missing(descriptor: str, package: str) -> PackageMissing:
    return PackageMissing(f"the descriptor {descriptor} is computed by {package}: pip install 'expflow[bovw]'")


DESCRIBERS: dict[str, Describe] = {"dense": _dense, "sift": _sift, "hog": _hog, "colour": _colour}
"""Descriptor to what computes it."""
