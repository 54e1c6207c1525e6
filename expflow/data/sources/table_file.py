"""Reads a table of images. Standard library only: it runs at every start."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from expflow.errors import DataInvalid, DataMissing
from expflow.files import read_bounded

LARGEST_TABLE = 512 * 2**20
"""Bytes of a table that are read."""

Row = dict[str, str]


def read_table(root: Path, file: str, needed: tuple[str, ...]) -> list[Row]:
    """Return the rows of a table by the names of their columns.

    Args:
        root: the source's folder.
        file: the table's path, seen from the folder.
        needed: columns that it must have.

    Raises:
        DataMissing: there is no such file.
        DataInvalid: it is no table, a column is missing, or it has no rows.
    """
    path = root / file
    if not path.is_file():
        raise DataMissing(f"there is no table {path}; write it, or name it with data.file", key="data.file")
    try:
        reader = csv.DictReader(io.StringIO(read_bounded(path, LARGEST_TABLE).decode("utf-8-sig")), strict=True)
        rows = list(reader)
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataInvalid(f"{path} is no table of text separated by commas: {error}") from error
    columns = reader.fieldnames or ()
    if missing := [column for column in needed if column not in columns]:
        raise DataInvalid(f"{path} has no column {', '.join(missing)}; it has {', '.join(columns)}")
    if not rows:
        raise DataInvalid(f"{path} has no rows below its first line")
    if short := next((number for number, row in enumerate(rows, start=2) if None in row.values() or None in row), 0):
        raise DataInvalid(f"{path}, row {short}: expected {len(columns)} values, as its first line has")
    return rows


def table_stats(root: Path, file: str, image: str) -> list[list[object]]:
    """Return path, size and time of change of a table and of each image in it; of one that is missing its name.

    Args:
        root: the source's folder.
        file: the table's path, seen from the folder.
        image: the column of the images' paths.
    """
    listed = [file, *(row[image] for row in read_table(root, file, (image,)))]
    stats: list[list[object]] = [[str(root), 0, 0]]
    for name in listed:
        try:
            stat = (root / name).stat()
            stats.append([name, stat.st_size, stat.st_mtime_ns])
        except OSError:
            stats.append([name, -1, 0])
    return stats
