"""Tux Paint's stamps as files, or inside of Debian's package. Standard library only: it runs at every start."""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Sequence
from pathlib import Path

from expflow.errors import DataInvalid, DataMissing

INSTALLED = Path("/usr/share/tuxpaint/stamps")
"""Where Debian's package puts them."""

FOLDER = "stamps/"
"""What precedes a stamp's theme in the paths of the package."""

IMAGE, CAPTIONS = ".png", ".txt"
"""How the names of a stamp's files end: the picture, and what is said of it, one language a line."""

_ARCHIVE, _HEADER = b"!<arch>\n", 60
LARGEST_STAMP = 16 * 2**20
"""Bytes of a stamp that are read."""


def theme_of(name: str) -> str:
    """Return the theme of a stamp.

    Args:
        name: its path, as :func:`read_stamps` gives it.
    """
    return name.partition("/")[0]


def motif_of(name: str) -> str:
    """Return what stamps of one motif share: the path without the number at its end.

    Args:
        name: a stamp's path.
    """
    return re.sub(r"[-_ ]?\d+$", "", name.removesuffix(IMAGE))


def package_in(root: Path) -> Path | None:
    """Return the package's file in a folder; None where there is none.

    Args:
        root: the folder.
    """
    return next(iter(sorted(root.glob("tuxpaint-stamps-default*.deb"))), None)


def _unpacked(root: Path, ending: str = IMAGE) -> dict[str, Path]:
    """Path below ``stamps`` -> file."""
    place = next((path for path in (root / "usr/share/tuxpaint/stamps", root / "stamps") if path.is_dir()), root)
    return {path.relative_to(place).as_posix(): path for path in sorted(place.rglob(f"*{ending}"))}


def stamp_stats(root: Path, endings: Sequence[str] = (IMAGE,)) -> list[list[object]]:
    """Return path, size and time of change of each stamp, or of the package's file.

    Args:
        root: the folder.
        endings: of the files that are read of a stamp.
    """
    package = package_in(root)
    unpacked = {name: path for ending in endings for name, path in _unpacked(root, ending).items()}
    files = {package.name: package} if package is not None else unpacked
    stats = ((name, path.stat()) for name, path in files.items())
    return [[str(root), 0, 0], *([name, stat.st_size, stat.st_mtime_ns] for name, stat in stats)]


def read_stamps(root: Path, ending: str = IMAGE) -> dict[str, bytes]:
    """Return the PNG of each stamp by its path below its theme's folder's parent, as ``animals/birds/owl.png``.

    Args:
        root: a folder with the package's file or with its files.
        ending: of the files that are read: :data:`IMAGE`, or :data:`CAPTIONS`.

    Raises:
        DataMissing: there are no stamps in it.
        DataInvalid: the package's file cannot be read.
    """
    package = package_in(root)
    if package:
        stamps = _from_package(package, ending)
    else:
        stamps = {name: path.read_bytes() for name, path in _unpacked(root, ending).items()}
    if not stamps:
        raise DataMissing(f"no stamps in {root}: expected tuxpaint-stamps-default_*.deb, or PNGs by theme")
    return dict(sorted(stamps.items()))


def _from_package(path: Path, ending: str) -> dict[str, bytes]:
    """A .deb is an ar archive that holds a tar of the files."""
    try:
        with path.open("rb") as file:
            if file.read(len(_ARCHIVE)) != _ARCHIVE:
                raise DataInvalid(f"{path} is no package of Debian's; get it again")
            while header := file.read(_HEADER):
                name, size = header[:16].decode("ascii").strip().rstrip("/"), int(header[48:58])
                if name.startswith("data.tar"):
                    return _from_tar(io.BytesIO(file.read(size)), ending)
                file.seek(size + size % 2, 1)
    except (OSError, ValueError, tarfile.TarError) as error:
        raise DataInvalid(f"{path} cannot be read: {error}; get it again") from error
    raise DataInvalid(f"{path} holds no files; get it again")


def _from_tar(content: io.BytesIO, ending: str) -> dict[str, bytes]:
    stamps: dict[str, bytes] = {}
    with tarfile.open(fileobj=content, mode="r|*") as archive:
        for member in archive:
            file = archive.extractfile(member) if member.isfile() and member.name.endswith(ending) else None
            if file is not None and FOLDER in member.name and member.size <= LARGEST_STAMP:
                stamps[member.name.partition(FOLDER)[2]] = file.read()
    return stamps
