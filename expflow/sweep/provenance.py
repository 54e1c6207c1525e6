"""Where results come from: package versions, git state, and which of the user's files they depend on."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import expflow
from expflow.errors import CodeChanged

_PACKAGES = ("torch", "torchvision", "pytorch-lightning", "ray", "mlflow", "webdataset", "numpy")
_GIT_KEYS = ("commit", "dirty")

GIT_VARIABLES = "EXPFLOW_GIT_"
"""Beginning of the variables that tell a cluster job what :func:`git_state` said where it was sent from."""
CONTINUE_VARIABLE = "EXPFLOW_CONTINUE"
"""Variable that tells a cluster job what its user types to continue it."""


def versions() -> dict[str, str]:
    """expflow, Python, and the packages that results depend on."""
    found = {"expflow": expflow.__version__, "python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def git_state(folder: Path) -> dict[str, str]:
    """``commit`` and ``dirty`` of the repository that holds ``folder``; outside of one what the sender said, if any."""
    sender = {key: os.environ.get(GIT_VARIABLES + key.upper(), "") for key in _GIT_KEYS}
    told = {key: value for key, value in sender.items() if value}
    git = shutil.which("git")
    if git is None:
        return told

    def ask(*words: str) -> str | None:
        call = [git, "-C", str(folder), *words]
        try:
            done = subprocess.run(call, capture_output=True, text=True, timeout=10, check=False)  # noqa: S603
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = ask("rev-parse", "HEAD")
    status = ask("status", "--porcelain", "--untracked-files=no")
    if commit is None:
        return told
    return {"commit": commit, "dirty": "yes" if status else "no"}


def check_code(before: Mapping[str, str], now: Mapping[str, str], expflow_before: str, name: str) -> None:
    """Raise :class:`CodeChanged` when results exist that other code made.

    ``before`` and ``now`` map the user's own files to their sha256; a file that only one side knows counts as changed.
    """
    changed = sorted(file for file in {*before, *now} if before.get(file) != now.get(file))
    if expflow_before and expflow_before != expflow.__version__:
        changed.append(f"expflow itself ({expflow_before} -> {expflow.__version__})")
    if changed:
        raise CodeChanged(
            f"{name} has results that were made by other code: {', '.join(changed)} changed since. "
            "Say which you want: --fresh starts anew beside them, --keep-results counts them as still valid"
        )
