"""The versions that a project was locked to, beside those that a machine of a cluster has.

A sweep gives the same results only with the same packages; what differs is said by ``expflow doctor --on NAME`` before
anything is sent, and by the job itself before it begins.
"""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from expflow.errors import ServerUnreachable
from expflow.files import read_bounded

LOCK_FILE = "constraints.txt"
"""The project's lock: lines of ``name==version``."""
VERSIONS_VARIABLE = "EXPFLOW_VERSIONS"
"""Variable of a job: what its project was locked to, as ``name==version`` separated by spaces."""
PYTHON = "python"
_MAX_LOCK_BYTES = 2**20
_MARK = "expflow-versions: "

PROBE = f"""
import json, platform, sys
from importlib import metadata
there = {{}}
for name in sys.argv[1:]:
    try:
        there[name] = metadata.version(name)
    except metadata.PackageNotFoundError:
        pass
print({_MARK!r} + json.dumps({{{PYTHON!r}: platform.python_version(), **there}}))
"""
"""A script for the Python of a cluster's machine: the versions of the packages that its arguments name."""


@dataclass(frozen=True)
class VersionDifference:
    """A package of which a machine has another version than the project was locked to.

    Attributes:
        package: The package, or ``python``.
        locked: The project's version; Python's without its last number.
        there: The machine's; "" where it is not installed.
    """

    package: str
    locked: str
    there: str

    def __str__(self) -> str:
        """In words, as the machine itself says it."""
        here = f"{self.there} on this machine" if self.there else "not installed on this machine"
        return f"{self.package} {here}, {self.locked} in the project that was sent"


def locked_versions(project: Path) -> dict[str, str]:
    """What a project is locked to: of Python, and of each package that expflow asks for.

    A package that ``constraints.txt`` of the project does not pin counts as locked to the version that is installed
    here; so do all where there is no such file.

    Args:
        project: The project's folder.
    """
    pins, locked = dict(_pins(project / LOCK_FILE)), {PYTHON: platform.python_version()}
    for line in metadata.requires("expflow") or []:
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            name = canonicalize_name(requirement.name)
            version = pins.get(name) or _installed(name)
            if version:
                locked[name] = version
    return locked


def differences(locked: Mapping[str, str], there: Mapping[str, str]) -> list[VersionDifference]:
    """What differs between a project and a machine. Builds of one version for other hardware do not.

    Args:
        locked: Package -> version, as :func:`locked_versions` gives it.
        there: Package -> version on the machine.
    """
    pairs = [(name, _shown(name, version), there.get(name, "")) for name, version in locked.items()]
    return [
        VersionDifference(name, version, other)
        for name, version, other in pairs
        if not other or _shown(name, other) != version
    ]


def as_variable(locked: Mapping[str, str]) -> dict[str, str]:
    """The variable that tells a job what its project is locked to.

    Args:
        locked: Package -> version.
    """
    return {VERSIONS_VARIABLE: " ".join(f"{name}=={version}" for name, version in locked.items())}


def differences_here(environment: Mapping[str, str] = os.environ) -> list[VersionDifference]:
    """What differs between this machine and the project that a job was sent with; nothing outside of a job.

    Args:
        environment: The job's environment.
    """
    pairs = [word.partition("==") for word in environment.get(VERSIONS_VARIABLE, "").split()]
    locked = {name: version for name, equals, version in pairs if equals}
    here = {name: platform.python_version() if name == PYTHON else _installed(name) for name in locked}
    return differences(locked, here)


def parse_probe(text: str, machine: str) -> dict[str, str]:
    """What :data:`PROBE` printed.

    Args:
        text: All that was printed, by a login shell too.
        machine: Where, for the error.

    Raises:
        ServerUnreachable: It printed no versions.
    """
    for line in reversed(text.splitlines()):
        place = line.find(_MARK)
        if place >= 0:
            return {str(name): str(version) for name, version in json.loads(line[place + len(_MARK) :]).items()}
    last = (text.strip().splitlines() or ["nothing was printed"])[-1]
    raise ServerUnreachable(f"{machine} does not say which versions it has: {last}")


def packages_of(locked: Mapping[str, str]) -> Sequence[str]:
    """The packages that a machine is asked for.

    Args:
        locked: Package -> version.
    """
    return [name for name in locked if name != PYTHON]


def _shown(name: str, version: str) -> str:
    """A version as it is compared: of Python without the last number, of others without the build (``+cu132``)."""
    if name == PYTHON:
        return ".".join(version.split(".")[:2])
    try:
        return Version(version).public
    except ValueError:
        return version


def _pins(file: Path) -> Iterator[tuple[str, str]]:
    try:
        lines = read_bounded(file, _MAX_LOCK_BYTES).decode(errors="replace").splitlines()
    except FileNotFoundError:
        return
    for line in lines:
        try:
            requirement = Requirement(re.split(r"\s#|^#|\s--hash", line)[0].strip())
        except InvalidRequirement:
            continue
        specifiers = list(requirement.specifier)
        if len(specifiers) == 1 and specifiers[0].operator == "==":
            yield canonicalize_name(requirement.name), specifiers[0].version


def _installed(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""
