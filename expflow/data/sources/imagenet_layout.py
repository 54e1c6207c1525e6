"""The layouts in which people keep ImageNet, recognised without opening a file. Standard library only.

Known are the archives as they are downloaded, folders into which they were unpacked once (a tar per synset) or wholly
(a folder per synset), the flat folder of the validation images, and the tree of Kaggle's copy.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from expflow.errors import DataInvalid

SYNSET = re.compile(r"n\d{8}")
TAR = re.compile(r"n\d{8}\.tar")
TRAIN = ("train", "ILSVRC2012_img_train", "ILSVRC/Data/CLS-LOC/train", "Data/CLS-LOC/train")
VAL = ("val", "ILSVRC2012_img_val", "ILSVRC/Data/CLS-LOC/val", "Data/CLS-LOC/val")
WHOLE = ("", "train", "winter21_whole", "fall11_whole")


@dataclass(frozen=True)
class SplitLocation:
    """Where the images of one split lie.

    Attributes:
        path: folder or archive, relative to the source's folder.
        kind: ``folders`` (one per synset), ``tars`` (one per synset), ``archive`` (a tar of such tars), ``flat`` (a
            folder of images) or ``flat_archive`` (a tar of images).
        synsets: those that have a folder or a tar.
    """

    path: str
    kind: str
    synsets: tuple[str, ...] = ()


def find_train(root: Path, folders: Sequence[str] = TRAIN) -> SplitLocation | None:
    """Return where the training images lie; None where there are none.

    Args:
        root: the source's folder.
        folders: folders below it, in the order in which they are tried; then archives of the same names.

    Raises:
        DataInvalid: a folder holds both folders and tars of synsets, or folders that are no synsets.
    """
    for name in folders:
        if (root / name).is_dir() and (location := _by_synset(root, name)):
            return location
    for name in folders:
        if name and (archive := root / f"{name}.tar").is_file():
            return SplitLocation(archive.relative_to(root).as_posix(), "archive")
    return None


def find_val(root: Path) -> SplitLocation | None:
    """Return where the validation images lie: sorted by synset, flat, or in their archive; None where there are none.

    Args:
        root: the source's folder.

    Raises:
        DataInvalid: as :func:`find_train`.
    """
    for name in VAL:
        if (root / name).is_dir():
            return _by_synset(root, name) or SplitLocation(name, "flat")
    return next(
        (SplitLocation(f"{name}.tar", "flat_archive") for name in VAL if (root / f"{name}.tar").is_file()), None
    )


def _by_synset(root: Path, name: str) -> SplitLocation | None:
    """The synsets in the folder ``name``; None where it holds none."""
    with os.scandir(root / name) as entries:
        seen = [(entry.name, entry.is_dir()) for entry in entries if not entry.name.startswith(".")]
    folders = sorted(entry for entry, is_folder in seen if is_folder and SYNSET.fullmatch(entry))
    tars = sorted(entry[:-4] for entry, is_folder in seen if not is_folder and TAR.fullmatch(entry))
    others = sorted(entry for entry, is_folder in seen if is_folder and not SYNSET.fullmatch(entry))
    if not folders and not tars:
        return None
    if folders and tars:
        raise DataInvalid(
            f"{root / name}: {len(folders)} folders and {len(tars)} tars of synsets; keep one kind, so that no image"
            " is there twice"
        )
    if others and name:
        raise DataInvalid(
            f"{root / name}: {', '.join(others[:5])} {'is' if len(others) == 1 else 'are'} no synset (n and 8"
            " digits); for classes of other names use the source `folder`"
        )
    return SplitLocation(name, "folders" if folders else "tars", tuple(folders or tars))


def layout_stamps(root: Path) -> list[list[object]]:
    """Return path, size and time of change of every folder and archive that holds images.

    A folder's time changes when an image is added to it or removed from it; the images themselves, more than a million
    of them, are not looked at.

    Args:
        root: the source's folder.
    """
    listing: list[list[object]] = [[str(root), 0, 0]]
    locations = [location for location in (find_train(root), find_train(root, WHOLE), find_val(root)) if location]
    for location in dict.fromkeys(locations):
        paths = [f"{location.path}/{synset}".lstrip("/") for synset in location.synsets] or [location.path]
        suffix = ".tar" if location.kind == "tars" else ""
        for path in paths:
            stat = (root / f"{path}{suffix}").stat()
            size = 0 if location.kind in ("folders", "flat") else stat.st_size
            listing.append([f"{path}{suffix}", size, stat.st_mtime_ns])
    return listing
