"""Classes of ImageNet's validation images and names of the synsets, from the developers' kit or Kaggle's tables."""

from __future__ import annotations

import csv
import io
import re
import tarfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from expflow.errors import DataInvalid, DataMissing
from expflow.files import read_bounded

KIT = "ILSVRC2012_devkit_t12"
KIT_MEMBERS = frozenset({"meta.mat", "map_clsloc.txt", "ILSVRC2012_validation_ground_truth.txt"})
KAGGLE_LABELS, KAGGLE_NAMES = "LOC_val_solution.csv", "LOC_synset_mapping.txt"
GROUND_TRUTH = "ILSVRC2012_validation_ground_truth.txt"
SYNSET_LABELS = "imagenet_2012_validation_synset_labels.txt"
LARGEST_TABLE = 64 * 2**20
LARGEST_KIT = 256 * 2**20
"""Bytes of the kit's archive when it is unpacked that are looked through; the published one has 9 million."""


def official_labels(root: Path, names: Sequence[str]) -> list[str]:
    """Return the synset of each validation image.

    They come from the developers' kit, packed or not, from Kaggle's table, or from a list with one synset a line.

    Args:
        root: the source's folder.
        names: the images' file names, sorted.

    Raises:
        DataMissing: there is none of them.
        DataInvalid: the table has another number of images, or names a class that the kit does not have.
    """
    if (path := _find(root, KAGGLE_LABELS)) is not None:
        return _from_kaggle(path, names)
    if (path := _find(root, SYNSET_LABELS)) is not None:
        return _counted(_text(path).split(), names, path)
    kit = _kit(root)
    if GROUND_TRUTH not in kit:
        raise DataMissing(
            f"{root}: the validation images are in no folders of synsets, and their classes are nowhere: put"
            f" {KIT}.tar.gz (or {KAGGLE_LABELS}) beside them"
        )
    numbers = _counted(kit[GROUND_TRUTH].decode("ascii", "replace").split(), names, root / GROUND_TRUTH)
    synsets = _numbered(root, kit)
    try:
        return [synsets[int(number)] for number in numbers]
    except (KeyError, ValueError) as error:
        raise DataInvalid(f"{root}: {GROUND_TRUTH} names {error.args[0]}, which is no class of the kit") from error


def _counted(labels: list[str], names: Sequence[str], path: Path) -> list[str]:
    if len(labels) != len(names):
        raise DataInvalid(
            f"{path}: expected a line for each of the {len(names)} validation images, found {len(labels)}"
        )
    return labels


def _from_kaggle(path: Path, names: Sequence[str]) -> list[str]:
    rows = csv.DictReader(io.StringIO(_text(path), newline=""))
    try:
        labels = {row["ImageId"]: row["PredictionString"].split()[0] for row in rows}
    except (csv.Error, KeyError, AttributeError, IndexError) as error:
        raise DataInvalid(f"{path}: no table of ImageId and PredictionString ({error}); get it again") from error
    _counted(list(labels), names, path)
    if missing := [name for name in names if Path(name).stem not in labels]:
        raise DataInvalid(f"{path}: it lacks {missing[0]}")
    return [labels[Path(name).stem] for name in names]


def _content(path: Path) -> bytes:
    try:
        return read_bounded(path, LARGEST_TABLE)
    except OSError as error:
        raise DataInvalid(f"{path}: cannot be read ({error.strerror}); get it again") from error


