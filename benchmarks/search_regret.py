"""What ASHA finds beside random search at equal epochs: rate x width x depth of a residual net on Fashion-MNIST.

A real sweep first trains each config of a table to the end, by the command that users type: the recipe, the metric and
the scheduler are those of experiments/search_asha.yaml, on half of its images and without its widest nets so that it
fits, its space made a grid (rates half a decade apart) and without a scheduler, so that each config's whole learning
curve is known: ten minutes on two cores. With ``--storage`` the results are kept, and a second call continues.

Then both searches are played over these curves, with the scheduler that sweeps use and the order of events that two
slots give: the searches of one seed draw their configs from the table in the same order without repeating one; ASHA
gets 27 of them; random search trains the first ones to the end, as many as ASHA's epochs pay for, rounded up. Both
select the config with the best score on val after all its epochs. Regret is what that lacks to the best of the table,
in points of val top-1 (6,000 images): the selection's optimism is the same for both. The claim is the median over five
search seeds; a thousand more are printed, since they cost nothing.

    python benchmarks/search_regret.py [--storage FOLDER] [--seeds 5]
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from expflow.events import TrialReported
from expflow.ledger import load_state, read
from expflow.sweep.plan import make_plan
from expflow.sweep.search_builders import build_scheduler
from expflow.sweep.simulation import SimulatedTrial, simulate

ASKED = Path(__file__).parents[1] / "experiments" / "search_asha.yaml"
RATES = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0]
TABLE = """
extends: {asked}
data: {{limit: 2000}}
sweep:
  space:
    optimizer.lr: {rates}
    model.width: [4, 8]
    model.depth: [8, 14, 20]
  searcher: grid
  scheduler: null
report: {{figures: []}}
"""
DRAWN, SLOTS, MORE = 27, 2, 1000


@dataclass(frozen=True)
class Search:
    """The score of the config that was selected, and the epochs that were trained for it."""

    score: float
    epochs: int


def table(folder: Path) -> list[SimulatedTrial]:
    """Each config's learning curve and seconds, from a real sweep over all of them."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "regret_table.yaml").write_text(TABLE.format(asked=ASKED, rates=RATES))
    subprocess.run([sys.executable, "-m", "expflow", "sweep", "regret_table.yaml"], cwd=folder, check=True)
    results = folder / "runs" / "regret_table"
    curves: dict[str, dict[int, float]] = {}
    for record in read(results):
        if isinstance(record.body, TrialReported):
            curves.setdefault(record.body.trial, {})[record.body.step] = record.body.metrics["val/top1"]
    return [
        SimulatedTrial(
            trial.config, trial.seconds, trial.values, [score for _, score in sorted(curves[trial.trial].items())]
        )
        for trial in load_state(results).plan_trials()
    ]


def asha(configs: Sequence[SimulatedTrial], epochs: int) -> Search:
    """The sweep's own scheduler over recorded curves."""
    scheduler = build_scheduler(make_plan(ASKED))
    played = simulate(configs, slots=SLOTS, epochs=epochs, scheduler=scheduler, seed=0)
    ended = [config.scores[-1] for config, trained in zip(configs, played.epochs, strict=True) if trained == epochs]
    return Search(max(ended), sum(played.epochs))


def at_random(configs: Sequence[SimulatedTrial], epochs: int, paid: int) -> Search:
    """As many configs to the end as ``paid`` epochs pay for, rounded up."""
    count = math.ceil(paid / epochs)
    return Search(max(config.scores[-1] for config in configs[:count]), count * epochs)


def both(known: Sequence[SimulatedTrial], epochs: int, seed: int) -> tuple[Search, Search]:
    """ASHA and random search over the configs that ``seed`` draws."""
    drawn = random.Random(seed).sample(known, DRAWN)
    first = asha(drawn, epochs)
    return first, at_random(drawn, epochs, first.epochs)


def main() -> None:
    """Train the table, search, print, and end with one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--storage", type=Path, help="where the table is kept; else it is trained anew")
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        known = table((options.storage or Path(temporary)).resolve())
    epochs = len(known[0].scores)
    best = max(config.scores[-1] for config in known)
    print(f"best of {len(known)} configs after {epochs} epochs: {best:.2%}")
    pairs = [both(known, epochs, seed) for seed in range(options.seeds)]
    for seed, (ours, plain) in enumerate(pairs):
        print(
            f"seed {seed}: ASHA selects {ours.score:.2%} for {ours.epochs} epochs, "
            f"random search {plain.score:.2%} for {plain.epochs}"
        )
    regret = [[100 * (best - search.score) for search in searches] for searches in zip(*pairs, strict=True)]
    mine, theirs = map(statistics.median, regret)
    print(f"median regret over {options.seeds} search seeds: ASHA {mine:.2f}, random search {theirs:.2f} points")
    many = [both(known, epochs, seed) for seed in range(options.seeds, options.seeds + MORE)]
    wide = [
        statistics.median(100 * (best - search.score) for search in searches) for searches in zip(*many, strict=True)
    ]
    print(f"median regret over {MORE} further seeds: ASHA {wide[0]:.2f}, random search {wide[1]:.2f} points")
    figure = {
        "name": "search_regret",
        "ours": round(mine, 3),
        "peer": round(theirs, 3),
        "peer_name": "random search at equal epochs",
        "unit": "points",
        "better": "lower",
    }
    print(json.dumps({"figures": [figure]}))


if __name__ == "__main__":
    main()
