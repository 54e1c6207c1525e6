"""``show NAME --code --json``: the user's modules that a result was made with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from expflow.sweep.kept_code import KeptModule


@dataclass(frozen=True)
class CodeModule:
    """A module of the user's.

    Attributes:
        path: Its path, relative to the folder that it was imported from.
        sha256: Of its file.
        source: What the file held; None where it was not kept (by an earlier expflow, or because it holds a secret).
        file: Where it was written to; empty without ``--out``.
    """

    path: str
    sha256: str
    source: str | None
    file: str


@dataclass(frozen=True)
class CodeDocument:
    """The user's modules that a result was made with.

    Attributes:
        document: Which document this is.
        version: Its version.
        name: The address of the result.
        modules: Its modules, by their paths; none where everything is expflow's own.
    """

    document: Literal["code"]
    version: Literal[1]
    name: str
    modules: tuple[CodeModule, ...]


def code_document(name: str, modules: Sequence[KeptModule], out: Path | None) -> CodeDocument:
    """Modules as plain data.

    Args:
        name: The address of the result.
        modules: The modules.
        out: The folder that they were written into; None: they were not.
    """
    return CodeDocument("code", 1, name, tuple(_module(module, out) for module in modules))


def _module(module: KeptModule, out: Path | None) -> CodeModule:
    kept = module.source is not None
    return CodeModule(
        module.path, module.sha256, module.text if kept else None, str(out / module.path) if kept and out else ""
    )
