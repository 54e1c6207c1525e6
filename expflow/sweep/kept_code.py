"""The source of the user's modules, kept with the results that it made: each version of a file once, under its sha256.

What is read back is compared with its name, and the paths that a ledger gives are data, perhaps a stranger's.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path, PurePosixPath

from expflow.config import LoadedExperiment
from expflow.errors import LedgerMismatch, UserError
from expflow.files import write_atomically
from expflow.ledger import Header, SweepState, TrialState
from expflow.redaction import lines_with_secrets
from expflow.sweep.code_hashes import user_module_files

KEPT_CODE = "code"
"""Folder of the sources in those of the results."""

_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class KeptModule:
    """A module of the user's that results were made with.

    Attributes:
        path: Its path, relative to the folder that it was imported from.
        sha256: Of its file.
        source: What the file held; None where it was not kept.
    """

    path: str
    sha256: str
    source: bytes | None

    @property
    def text(self) -> str:
        """Its source as text; empty where it was not kept."""
        return (self.source or b"").decode("utf-8", errors="replace")


def keep_code(loaded: LoadedExperiment, folder: Path, code: Mapping[str, str]) -> None:
    """Keep the user's modules that an experiment runs. A file that holds a secret is not kept.

    Args:
        loaded: The experiment.
        folder: The folder of its results.
        code: What the ledger has of them: path -> sha256. A file that has changed since is not kept.
    """
    for path, file in user_module_files(loaded).items():
        source = file.read_bytes()
        sha256 = hashlib.sha256(source).hexdigest()
        kept = folder / KEPT_CODE / f"{sha256}.py"
        if code.get(path) != sha256 or kept.exists():
            continue
        if not lines_with_secrets(source.decode("utf-8", errors="replace"), code=True):
            write_atomically(kept, source)


def start_of(state: SweepState, trial: TrialState) -> Header | None:
    """The header of the driver that a trial was trained by last; None where there is none.

    Args:
        state: The state of its results.
        trial: The trial.
    """
    before = [start.header for start in state.starts if start.at <= trial.started_at]
    return before[-1] if before else state.header


def kept_modules(folder: Path, state: SweepState, trials: Sequence[TrialState]) -> list[KeptModule]:
    """The modules that trials were trained with; where code was changed between them, those of the last one.

    Args:
        folder: The folder of the results.
        state: Their state.
        trials: The trials.

    Raises:
        LedgerMismatch: What was kept is not what it was.
    """
    if not trials:
        return []
    header = start_of(state, max(trials, key=lambda trial: trial.started_at))
    code = header.code if header is not None else {}
    return [KeptModule(path, sha256, _source(folder, sha256)) for path, sha256 in sorted(code.items())]


def _source(folder: Path, sha256: str) -> bytes | None:
    if _SHA256.fullmatch(sha256) is None:
        return None
    kept = folder / KEPT_CODE / f"{sha256}.py"
    try:
        source = kept.read_bytes()
    except OSError:
        return None
    if hashlib.sha256(source).hexdigest() != sha256:
        raise LedgerMismatch(f"{kept} is not the code that was kept there: its sha256 is another one; put it back")
    return source


def write_modules(modules: Sequence[KeptModule], out: Path) -> list[Path]:
    """Write kept modules as files, each under its path; a file that is there and differs is left alone.

    Args:
        modules: The modules; those that were not kept are passed over.
        out: The folder that they are written into.

    Returns:
        The files.

    Raises:
        UserError: A path leads out of the folder, or a file is there with another content. Nothing was written then.
    """
    targets = [(_target(module, out), module.source) for module in modules if module.source is not None]
    if changed := [str(file) for file, source in targets if file.exists() and file.read_bytes() != source]:
        raise UserError(f"{', '.join(changed)} is there, and differs; name another folder for --out")
    return [write_atomically(file, source) for file, source in targets]


def _target(module: KeptModule, out: Path) -> Path:
    path = PurePosixPath(module.path)
    if path.is_absolute() or ".." in path.parts or "\\" in module.path or not path.parts:
        raise UserError(f"{module.path}: a module's path leads out of the folder; nothing was written")
    return out.joinpath(*path.parts)


def code_differences(sides: Sequence[Sequence[KeptModule]]) -> dict[str, tuple[str, ...]]:
    """In what the code of results differs.

    Args:
        sides: The modules of each result.

    Returns:
        Path of each module that differs -> for each result the unified difference from the first one; empty where it is
        the same, or where one of the two was not kept.
    """
    of = [{module.path: module for module in side} for side in sides]
    paths = sorted({path for modules in of for path in modules})
    differing = (path for path in paths if len({_sha256(modules, path) for modules in of}) > 1)
    return {path: tuple(_difference(path, of[0], modules) for modules in of) for path in differing}


def _sha256(modules: Mapping[str, KeptModule], path: str) -> str:
    return modules[path].sha256 if path in modules else ""


def _difference(path: str, first: Mapping[str, KeptModule], other: Mapping[str, KeptModule]) -> str:
    both = (first.get(path), other.get(path))
    if _sha256(first, path) == _sha256(other, path) or any(known and known.source is None for known in both):
        return ""
    old, new = (known.text.splitlines() if known else [] for known in both)
    names = [f"{path} ({known.sha256[:12]})" if known else "no such module" for known in both]
    return "\n".join(unified_diff(old, new, names[0], names[1], lineterm=""))
