"""What the shell offers on TAB: experiment files, and the names that already have results. Standard library only."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

_MOST = 200
_SKIPPED = {"__pycache__", "node_modules", "runs", "venv"}


def complete_experiment_file(incomplete: str) -> Iterator[str]:
    """YAML files and the folders on the way to them.

    Args:
        incomplete: What was typed so far.
    """
    folder, _, start = incomplete.rpartition("/")
    base = Path(folder or ("/" if incomplete.startswith("/") else "."))
    prefix = f"{folder}/" if "/" in incomplete else ""
    for entry in _entries(base):
        if not entry.name.startswith(start) or entry.name.startswith(".") or entry.name in _SKIPPED:
            continue
        if entry.name.endswith(".egg-info"):
            continue
        if entry.is_dir():
            yield f"{prefix}{entry.name}/"
        elif entry.name.endswith((".yaml", ".yml")):
            yield f"{prefix}{entry.name}"


def complete_result_name(incomplete: str) -> Iterator[str]:
    """Experiments that have results in the runs folder, and experiment files.

    Args:
        incomplete: What was typed so far.
    """
    storage = Path(os.environ.get("EXPFLOW_STORAGE") or "runs")
    for entry in _entries(storage):
        if entry.name.startswith(incomplete) and (Path(entry.path) / "ledger").is_dir():
            yield entry.name
    yield from complete_experiment_file(incomplete)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)[:_MOST]
    except OSError:
        return []
