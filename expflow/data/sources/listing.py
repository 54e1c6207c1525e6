"""What lies in a folder of images, without opening one. Standard library only: it runs at every start."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from expflow.errors import DataInvalid

SPLITS = ("train", "val", "test")
IMAGES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"})
LITTER = frozenset({"thumbs.db", "desktop.ini"})
"""What file managers leave behind; hidden files are passed over as well."""


@dataclass(frozen=True)
class Listed:
    """One file of a class: its split ("" where the folder has none), class, path relative to the folder, and stamp."""

    split: str
    label: str
    path: str
    size: int
    mtime_ns: int


def list_images(root: Path) -> list[Listed]:
    """Every file below ``root``'s class folders, in the order of their names.

    Raises DataInvalid where ``root`` holds no class folders, or split folders of other names than train, val, test.
    """
    try:
        return _listed(root)
    except OSError as error:
        raise DataInvalid(
            f"{error.filename or root}: cannot be listed ({error.strerror}); correct its permissions"
        ) from error


def _listed(root: Path) -> list[Listed]:
    folders = _folders(root)
    if "train" not in folders:
        return _of_classes(root, "", folders)
    if unknown := [name for name in folders if name not in SPLITS]:
        raise DataInvalid(
            f"{root}: beside train/ only val/ and test/ are read, not {', '.join(unknown)}; rename or move it"
        )
    return [each for split in folders for each in _of_classes(root, split, _folders(root / split))]


def _folders(root: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith("."))


def _of_classes(root: Path, split: str, labels: list[str]) -> list[Listed]:
    if not labels:
        raise DataInvalid(f"{root / split}: no folders in it; each class needs a folder of its own with its images")
    found = []
    for label in labels:
        files = sorted(_files(root / split / label), key=lambda entry: entry.path)
        for entry in files:
            path = Path(entry.path).relative_to(root).as_posix()
            found.append(Listed(split, label, path, *_stamp(entry)))
        if not files and split in ("", "train"):
            raise DataInvalid(f"{root / split / label}: a class without images; put some there or remove the folder")
    return found


def _stamp(entry: os.DirEntry[str]) -> tuple[int, int]:
    """Size and time of change; a link that leads nowhere is listed all the same, and named when it is to be read."""
    try:
        stat = entry.stat()
    except OSError:
        return -1, 0
    return stat.st_size, stat.st_mtime_ns


def _files(folder: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") or entry.name.lower() in LITTER:
                continue
            if entry.is_dir():
                yield from _files(Path(entry.path))
            else:
                yield entry
