"""Files of well-known data sets: found where people keep them, checked by md5, downloaded only on command."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from expflow.errors import DataInvalid, DataMissing


def find_file(root: Path, folders: Sequence[str], name: str) -> Path | None:
    """Return a file from the first folder that has it; None where none has.

    Args:
        root: the source's folder.
        folders: folders below it, in the order in which they are searched.
        name: the file's name.
    """
    return next((path for folder in folders if (path := root / folder / name).is_file()), None)


def check_md5(path: Path, content: bytes, md5: str) -> bytes:
    """Return a file's content if it is what the data set's publisher has.

    Args:
        path: the file, for messages.
        content: its bytes.
        md5: the publisher's hash, hexadecimal.

    Raises:
        DataInvalid: it has another hash.
    """
    actual = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if actual != md5:
        raise DataInvalid(f"{path}: expected md5 {md5}, found {actual}; get the file again")
    return content


def download(addresses: Sequence[str], folder: Path, name: str, md5: str) -> Path:
    """Download one file from the first address that has it, unless it is there already.

    Args:
        addresses: URLs of the file, in the order in which they are tried.
        folder: where it is put.
        name: its name there.
        md5: the publisher's hash, hexadecimal.

    Returns:
        Path of the file.

    Raises:
        DataMissing: no address has it.
    """
    from torchvision.datasets.utils import check_integrity, download_url

    if check_integrity(str(folder / name), md5):
        return folder / name
    arriving = folder.with_name(f".{folder.name}.arriving")
    failures = []
    for address in addresses:
        try:
            download_url(address, arriving, name, md5)
        except (OSError, RuntimeError) as error:  # RuntimeError: it came, and is not what the checksum says
            failures.append(f"{address}: {error}")
            continue
        folder.mkdir(parents=True, exist_ok=True)
        (arriving / name).replace(folder / name)
        return folder / name
    raise DataMissing(
        f"{name} could not be fetched: {'; '.join(failures)}. Get it by hand and name its folder by --from"
    )
