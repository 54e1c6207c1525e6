"""The runner of trials that are looked up in a table of trained children: a search takes milliseconds a child."""

from __future__ import annotations

import gzip
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from expflow.architectures.specs.child import ChildSpec
from expflow.config.identity import canonical_json
from expflow.errors import UserError
from expflow.events import Report
from expflow.tasks.specs import ReplayedSpec
from expflow.training.contract import (
    Attempt,
    Began,
    Leave,
    OnNotice,
    OnReport,
    Outcome,
    World,
    ignore_notice,
)

_VERSION = 1


def run(
    attempt: Attempt,
    world: World,
    on_report: OnReport,
    *,
    on_notice: OnNotice = ignore_notice,
    leave: Leave | None = None,
) -> Outcome:
    """Report what a child reported when the table was made: a step is an epoch.

    Args:
        attempt: The trial; its task names the table, its network is a child of it.
        world: This rank's place; rank 0 alone gives notice.
        on_report: Called with each report; the trial ends where it returns False.
        on_notice: Called on rank 0 when the attempt begins.
        leave: Never asked: the trial is over at once.

    Raises:
        UserError: There is no such table, child, seed or epoch.
    """
    task, recipe = attempt.recipe.task, attempt.recipe
    if not isinstance(task, ReplayedSpec) or not isinstance(recipe.model, ChildSpec):
        raise UserError("task replayed looks children up: model: {name: child, layers: ...}")
    row = _row(task.table, recipe.model.layers or "")
    curve = next((one["val_top1"] for one in row["seeds"] if one["seed"] == attempt.seed), None)
    if curve is None:
        there = ", ".join(str(one["seed"]) for one in row["seeds"])
        raise UserError(f"task.table: {task.table} has the seeds {there}, not {attempt.seed}; say so in sweep.seeds")
    epochs = recipe.trainer.epochs
    if epochs != len(curve):
        raise UserError(f"trainer.epochs: the table's children were trained for {len(curve)} epochs, not {epochs}")
    if world.rank == 0:
        on_notice(Began(0))
    costs = {f"cost/{name}": float(row[name]) for name in ("params", "macs") if row.get(name) is not None}
    for step, value in enumerate(curve, start=1):
        go_on = on_report(Report(step, {"val/top1": value, **costs}, step / epochs))
        if not go_on and step < epochs:
            return Outcome(step, stopped=True)
    return Outcome(epochs, stopped=False)


def _row(table: str, layers: str) -> dict[str, Any]:
    path = Path(table).expanduser().absolute()
    try:
        rows = _rows(path, path.stat().st_mtime_ns)
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise UserError(
            f"task.table: {path} is no table of children ({type(error).__name__}: {error}); benchmarks/nas_table.py"
            " makes one"
        ) from error
    row = rows.get(canonical_json({"model.layers": layers}))
    if row is None:
        raise UserError(f"task.table: {path} has no child {layers}; search the space that it was made for")
    return row


@lru_cache(maxsize=1)
def _rows(path: Path, changed: int) -> dict[str, dict[str, Any]]:
    """The children by network; ``changed`` is when the file was written, so that another one is read anew."""
    data = json.loads(gzip.decompress(path.read_bytes()))
    if data["version"] != _VERSION:
        raise ValueError(f"it is of version {data['version']}, and version {_VERSION} is read")
    return {row["network"]: row for row in data["children"]}
