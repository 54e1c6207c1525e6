"""A table of every child of a toy space, trained: for searchers of architectures to be played over in milliseconds.

The space is three layers on digits' 8x8 pixels: height, width, stride and filters of each, 4,096 children. Each is
trained with three seeds by a real sweep, the command that users type: some hours on two cores. The sweep goes on where
it was: the same command again, also after a kill, trains what is missing; ``--budget N`` ends it after N trials in all.
Then the table is written: for each child its network, parameters, multiply-adds, and for each seed the seed, val top-1
after each epoch and the seconds of its training; and with which versions. A table of a sweep that has trials to go says
how many children are whole, and holds these alone.

    python benchmarks/nas_table.py --storage FOLDER [--out nas_table.json.gz] [--layers 3] [--budget N]
"""

from __future__ import annotations

import argparse
import gzip
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from expflow.config.schema import Dimension
from expflow.ledger import SweepState, TrialState, load_state
from expflow.search.choices import ChoiceSpace
from expflow.sweep.plan import make_plan

EXPERIMENT = """
data: {{name: digits, batch_size: 64}}
model: {{name: child}}
task: classification
loss: cross_entropy
optimizer: {{name: sgd, lr: 0.05, momentum: 0.9, weight_decay: 1e-4}}
schedule: one_cycle
trainer: {{epochs: 2, checkpoint: {{at_end: false, every_seconds: null}}}}
sweep:
  space:
    model.layers: {{layers: {{count: {layers}, height: [1, 3], width: [1, 3], stride: [1, 2], filters: [4, 8]}}}}
  seeds: {seeds}
  searcher: grid
  metric: val/top1
report: {{figures: []}}
"""
SEEDS = 3
VERSION = 1
Space = tuple[Dimension, ...]
Scores = dict[str, list[float]]


@dataclass(frozen=True)
class Table:
    """The children of a space with their scores.

    Attributes:
        space: The searched dimensions.
        scores: A child's network, as :meth:`ChoiceSpace.network` names it -> val top-1 after the last epoch, by seed.
    """

    space: Space
    scores: Scores


def train(folder: Path, layers: int, budget: int | None) -> Path:
    """Train what is missing; the folder of the results."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"nas_table_{layers}.yaml"
    file.write_text(EXPERIMENT.format(layers=layers, seeds=SEEDS))
    sets = ["--set", f"sweep.budget.trials={budget}"] if budget is not None else []
    subprocess.run([sys.executable, "-m", "expflow", "sweep", file.name, *sets], cwd=folder, check=True)
    return make_plan(file, storage=folder / "runs").folder


def table_of(state: SweepState) -> dict[str, Any]:
    """The table as plain data."""
    header = state.header
    if header is None:
        raise SystemExit("there are no results to make a table of")
    space = [dict(dimension) for dimension in header.space]
    choices = ChoiceSpace(tuple(Dimension.model_validate(one) for one in space))
    children: dict[str, list[TrialState]] = {}
    for trial in state.plan_trials():
        children.setdefault(choices.network(trial.values), []).append(trial)
    whole = {
        network: trials
        for network, trials in children.items()
        if len(trials) == len(header.seeds) and all(trial.status == "done" for trial in trials)
    }
    return {
        "version": VERSION,
        "recipe": dict(header.recipe),
        "space": space,
        "samples": header.samples,
        "versions": dict(header.versions),
        "children": [_row(network, trials) for network, trials in whole.items()],
        "missing": len(children) - len(whole),
    }


def _row(network: str, trials: list[TrialState]) -> dict[str, Any]:
    return {
        "network": network,
        "values": trials[0].values,
        "params": trials[0].metrics.get("cost/params"),
        "macs": trials[0].metrics.get("cost/macs"),
        "seeds": [
            {
                "seed": trial.seed,
                "val_top1": [round(report.metrics["val/top1"], 6) for report in trial.reports],
                "seconds": round(trial.metrics["cost/seconds"], 3),
            }
            for trial in sorted(trials, key=lambda trial: trial.seed)
        ],
    }


def write_table(table: dict[str, Any], path: Path) -> None:
    """Write a table; the same table gives the same bytes."""
    text = json.dumps(table, separators=(",", ":"), sort_keys=True)
    path.write_bytes(gzip.compress(text.encode(), mtime=0))


def read_table(path: Path) -> Table:
    """Read what :func:`write_table` wrote."""
    data = json.loads(gzip.decompress(path.read_bytes()))
    if data["version"] != VERSION:
        raise SystemExit(f"{path} is a table of version {data['version']}, and version {VERSION} is read")
    space = tuple(Dimension.model_validate(one) for one in data["space"])
    scores = {row["network"]: [seed["val_top1"][-1] for seed in row["seeds"]] for row in data["children"]}
    return Table(space, scores)


def main() -> None:
    """Train what is missing, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--storage", type=Path, required=True, help="folder of the sweep")
    parser.add_argument("--out", type=Path, default=Path("nas_table.json.gz"))
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--budget", type=int, help="most trials in all; by default every child with every seed")
    options = parser.parse_args()
    table = table_of(load_state(train(options.storage, options.layers, options.budget)))
    write_table(table, options.out)
    size = options.out.stat().st_size / 1e6
    left = f"; {table['missing']:,} further ones lack seeds" if table["missing"] else ""
    print(f"{len(table['children']):,} children with {SEEDS} seeds each, {size:.2f} MB: {options.out}{left}")


if __name__ == "__main__":
    main()
