"""Nuclei under a fluorescence microscope, cut into tiles: out of the archive of the package stardist."""

from __future__ import annotations

import functools
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from expflow.data.box_specs import NucleiSpec
from expflow.data.kinds.boxes import ObjectBoxes, label_code
from expflow.data.source_spec import Origin
from expflow.data.sources.base import (
    BOX_FIELDS,
    SampleRef,
    SampleSource,
    image_fields,
    local_folder,
    with_boxes,
    with_mask,
)
from expflow.data.sources.package_archive import PackageArchive, read_member
from expflow.data.sources.tree_crowns import WHOLE, tiles_of
from expflow.errors import DataInvalid

ARCHIVE = PackageArchive(
    "stardist",
    "0.9.2",
    "stardist-0.9.2-cp311-cp311-manylinux_2_24_x86_64.manylinux_2_28_x86_64.whl",
    "2316c0feb7bd5621e7a277cb3868df475c338943c591925c420ee3622c42f023",
    built_for=("manylinux_2_28_x86_64", "cp", "311"),
)

PARTS = {"train": (0.0, 0.5), "val": (0.5, 0.75), "test": (0.75, 1.0)}
"""Split to the shares of the image's width between which its tiles lie."""

NOTE = (
    "125 nuclei in one image; train is its left half, val and test are quarters beside it, so scores say how a network"
    " learns this image, and nothing about other microscopes"
)


@functools.lru_cache(maxsize=1)
def _image(folder: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """(height, width) greys, and which nucleus each pixel is of, from 1; 0 is none."""
    with ARCHIVE.opened(folder) as archive:
        parts = [read_member(archive, f"stardist/data/images/{name}.tif") for name in ("img2d", "mask2d")]
    arrays = []
    for content in parts:
        with Image.open(io.BytesIO(content), formats=["TIFF"]) as image:
            arrays.append(np.asarray(image).astype(np.int64))
    pixels, nuclei = arrays
    if pixels.shape != nuclei.shape or pixels.ndim != 2 or pixels.max() > 255:
        raise DataInvalid(f"{folder / ARCHIVE.file}: its image and its nuclei do not fit together")
    return pixels.astype(np.uint8), nuclei


def nuclei_in_tile(
    nuclei_hw: NDArray[np.int64], top: int, left: int, side: int
) -> tuple[ObjectBoxes, NDArray[np.int32]]:
    """Return the boxes of the nuclei that a tile shows, and which of them each of its pixels is of.

    A nucleus of which the tile shows less than half counts for nothing there: nobody could say where it ends.

    Args:
        nuclei_hw: which nucleus each pixel of the image is of.
        top: the tile's first row.
        left: its first column.
        side: its height and width.
    """
    tile = nuclei_hw[top : top + side, left : left + side]
    present = [number for number in np.unique(tile).tolist() if number]
    whole = np.bincount(nuclei_hw.reshape(-1))
    boxes, codes = np.zeros((len(present), 4), np.float32), np.zeros(len(present), np.int64)
    areas, instances = np.zeros(len(present), np.float32), np.zeros(tile.shape, np.int32)
    for row, number in enumerate(present):
        ys, xs = np.nonzero(tile == number)
        boxes[row] = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
        codes[row] = label_code(0, difficult=True) if len(ys) < WHOLE * whole[number] else 0
        areas[row], instances[ys, xs] = len(ys), row + 1
    return ObjectBoxes.of(boxes, codes, areas), instances


@dataclass(frozen=True)
class NucleiReader:
    """Cuts tiles; it can be sent to other processes.

    Attributes:
        folder: where the archive lies.
        side: height and width of a tile, in pixels.
        truth: what is said of it.
    """

    folder: Path
    side: int
    truth: str

    def __call__(self, item: SampleRef) -> Mapping[str, Any]:
        """Return a tile and what is known of it."""
        pixels, nuclei = _image(self.folder)
        top, left = map(int, item.name.split("/"))
        tile = pixels[top : top + self.side, left : left + self.side, None]
        boxes, instances = nuclei_in_tile(nuclei, top, left, self.side)
        if self.truth == "masks":
            return {"image": tile, "mask": (instances > 0).astype(np.uint8)}
        known = {"image": tile, **dict.fromkeys(BOX_FIELDS, boxes)}
        return known | {"instances": instances} if self.truth == "instances" else known


def open_nuclei(spec: NucleiSpec, origin: Origin) -> SampleSource:
    """Tiles of the image.

    Args:
        spec: the recipe's source.
        origin: the folder in which the archive lies.

    Raises:
        DataMissing: it does not lie there.
        DataInvalid: it is not the archive that was published.
    """
    folder = local_folder(origin, spec.name, spec.where)
    _, nuclei = _image(folder)
    splits: dict[str, list[SampleRef]] = {}
    most, width = 0, nuclei.shape[1]
    for split, (first, last) in PARTS.items():
        start, stop = round(first * width), round(last * width)
        tiles = [(top, start + left) for top, left in tiles_of((nuclei.shape[0], stop - start), spec.side)]
        splits[split] = [SampleRef(f"{top}/{left}") for top, left in tiles]
        most = max(most, *(len(nuclei_in_tile(nuclei, *tile, spec.side)[0].boxes) for tile in tiles))
    described = image_fields(1, spec.side, spec.side)
    masks = spec.truth == "masks"
    return SampleSource(
        classes=("background", "nucleus") if masks else ("nucleus",),
        splits=splits,
        read=NucleiReader(folder, spec.side, spec.truth),
        notes=(NOTE,),
        **(with_mask(described) if masks else with_boxes(described, most, instances=spec.truth == "instances")),
    )


def fetch(name: str, folder: Path) -> Path:
    """Get the archive from the Python index.

    Args:
        name: the source's name.
        folder: where it goes.

    Returns:
        The folder.

    Raises:
        DataUnreachable: pip does not get it.
        DataInvalid: it is not the archive that was published.
    """
    return ARCHIVE.fetch(folder)
