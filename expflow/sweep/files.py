"""The readable files beside the ledger. The ledger is the truth; these are for people, and rewritten at will."""

from __future__ import annotations

import os
from pathlib import Path

from expflow.config.identity import dump_yaml
from expflow.sweep.plan import Plan, PlannedTrial


def write_whole(path: Path, text: str) -> None:
    """Write ``text`` so that a reader sees the old file or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def write_experiment(plan: Plan) -> None:
    """``experiment.yaml``: the file as it was read by the newest driver."""
    write_whole(plan.folder / "experiment.yaml", plan.loaded.text)


def trial_folder(plan: Plan, planned: PlannedTrial) -> Path:
    """The trial's own folder, with its resolved recipe in ``config.yaml``."""
    folder = plan.folder / "trials" / planned.folder
    head = f"# {plan.name}/{planned.trial}, seed {planned.seed}\n"
    write_whole(folder / "config.yaml", head + dump_yaml(planned.recipe))
    return folder
