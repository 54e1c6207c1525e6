"""Lists images with their masks, of which none is opened. Standard library only: it runs at every start."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from expflow.data.shards.passed_over import PassedOver
from expflow.data.sources.listing import DOCUMENTS, SPLITS, litter_reason
from expflow.errors import DataInvalid

IMAGES_FOLDER, MASKS_FOLDER = "images", "masks"

MOST_NAMED = 10
"""Files that an error names."""


@dataclass(frozen=True)
class MaskedImage:
    """One image with its mask.

    Attributes:
        path: path of the image below the listed folder.
        size: of the image's file, in bytes.
        mtime_ns: the file's time of change in nanoseconds.
        mask: path, size and time of change of its mask.
    """

    path: str
    size: int
    mtime_ns: int
    mask: tuple[str, int, int]


@dataclass(frozen=True)
class MaskListing:
    """What lies in a folder of images with masks.

    Attributes:
        splits: split ("" where there are no split folders) to its images.
        passed_over: files that are not read.
    """

    splits: dict[str, list[MaskedImage]] = field(default_factory=dict)
    passed_over: PassedOver = field(default_factory=PassedOver)


def holds_masks(root: Path) -> bool:
    """Return whether a folder is one of images with masks, by the names of its folders.

    Args:
        root: the folder.
    """
    return any((place / IMAGES_FOLDER).is_dir() and (place / MASKS_FOLDER).is_dir() for place in (root, root / "train"))


def list_masked_images(root: Path) -> MaskListing:
    """List every image with its mask, which has the same path below ``masks/`` and any extension. Opens none.

    Args:
        root: a folder that :func:`holds_masks`.

    Raises:
        DataInvalid: an image has no mask, or two; or a split has images and no masks.
    """
    listing = MaskListing()
    places = {"": root} if (root / IMAGES_FOLDER).is_dir() else {split: root / split for split in SPLITS}
    for split, place in places.items():
        if not place.is_dir():
            continue
        for folder in (IMAGES_FOLDER, MASKS_FOLDER):
            if not (place / folder).is_dir():
                raise DataInvalid(f"{place}: there is no folder {folder} in it; it holds one file for each image")
        listing.splits[split] = list(_paired(root, place, listing.passed_over))
    return listing


def _paired(root: Path, place: Path, passed_over: PassedOver) -> Iterator[MaskedImage]:
    images, masks = (_files_by_stem(root, place / folder, passed_over) for folder in (IMAGES_FOLDER, MASKS_FOLDER))
    for folder, files in ((IMAGES_FOLDER, images), (MASKS_FOLDER, masks)):
        if twice := [" and ".join(path for path, _, _ in several) for several in files.values() if len(several) > 1]:
            raise DataInvalid(
                f"{root}: two files of one name in {folder}: {_named(twice)}; an image has one mask: remove one of them"
            )
    if alone := [image[0][0] for stem, image in images.items() if stem not in masks]:
        expected = f"{(place / MASKS_FOLDER).relative_to(root).as_posix()}/NAME.png for an image NAME.jpg"
        raise DataInvalid(f"{root}: images without a mask: {_named(alone)}; add {expected}, or remove the images")
    if not images:
        raise DataInvalid(f"{place / IMAGES_FOLDER}: no images in it")
    for stem, several in masks.items():
        if stem not in images:
            passed_over.add("masks without an image", several[0][0])
    for stem, ((path, size, mtime_ns),) in images.items():
        yield MaskedImage(path, size, mtime_ns, masks[stem][0])


def _named(files: Sequence[str]) -> str:
    shown = ", ".join(_printable(name) for name in files[:MOST_NAMED])
    return f"{shown} and {len(files) - MOST_NAMED} more" if len(files) > MOST_NAMED else shown


def _files_by_stem(root: Path, folder: Path, passed_over: PassedOver) -> dict[str, list[tuple[str, int, int]]]:
    """Path below ``folder`` without extension -> path below ``root``, size and time of change of each such file."""
    files: dict[str, list[tuple[str, int, int]]] = {}
    for place, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(place) / name
            relative = path.relative_to(root).as_posix()
            inside = path.relative_to(folder)
            if reason := next(filter(None, (litter_reason(folder / part) for part in inside.parts)), ""):
                passed_over.add(reason, relative)
            elif path.suffix.lower() in DOCUMENTS:
                passed_over.add("documents among the images", relative)
            else:
                stat = path.stat()
                stem = inside.with_suffix("").as_posix()
                files.setdefault(stem, []).append((relative, stat.st_size, stat.st_mtime_ns))
    return files


def _printable(name: str) -> str:
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