def _text(path: Path) -> str:
    try:
        return _content(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataInvalid(f"{path}: no text in UTF-8 ({error}); get it again") from error


def _find(root: Path, name: str) -> Path | None:
    folders = ("", "val", KIT, f"{KIT}/data", "ILSVRC", "ILSVRC/ImageSets/CLS-LOC", "ILSVRC2012_devkit_t12/data")
    return next((path for folder in folders if (path := root / folder / name).is_file()), None)


def _kit(root: Path) -> dict[str, bytes]:
    """The kit's tables by name, from its folder or from its archive, which stays packed."""
    tables = {name: _content(path) for name in KIT_MEMBERS if (path := _find(root, name)) is not None}
    archive = root / f"{KIT}.tar.gz"
    if tables or not archive.is_file():
        return tables
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                if member.offset_data + member.size > LARGEST_KIT:
                    raise OSError(f"more than {LARGEST_KIT} bytes come out of it")
                name = Path(member.name).name
                if name in KIT_MEMBERS and member.isreg() and member.size <= LARGEST_TABLE:
                    file = tar.extractfile(member)
                    tables[name] = file.read() if file else b""
    except (tarfile.TarError, OSError, EOFError) as error:
        raise DataInvalid(f"{archive}: damaged ({error}); get it again") from error
    return tables


def _numbered(root: Path, kit: Mapping[str, bytes]) -> dict[int, str]:
    """The kit's own numbers of the classes, which are not in the order of the synsets."""
    if "map_clsloc.txt" in kit:
        rows = [line.split() for line in kit["map_clsloc.txt"].decode("utf-8", "replace").splitlines() if line]
        try:
            return {int(row[1]): row[0] for row in rows}
        except (ValueError, IndexError) as error:
            raise DataInvalid(f"{root}: map_clsloc.txt is damaged ({error}); get it again") from error
    if "meta.mat" not in kit:
        raise DataMissing(
            f"{root}: {GROUND_TRUTH} is there, but not the kit's meta.mat, which says what its numbers mean"
        )
    return {number: synset for number, synset, _ in _leaves(root, kit["meta.mat"])}


def _leaves(root: Path, content: bytes) -> list[tuple[int, str, str]]:
    """Number, synset and words of the classes without children in the kit's Matlab table."""
    from scipy.io import loadmat

    try:
        table = loadmat(io.BytesIO(content), squeeze_me=True)["synsets"]
        rows = table.reshape(-1)
        return [
            (int(row["ILSVRC2012_ID"]), str(row["WNID"]), str(row["words"]))
            for row in rows
            if int(row["num_children"]) == 0
        ]
    except Exception as error:  # scipy's reader raises whatever broken bytes lead it to
        raise DataInvalid(f"{root}: the kit's meta.mat is damaged ({error}); get it again") from error


def synset_names(root: Path, synsets: Sequence[str]) -> tuple[str, ...]:
    """Return a name for each synset: the first of its words, followed by the synset where two have the same word.

    The words come from the tables beside the images where there are any, else from timm's. A synset that is in none is
    its own name.

    Args:
        root: the source's folder.
        synsets: the WordNet ids of the classes.

    Raises:
        DataInvalid: the kit's table is damaged.
    """
    words = _words_beside(root)
    if any(synset not in words for synset in synsets):
        words = {**_words_of_timm(len(synsets)), **words}
    first = {synset: words.get(synset, synset).split(",")[0].strip() for synset in synsets}
    often = Counter(first.values())
    return tuple(name if often[name] == 1 or name == synset else f"{name} ({synset})" for synset, name in first.items())


def _words_beside(root: Path) -> dict[str, str]:
    if (path := _find(root, KAGGLE_NAMES)) is not None:
        lines = _text(path).splitlines()
        return {match[1]: match[2] for line in lines if (match := re.fullmatch(r"(n\d{8})\s+(.+)", line))}
    kit = _kit(root)
    return {synset: words for _, synset, words in _leaves(root, kit["meta.mat"])} if "meta.mat" in kit else {}


def _words_of_timm(count: int) -> dict[str, str]:
    try:
        from timm.data.imagenet_info import ImageNetInfo
    except ImportError:  # names are a comfort: without timm the synsets stand for themselves
        return {}
    info: Any = ImageNetInfo("imagenet-1k" if count <= 1000 else "imagenet-22k")
    return {synset: info.label_name_to_description(synset) for synset in info.label_names()}
