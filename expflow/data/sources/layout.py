"""How people keep ImageNet: which folders and archives there are, without opening one. Standard library only.

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
class Found:
    """One split as it was found: ``path`` is a folder or an archive, relative to the source's folder.

    ``kind``: ``folders`` (one per synset), ``tars`` (one per synset), ``archive`` (a tar of such tars), ``flat`` (a
    folder of images), ``flat_archive`` (a tar of images). ``synsets`` are those whose folders or tars were seen.
    """

    path: str
    kind: str
    synsets: tuple[str, ...] = ()


def find_train(root: Path, folders: Sequence[str] = TRAIN) -> Found | None:
    """The training images below ``root``; None where there are none. Raises DataInvalid where they are mixed up."""
    for name in folders:
        if (root / name).is_dir() and (found := _by_synset(root, name)):
            return found
    for name in folders:
        if name and (archive := root / f"{name}.tar").is_file():
            return Found(archive.relative_to(root).as_posix(), "archive")
    return None


def find_val(root: Path) -> Found | None:
    """The validation images below ``root``: sorted by synset, flat, or in their archive."""
    for name in VAL:
        if (root / name).is_dir():
            return _by_synset(root, name) or Found(name, "flat")
    return next((Found(f"{name}.tar", "flat_archive") for name in VAL if (root / f"{name}.tar").is_file()), None)


def _by_synset(root: Path, name: str) -> Found | None:
    """The synsets in the folder ``name``; None where it holds none."""
    with os.scandir(root / name) as entries:
        seen = [(entry.name, entry.is_dir()) for entry in entries if not entry.name.startswith(".")]
    folders = sorted(each for each, is_folder in seen if is_folder and SYNSET.fullmatch(each))
    tars = sorted(each[:-4] for each, is_folder in seen if not is_folder and TAR.fullmatch(each))
    strangers = sorted(each for each, is_folder in seen if is_folder and not SYNSET.fullmatch(each))
    if not folders and not tars:
        return None
    if folders and tars:
        raise DataInvalid(
            f"{root / name}: {len(folders)} folders and {len(tars)} tars of synsets; keep one kind, so that no image"
            " is there twice"
        )
    if strangers and name:
        raise DataInvalid(
            f"{root / name}: {', '.join(strangers[:5])} {'is' if len(strangers) == 1 else 'are'} no synset (n and 8"
            " digits); for classes of other names use the source `folder`"
        )
    return Found(name, "folders" if folders else "tars", tuple(folders or tars))


def stamps(root: Path) -> list[list[object]]:
    """Path, size and time of change of everything that :func:`find_train` and :func:`find_val` look at.

    A folder's time changes when an image is added to it or removed from it; the images themselves, more than a million
    of them, are not looked at.
    """
    listing: list[list[object]] = [[str(root), 0, 0]]
    found = [each for each in (find_train(root), find_train(root, WHOLE), find_val(root)) if each]
    for each in dict.fromkeys(found):
        paths = [f"{each.path}/{synset}".lstrip("/") for synset in each.synsets] or [each.path]
        suffix = ".tar" if each.kind == "tars" else ""
        for path in paths:
            stat = (root / f"{path}{suffix}").stat()
            size = 0 if each.kind in ("folders", "flat") else stat.st_size
            listing.append([f"{path}{suffix}", size, stat.st_mtime_ns])
    return listing


def tars(root: Path) -> list[tuple[str, int, int]]:
    """Path (relative, posix), size and time of change of every tar below ``root``, in the order of their paths."""
    found = []
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(each for each in folders if not each.startswith("."))
        for name in files:
            if name.endswith(".tar") and not name.startswith("."):
                stat = (Path(folder) / name).stat()
                found.append(((Path(folder) / name).relative_to(root).as_posix(), stat.st_size, stat.st_mtime_ns))
    return sorted(found)
