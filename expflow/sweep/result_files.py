"""The readable files beside the ledger. The ledger is the truth; these are for people, and rewritten at will.

As in the ledger, no secret stands in them."""

from __future__ import annotations

from pathlib import Path

from expflow.files import write_atomically
from expflow.redaction import redacted
from expflow.sweep.plan import Plan, PlannedTrial
from expflow.sweep.provenance import environment_text, uncommitted_changes
from expflow.sweep.trial_config import write_config


def write_provenance(plan: Plan) -> None:
    """Write what the newest driver was given, without secrets.

    ``experiment.yaml`` is the file as it was read, ``environment.txt`` names the packages, ``changes.diff`` what
    differed from the commit.

    Args:
        plan: The plan that the driver runs.
    """
    write_atomically(plan.folder / "experiment.yaml", redacted(plan.loaded.text).encode())
    write_atomically(plan.folder / "environment.txt", environment_text().encode())
    changes = uncommitted_changes(plan.loaded.experiment.file.parent)
    if changes:
        write_atomically(plan.folder / "changes.diff", changes.encode(errors="replace"))
    else:
        (plan.folder / "changes.diff").unlink(missing_ok=True)


def make_trial_folder(plan: Plan, planned: PlannedTrial) -> Path:
    """Make the trial's own folder, with its resolved recipe in ``config.yaml``; returns the folder.

    Args:
        plan: The plan that the trial belongs to.
        planned: The trial.
    """
    folder = plan.folder / "trials" / planned.folder
    write_config(folder, f"{plan.name}/{planned.trial}", planned.seed, planned.recipe)
    return folder
