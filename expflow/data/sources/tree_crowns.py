"""Tree crowns in aerial photographs, cut into tiles: out of the archive of the package deepforest."""

from __future__ import annotations

import functools
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from expflow.data.box_specs import TreeCrownsSpec
from expflow.data.kinds.boxes import ObjectBoxes, label_code
from expflow.data.source_spec import Origin
from expflow.data.sources.base import BOX_FIELDS, SampleRef, SampleSource, image_fields, local_folder, with_boxes
from expflow.data.sources.package_archive import PackageArchive, read_member
from expflow.errors import DataInvalid

ARCHIVE = PackageArchive(
    "deepforest",
    "2.1.0",
    "deepforest-2.1.0-py3-none-any.whl",
    "8c2798d8e9be7f0004b194fe207b76c1d9fff6e711b3db67b9508dcd5d00ae54",
)

PHOTOGRAPHS = {
    "train": ("2019_YELL_2_528000_4978000_image_crop2",),
    "val": ("2019_YELL_2_541000_4977000_image_crop",),
    "test": ("OSBS_029", "SOAP_061"),
}
"""Split to its photographs: no photograph is in two, since tiles of one are alike."""

WHOLE = 0.5
"""A crown of which a tile shows a smaller share counts for nothing there: nobody could say where it ends."""

NOTE = (
    "951 crowns in 4 aerial photographs, cut into tiles; val is one photograph and test are two of other forests, so"
    " scores say how a detector learns from one forest, and little about others"
)


@functools.lru_cache(maxsize=1)
def _photograph(folder: Path, name: str) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """(height, width, 3) and the boxes (n, 4) of a photograph."""
    with ARCHIVE.opened(folder) as archive:
        content = read_member(archive, f"deepforest/data/{name}.png")
        described = read_member(archive, f"deepforest/data/{name}.xml")
    with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
        pixels = np.asarray(image.convert("RGB"))
    return pixels, boxes_of_xml(described, name)


def boxes_of_xml(content: bytes, name: str) -> NDArray[np.float32]:
    """Return the boxes of a Pascal VOC description, (n, 4).

    Args:
        content: the XML, from an archive whose hash was compared.
        name: what it is called, for messages.

    Raises:
        DataInvalid: it is of another form.
    """
    try:
        root = ElementTree.fromstring(content)  # noqa: S314 (its hash was compared)
        boxes = [
            [float(box.findtext(side) or "") for side in ("xmin", "ymin", "xmax", "ymax")]
            for box in root.iter("bndbox")
        ]
    except (ElementTree.ParseError, ValueError) as error:
        raise DataInvalid(f"{name}: no description of boxes: {error}") from error
    return np.asarray(boxes, np.float32).reshape(-1, 4)


@dataclass(frozen=True)
class TileReader:
    """Cuts tiles; it can be sent to other processes.

    Attributes:
        folder: where the archive lies.
        side: height and width of a tile, in pixels.
    """

    folder: Path
    side: int

    def __call__(self, item: SampleRef) -> Mapping[str, Any]:
        """Return a tile and the boxes of what it shows."""
        name, top, left = _place(item)
        pixels, boxes = _photograph(self.folder, name)
        tile = pixels[top : top + self.side, left : left + self.side]
        inside, labels = boxes_in_tile(boxes, top, left, self.side)
        return {"image": tile, **dict.fromkeys(BOX_FIELDS, ObjectBoxes.of(inside, labels))}


def boxes_in_tile(
    boxes: NDArray[np.float32], top: int, left: int, side: int
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return what a tile shows of boxes, and their labels: those of which it shows little count for nothing.

    Args:
        boxes: (n, 4) in the photograph.
        top: the tile's first row.
        left: its first column.
        side: its height and width.
    """
    moved = boxes - np.asarray([left, top] * 2, np.float32)
    inside = moved.clip(0, side)
    shown, whole = ((part[:, 2:] - part[:, :2]).clip(0) for part in (inside, moved))
    kept = (shown >= 1).all(1)
    little = shown.prod(1) < WHOLE * whole.prod(1)
    codes = np.where(little, label_code(0, difficult=True), 0)
    return inside[kept], codes[kept].astype(np.int64)


def _place(item: SampleRef) -> tuple[str, int, int]:
    name, top, left = item.name.split("/")
    return name, int(top), int(left)


def tiles_of(shape: Sequence[int], side: int) -> list[tuple[int, int]]:
    """Return (top, left) of tiles side by side; what is left at the lower and right edge is no tile.

    Args:
        shape: (height, width) of the photograph.
        side: height and width of a tile.
    """
    rows, columns = (range(0, length - side + 1, side) for length in shape[:2])
    return [(top, left) for top in rows for left in columns]


def open_tree_crowns(spec: TreeCrownsSpec, origin: Origin) -> SampleSource:
    """Tiles of the photographs.

    Args:
        spec: the recipe's source.
        origin: the folder in which the archive lies.

    Raises:
        DataMissing: it does not lie there.
        DataInvalid: it is not the archive that was published.
    """
    folder = local_folder(origin, spec.name, spec.where)
    splits: dict[str, list[SampleRef]] = {}
    most = 0
    for split, names in PHOTOGRAPHS.items():
        splits[split] = []
        for name in names:
            pixels, boxes = _photograph(folder, name)
            for top, left in tiles_of(pixels.shape, spec.side):
                splits[split].append(SampleRef(f"{name}/{top}/{left}"))
                most = max(most, len(boxes_in_tile(boxes, top, left, spec.side)[0]))
    return SampleSource(
        classes=("tree",),
        splits=splits,
        read=TileReader(folder, spec.side),
        notes=(NOTE,),
        **with_boxes(image_fields(3, spec.side, spec.side), most),
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
