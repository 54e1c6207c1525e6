"""Programs and data from Debian's packages, installed once where this user may; else what needs them is skipped."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest


def need_programs(packages: str, *programs: str) -> None:
    """Have some programs, from packages where they are missing; skip the test where they cannot be had.

    Args:
        packages: Debian's packages, separated by spaces.
        *programs: Their programs.
    """
    if reason := missing_programs(packages, *programs):
        pytest.skip(reason)


@functools.cache
def missing_programs(packages: str, *programs: str) -> str:
    """Why some programs are not there; empty where they are. They are installed where that can be done.

    Args:
        packages: Debian's packages, separated by spaces.
        *programs: Their programs.
    """
    if not _missing(programs):
        return ""
    if reason := _not_installed(packages):
        return reason
    missing = _missing(programs)
    return f"Debian's packages {packages} do not have {' and '.join(missing)}" if missing else ""


def need_folder(package: str, folder: Path) -> None:
    """Have a folder of data, from the package that holds it; skip the test where it cannot be had.

    Args:
        package: Debian's package.
        folder: What it holds.
    """
    reason = "" if folder.is_dir() else _not_installed(package)
    if reason or not folder.is_dir():
        pytest.skip(reason or f"Debian's package {package} does not have {folder}")


def _not_installed(packages: str) -> str:
    """Install packages; why that cannot be done, or empty."""
    if not shutil.which("apt-get") or os.geteuid() != 0:
        return f"only root can install Debian's packages {packages}, which are not installed"
    try:
        _install(packages.split())
    except (subprocess.SubprocessError, OSError) as error:
        lines = getattr(error, "stderr", b"") or b""
        return f"Debian's packages {packages} cannot be installed: {error} {lines.decode()[-300:]}"
    return ""


def _missing(programs: tuple[str, ...]) -> list[str]:
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    return [program for program in programs if not shutil.which(program, path=path)]


def _install(packages: list[str]) -> None:
    # A lock that another apt-get holds is waited for.
    apt = ("apt-get", "-o", "DPkg::Lock::Timeout=120", "-q", "-y")
    install = [*apt, "install", "--no-install-recommends", *packages]
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    known: dict[str, Any] = {"check": True, "capture_output": True, "timeout": 600, "env": environment}
    try:
        subprocess.run(install, **known)
    except subprocess.CalledProcessError:  # a machine whose lists of packages were never fetched, or are old
        subprocess.run([*apt, "update"], **known)
        subprocess.run(install, **known)
