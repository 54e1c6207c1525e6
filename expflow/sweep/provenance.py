"""Where results come from: package versions, git state, and which of the user's files they depend on."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from expflow.errors import CodeChanged
from expflow.redaction import redacted
from expflow.version import __version__

_PACKAGES = ("torch", "torchvision", "pytorch-lightning", "ray", "mlflow", "webdataset", "numpy")
_GIT_KEYS = ("commit", "dirty")

LONGEST_CHANGES = 1_000_000
"""Characters of a record of uncommitted changes."""

GIT_VARIABLES = "EXPFLOW_GIT_"
"""Beginning of the variables that hold, in a cluster job, what :func:`git_state` gave where it was sent from."""
CONTINUE_VARIABLE = "EXPFLOW_CONTINUE"
"""Variable that holds, in a cluster job, what its user types to continue it."""


def package_versions() -> dict[str, str]:
    """expflow, Python, and the packages that results depend on."""
    versions = {"expflow": __version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def git_state(folder: Path) -> dict[str, str]:
    """``commit`` and ``dirty`` of a folder's repository.

    Outside of a repository they are what the sender of a cluster job recorded; empty where there is no record.

    Args:
        folder: Any folder.
    """
    sender = {key: os.environ.get(GIT_VARIABLES + key.upper(), "") for key in _GIT_KEYS}
    sent = {key: value for key, value in sender.items() if value}
    commit = _answer_of_git(folder, "rev-parse", "HEAD")
    if commit is None:
        return sent
    status = _answer_of_git(folder, "status", "--porcelain", "--untracked-files=no")
    return {"commit": commit.strip(), "dirty": "yes" if status else "no"}


def uncommitted_changes(folder: Path) -> str:
    """What differs from the commit in a folder's repository, without secrets; empty where nothing does.

    Files that git does not know are left out, as in :func:`git_state`.

    Args:
        folder: Any folder.
    """
    text = redacted(_answer_of_git(folder, "diff", "HEAD", "--no-color", "--no-ext-diff") or "")
    return text if len(text) <= LONGEST_CHANGES else f"{text[:LONGEST_CHANGES]}\n[cut: {len(text)} characters in all]\n"


def _answer_of_git(folder: Path, *words: str) -> str | None:
    git = shutil.which("git")
    if git is None:
        return None
    call = [git, "-C", str(folder), *words]
    try:
        done = subprocess.run(call, capture_output=True, timeout=10, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode(errors="replace") if done.returncode == 0 else None


def installed_packages() -> list[str]:
    """All packages that can be imported here, as ``name==version``, by the names of their folders."""
    packages: dict[str, str] = {}
    for folder in map(Path, sys.path):
        for entry in folder.glob("*.dist-info") if folder.is_dir() else ():
            name, _, number = entry.stem.rpartition("-")
            packages.setdefault(name, number)  # the first one on the path is imported
    return [f"{name}=={packages[name]}" for name in sorted(packages, key=str.lower)]


def environment_text() -> str:
    """What the results were made with: Python, the system, and every package."""
    system = f"# Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    return "\n".join([system, f"# expflow {__version__}", *installed_packages()]) + "\n"


def check_code(before: Mapping[str, str], now: Mapping[str, str], expflow_before: str, name: str) -> None:
    """Refuse results that other code made.

    Args:
        before: The user's own files when the results were made, path -> sha256.
        now: The same files now; a file that only one side has counts as changed.
        expflow_before: The version of expflow that made the results; "" where it is not known.
        name: The name of the results.

    Raises:
        CodeChanged: A file or expflow itself has changed.
    """
    changed = sorted(file for file in {*before, *now} if before.get(file) != now.get(file))
    if expflow_before and expflow_before != __version__:
        changed.append(f"expflow itself ({expflow_before} -> {__version__})")
    if changed:
        raise CodeChanged(
            f"{name} has results that were made by other code: {', '.join(changed)} changed since. "
            "Say which you want: --fresh starts anew beside them, --keep-results counts them as still valid, and "
            "--changed-code new gives this code results of its own"
        )
