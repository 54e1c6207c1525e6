"""The readable files beside the ledger. The ledger is the truth; these are for people, and rewritten at will."""

from __future__ import annotations

from pathlib import Path

from expflow.config.identity import dump_yaml
from expflow.files import replace_whole
from expflow.sweep.plan import Plan, PlannedTrial


def write_experiment(plan: Plan) -> None:
    """``experiment.yaml``: the file as it was read by the newest driver."""
    replace_whole(plan.folder / "experiment.yaml", plan.loaded.text.encode())


def trial_folder(plan: Plan, planned: PlannedTrial) -> Path:
    """The trial's own folder, with its resolved recipe in ``config.yaml``."""
    folder = plan.folder / "trials" / planned.folder
    head = f"# {plan.name}/{planned.trial}, seed {planned.seed}\n"
    replace_whole(folder / "config.yaml", (head + dump_yaml(planned.recipe)).encode())
    return folder
