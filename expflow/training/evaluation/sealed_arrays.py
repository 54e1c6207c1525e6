"""Files of plain arrays: npz, never pickled, whose archive comment is the checksum of all that stands before it."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from expflow.errors import PredictionsDamaged, StorageUnwritable
from expflow.files import open_regular, write_atomically

UNPACKED_BYTES = 256 * 2**20
"""Most bytes of the arrays in one file: of predictions of three million samples."""

_META = "about"


def write_arrays(path: Path, about: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> str:
    """Write arrays to a file, whole or not at all; whole numbers in as few bytes as they need.

    Args:
        path: The file.
        about: What they are, as plain data.
        arrays: The arrays.

    Returns:
        The file's sha256.

    Raises:
        StorageUnwritable: The file cannot be written.
    """
    content = _sealed(about, arrays)
    try:
        write_atomically(path, content, durable=True)
    except OSError as error:
        raise StorageUnwritable(f"the predictions {path} cannot be written: {error.strerror or error}") from error
    return hashlib.sha256(content).hexdigest()


def read_arrays(path: Path, newest: int) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """What :func:`write_arrays` was given, compared with its checksum.

    Args:
        path: The file.
        newest: The newest format that the caller reads; the file's stands in what it is.

    Raises:
        PredictionsDamaged: It is missing, holds no arrays, or is not what was written.
    """
    try:
        with open_regular(path) as opened:
            content = opened.read(UNPACKED_BYTES)
    except OSError as error:
        raise PredictionsDamaged(f"there are no predictions at {path}: {error.strerror or error}") from error
    if content[-len(_UNSEALED) :] != _seal(content[: -len(_UNSEALED)]):
        raise PredictionsDamaged(f"{path} is not what was written: its checksum differs")
    try:
        return _unsealed(content, newest)
    except Exception as error:  # numpy and zipfile raise all sorts at what only looks like an archive of arrays
        raise PredictionsDamaged(f"{path} holds no predictions: {error}") from error


def _unsealed(content: bytes, newest: int) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > UNPACKED_BYTES:
        raise ValueError(f"it would unpack to {unpacked:,} bytes")
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        about = json.loads(str(file[_META]))
        if about["format"] > newest:
            raise ValueError(f"it has format {about['format']}, and this expflow reads up to {newest}")
        return about, {name: file[name] for name in file.files if name != _META}


def _sealed(about: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> bytes:
    buffer = io.BytesIO()
    small = {name: _small(array) for name, array in arrays.items()}
    np.savez_compressed(buffer, allow_pickle=False, **{_META: np.asarray(json.dumps(about))}, **small)
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.comment = _UNSEALED
    content = buffer.getvalue()[: -len(_UNSEALED)]
    return content + _seal(content)


def _seal(content: bytes) -> bytes:
    return b"sha256:" + hashlib.sha256(content).hexdigest().encode()


_UNSEALED = b"?" * len(_seal(b""))


def _small(array: NDArray[Any]) -> NDArray[Any]:
    """Whole numbers in as few bytes as they need."""
    if array.dtype.kind != "i" or not array.size:
        return array
    return array.astype(np.result_type(np.min_scalar_type(array.min()), np.min_scalar_type(array.max())))
