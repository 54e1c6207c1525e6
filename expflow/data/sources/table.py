"""Images with a table of what is known of each."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from expflow.data.dataspec import FieldSpec
from expflow.data.labelled_specs import TableSpec
from expflow.data.source_spec import Origin
from expflow.data.sources.base import SampleRef, SampleSource, draw_splits, local_folder
from expflow.data.sources.folder import read_image
from expflow.data.sources.table_file import Row, read_table
from expflow.errors import DataInvalid

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class TableReader:
    """Reads an image beside what the table says of it; it can be sent to other processes.

    Attributes:
        root: the source's folder.
        size: height and width of the images, in pixels.
        channels: 3 for colour, 1 for grey.
        labels: how many classes the field ``labels`` has; 0 without it.
        target: how many numbers the field ``target`` has; 0 without it.
    """

    root: Path
    size: int
    channels: int
    labels: int
    target: int

    def __call__(self, item: SampleRef) -> Mapping[str, Any]:
        """Read the fields of one sample. Raises BadSample."""
        fields: dict[str, Any] = {"image": read_image(self.root / item.name, self.size, self.channels)}
        if item.label is not None:
            fields["label"] = item.label
        if self.labels:
            fields["labels"] = np.array(item.values[: self.labels], np.uint8)
        if self.target:
            fields["target"] = np.array(item.values[self.labels :], np.float32)
        return fields


def open_table(spec: TableSpec, origin: Origin) -> SampleSource:
    """List the images of a table with what is learned of each.

    Classes are those of ``label`` and ``labels`` together, sorted; where only numbers are learned, the names of their
    columns.

    Args:
        spec: the recipe's source.
        origin: the folder of table and images.

    Raises:
        DataMissing: the table or an image that it names is not there.
        DataInvalid: a column is missing, a value is no number, or the splits make no sense.
    """
    root = local_folder(origin, "table")
    if not (spec.label or spec.labels or spec.target):
        raise DataInvalid("which column of the table is learned? say data.label, data.labels or data.target")
    columns = tuple(filter(None, (spec.image, spec.label, spec.labels, *spec.target, spec.group, spec.split)))
    rows = read_table(root, spec.file, columns)
    named = {row[spec.label] for row in rows} if spec.label else set[str]()
    if spec.labels:
        named |= {name for row in rows for name in _names(row[spec.labels])}
    classes = tuple(sorted(named)) or spec.target
    items = {split: list[SampleRef]() for split in ("", *SPLITS)}
    for number, row in enumerate(rows, start=2):
        items[_split(spec, row, number)].append(_sample(spec, root, row, number, classes))
    _refuse_repeated(spec, rows)
    own = [*items[""], *items["train"]]
    given = {split: items[split] for split in ("val", "test") if items[split]}
    try:
        splits = draw_splits(own, {"val": spec.val_fraction, "test": spec.test_fraction}, spec.split_seed, given)
    except DataInvalid as error:
        raise DataInvalid(f"{root / spec.file}: {error}") from error
    width = len(classes) if spec.labels else 0
    read = TableReader(root, spec.image_size, spec.channels, width, len(spec.target))
    return SampleSource(classes=classes, splits=splits, read=read, portable=True, **_fields(spec, width))


def _refuse_repeated(spec: TableSpec, rows: Sequence[Row]) -> None:
    """An image that stands in several rows could be learned from in train and asked for in val."""
    first: dict[str, tuple[int, str]] = {}
    for number, row in enumerate(rows, start=2):
        group = row[spec.group] if spec.group else ""
        before, its_group = first.setdefault(row[spec.image], (number, group))
        if before != number and (group != its_group or not group):
            raise DataInvalid(
                f"{spec.file}, rows {before} and {number} name the same image {row[spec.image]!r}; remove one of them,"
                " or give both the same group (data.group names its column)"
            )


def _fields(spec: TableSpec, classes: int) -> dict[str, Any]:
    fields, side = {"image": "png"}, spec.image_size
    shapes = {"image": FieldSpec((spec.channels, side, side), "uint8")}
    if spec.label:
        fields["label"], shapes["label"] = "cls", FieldSpec((), "int64")
    if spec.labels:
        fields["labels"], shapes["labels"] = "labels.txt", FieldSpec((classes,), "uint8", kind="labels")
    if spec.target:
        fields["target"] = "numbers.json"
        shapes["target"] = FieldSpec((len(spec.target),), "float32", kind="numbers")
    return {"fields": fields, "shapes": shapes}


def _names(text: str) -> list[str]:
    return [name for name in re.split(r"[\s;]+", text.strip()) if name]


def _split(spec: TableSpec, row: Row, number: int) -> str:
    split = row[spec.split].strip() if spec.split else ""
    if spec.split and split not in SPLITS:
        raise DataInvalid(f"{spec.file}, row {number}: expected train, val or test in {spec.split}, found {split!r}")
    return split


def _sample(spec: TableSpec, root: Path, row: Row, number: int, classes: Sequence[str]) -> SampleRef:
    name = row[spec.image]
    path = root / name
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise DataInvalid(f"{spec.file}, row {number}: {name!r} leads out of the folder; name images below it")
    if not path.is_file():
        raise DataInvalid(f"{spec.file}, row {number}: there is no image {path}; add it, or remove the row")
    present = set(_names(row[spec.labels])) if spec.labels else set[str]()
    answers = [float(name in present) for name in classes] if spec.labels else []
    numbers = [_number(spec, row, column, number) for column in spec.target]
    stat, group = path.stat(), row[spec.group] if spec.group else ""
    label = classes.index(row[spec.label]) if spec.label else None
    return SampleRef(name, label, stat.st_size, stat.st_mtime_ns, group=group, values=(*answers, *numbers))


def _number(spec: TableSpec, row: Row, column: str, number: int) -> float:
    try:
        value = float(row[column])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataInvalid(f"{spec.file}, row {number}: expected a number in {column}, found {row[column]!r}")
    return value
