"""What ImageNet's developers' kit, or Kaggle's tables, say: the classes of the validation images and their names."""

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

KIT = "ILSVRC2012_devkit_t12"
KIT_MEMBERS = frozenset({"meta.mat", "map_clsloc.txt", "ILSVRC2012_validation_ground_truth.txt"})
KAGGLE_LABELS, KAGGLE_NAMES = "LOC_val_solution.csv", "LOC_synset_mapping.txt"
GROUND_TRUTH = "ILSVRC2012_validation_ground_truth.txt"
SYNSET_LABELS = "imagenet_2012_validation_synset_labels.txt"
LARGEST_TABLE = 64 * 2**20


def official_labels(root: Path, names: Sequence[str]) -> list[str]:
    """The synset of each validation image, whose file names are sorted.

    From the developers' kit, packed or not, from Kaggle's table, or from a list with one synset a line. Raises
    DataMissing where there is none of them, DataInvalid where it has another number of images.
    """
    if (path := _find(root, KAGGLE_LABELS)) is not None:
        return _from_kaggle(path, names)
    if (path := _find(root, SYNSET_LABELS)) is not None:
        return _counted(path.read_text().split(), names, path)
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
    with path.open(newline="", encoding="utf-8") as file:
        labels = {row["ImageId"]: row["PredictionString"].split()[0] for row in csv.DictReader(file)}
    _counted(list(labels), names, path)
    if missing := [name for name in names if Path(name).stem not in labels]:
        raise DataInvalid(f"{path}: it lacks {missing[0]}")
    return [labels[Path(name).stem] for name in names]


def _find(root: Path, name: str) -> Path | None:
    folders = ("", "val", KIT, f"{KIT}/data", "ILSVRC", "ILSVRC/ImageSets/CLS-LOC", "ILSVRC2012_devkit_t12/data")
    return next((path for folder in folders if (path := root / folder / name).is_file()), None)


def _kit(root: Path) -> dict[str, bytes]:
    """The kit's tables by name, from its folder or its archive, which is not unpacked."""
    found = {name: path.read_bytes() for name in KIT_MEMBERS if (path := _find(root, name)) is not None}
    archive = root / f"{KIT}.tar.gz"
    if found or not archive.is_file():
        return found
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                name = Path(member.name).name
                if name in KIT_MEMBERS and member.isreg() and member.size <= LARGEST_TABLE:
                    file = tar.extractfile(member)
                    found[name] = file.read() if file else b""
    except (tarfile.TarError, OSError, EOFError) as error:
        raise DataInvalid(f"{archive}: damaged ({error}); get it again") from error
    return found


def _numbered(root: Path, kit: Mapping[str, bytes]) -> dict[int, str]:
    """The kit's own numbers of the classes, which are not in the order of the synsets."""
    if "map_clsloc.txt" in kit:
        rows = [line.split() for line in kit["map_clsloc.txt"].decode("utf-8", "replace").splitlines() if line]
        return {int(row[1]): row[0] for row in rows}
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
    """A name for each synset: the first of its words, with the synset behind it where two have the same.

    From the tables beside the images where there are any, else from timm's. A synset that none knows is its own name.
    """
    words = _words_beside(root)
    if any(synset not in words for synset in synsets):
        words = {**_words_of_timm(len(synsets)), **words}
    first = {synset: words.get(synset, synset).split(",")[0].strip() for synset in synsets}
    often = Counter(first.values())
    return tuple(name if often[name] == 1 or name == synset else f"{name} ({synset})" for synset, name in first.items())


def _words_beside(root: Path) -> dict[str, str]:
    if (path := _find(root, KAGGLE_NAMES)) is not None:
        lines = path.read_text(encoding="utf-8").splitlines()
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
