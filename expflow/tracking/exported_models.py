"""Models that were exported from a sweep's trials, as they lie beside its ledger: ``models/<trial>/``.

A trial's folder holds ``export.json``, which says of which weights it was made or why it could not be, and ``model/``,
a model in MLflow's format. The record is written last, so that a folder without one is no export.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from expflow.files import write_atomically

FOLDER = "models"
_RECORD = "export.json"


@dataclass(frozen=True)
class ExportedModel:
    """What came of exporting one trial's network.

    Attributes:
        trial: Id of the trial.
        config: Id of its config.
        label: The config in words.
        weights: sha256 of the trial's final weights.
        made_by: Versions of what exported it (``torch 2.15.0``): another version may succeed where this one failed.
        reason: Why there is no model; empty where there is one.
    """

    trial: str
    config: str
    label: str
    weights: str
    made_by: str
    reason: str = ""

    @property
    def stamp(self) -> str:
        """What differs between two exports of one trial."""
        return f"{self.weights}:{self.made_by}:{self.reason}"


def model_folder(folder: Path, trial: str) -> Path:
    """Where a trial's model lies, in MLflow's format.

    Args:
        folder: The experiment's folder.
        trial: Id of the trial.
    """
    return folder / FOLDER / trial / "model"


def write_export(folder: Path, export: ExportedModel) -> None:
    """Record an export; its model, if there is one, lies in its place already.

    Args:
        folder: The experiment's folder.
        export: What came of it.
    """
    path = folder / FOLDER / export.trial / _RECORD
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(asdict(export), indent=1).encode())


def read_exports(folder: Path) -> dict[str, ExportedModel]:
    """All exports of a sweep by trial id; what is damaged counts as not there.

    Args:
        folder: The experiment's folder.
    """
    exports = {}
    for path in sorted((folder / FOLDER).glob(f"*/{_RECORD}")):
        try:
            content = json.loads(path.read_text())
            export = ExportedModel(**content) if isinstance(content, Mapping) else None
        except (OSError, TypeError, ValueError):
            continue
        if export is not None and export.trial == path.parent.name:
            exports[export.trial] = export
    return exports
