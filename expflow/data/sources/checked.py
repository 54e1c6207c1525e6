"""Files of well-known data sets: found where people keep them, held against checksums, fetched only when asked."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from expflow.errors import DataInvalid, DataMissing


def find(root: Path, folders: Sequence[str], name: str) -> Path | None:
    """The first of ``folders`` below ``root`` that has a file ``name``."""
    return next((path for folder in folders if (path := root / folder / name).is_file()), None)


def check(path: Path, content: bytes, md5: str) -> bytes:
    """``content`` of ``path`` if it is what the data set's publisher has. Raises DataInvalid."""
    found = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != md5:
        raise DataInvalid(f"{path}: expected md5 {md5}, found {found}; get the file again")
    return content


def fetch(addresses: Sequence[str], folder: Path, name: str, md5: str) -> Path:
    """Download one file into ``folder``, from the first of ``addresses`` that has it. Raises DataMissing."""
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
