"""What searchers of architectures lack to the best child of a table, after as many evaluations each.

The table, ``nas_table.json.gz`` beside this file, holds every child of a toy space, trained with three seeds;
``nas_table.py`` makes it.

Each searcher is played over the table, with two children under way at a time. A search sees one seed's score of
each child; it hands over the one with the best score that it saw, and its regret is what that child's mean over three
seeds lacks to the best mean of the table, in points of val top-1 (397 images). Runs are paired: run n of every searcher
sees the same seed's scores. Arguments are the searchers' defaults, which were fixed on another space (a formula, in the
tests of the searchers); evolution's population is 20.

    python benchmarks/nas_regret.py [--table FILE] [--runs 200]
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

from nas_table import Scores, Space, read_table

from expflow.search.choices import ChoiceSpace
from expflow.search.controller import ControllerSearch
from expflow.search.evolution import EvolutionSearch
from expflow.search.local_search import LocalSearch
from expflow.search.predictor import PredictorSearch
from expflow.search.specs import ControllerSpec, EvolutionSpec, LocalSpec, PredictorSpec
from expflow.sweep.searchers import Learned, SearchAlgorithm
from expflow.sweep.searchers.model_free import RandomSearch
from expflow.sweep.searchers.specs import RandomSpec

TABLE = Path(__file__).with_name("nas_table.json.gz")
AT = (50, 100, 200)
CLAIMED = 100
SLOTS = 2
Maker = Callable[[int, Space], SearchAlgorithm]

SEARCHERS: dict[str, Maker] = {
    "random": lambda seed, space: RandomSearch(RandomSpec(trials=AT[-1], seed=seed), space, "max"),
    "evolution": lambda seed, space: EvolutionSearch(EvolutionSpec(trials=AT[-1], seed=seed), space, "max"),
    "local": lambda seed, space: LocalSearch(LocalSpec(trials=AT[-1], seed=seed), space, "max"),
    "controller": lambda seed, space: ControllerSearch(ControllerSpec(trials=AT[-1], seed=seed), space, "max"),
    "predictor": lambda seed, space: PredictorSearch(PredictorSpec(trials=AT[-1], seed=seed), space, "max"),
}


def regrets(make: Maker, space: Space, scores: Scores, run: int) -> list[float]:
    """The regret, in points, of the child that would be handed over after each of :data:`AT` evaluations."""
    choices, searcher = ChoiceSpace(space), make(run, space)
    means = {network: statistics.mean(values) for network, values in scores.items()}
    best, seen, under_way, lacks = max(means.values()), dict[str, float](), list[dict[str, object]](), list[float]()
    while len(lacks) < len(AT):
        values = searcher.suggest()
        if values is not None:
            seen[choices.network(values)] = scores[choices.network(values)][run % 3]
            under_way.append(values)
        if len(seen) == AT[len(lacks)] or values is None:
            lacks.append(100 * (best - means[max(seen, key=seen.__getitem__)]))
        if len(under_way) >= SLOTS:
            ended = under_way.pop(0)
            searcher.complete(ended, Learned("complete", seen[choices.network(ended)]))
    return lacks


def interval(differences: Sequence[float]) -> tuple[float, float]:
    """A percentile bootstrap of the mean difference, 95 %."""
    generator = random.Random(0)
    means = sorted(statistics.mean(generator.choices(differences, k=len(differences))) for _ in range(2000))
    return means[50], means[-51]


def main() -> None:
    """Train what is missing of the table, play the searches, print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--table", type=Path, default=TABLE, help="a table of nas_table.py")
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--searchers", nargs="*", default=[*SEARCHERS])
    arguments = parser.parse_args()
    table = read_table(arguments.table)
    space, scores = table.space, table.scores
    size = ChoiceSpace(space).size
    if not AT[-1] < len(scores) == size:
        raise SystemExit(f"the table holds {len(scores):,} of {size:,} children; searches of {AT[-1]} need a whole one")
    print(f"{len(scores):,} children; the best has {100 * max(map(statistics.mean, scores.values())):.2f} %")
    of = {
        name: [regrets(SEARCHERS[name], space, scores, run) for run in range(arguments.runs)]
        for name in dict.fromkeys(["random", *arguments.searchers])
    }
    for place, count in enumerate(AT):
        chance = [lacks[place] for lacks in of["random"]]
        for name, runs in of.items():
            mine = [lacks[place] for lacks in runs]
            low, high = interval([one - other for one, other in zip(mine, chance, strict=True)])
            lack = statistics.mean(mine)
            print(f"{count:4d} evaluations  {name:10s}  regret {lack:6.3f}  beside random [{low:.3f}, {high:.3f}]")
    mean_lack = {name: statistics.mean(lacks[AT.index(CLAIMED)] for lacks in runs) for name, runs in of.items()}
    figures = [
        {
            "name": f"regret_at_{CLAIMED}_{name}",
            "ours": round(mean_lack[name], 3),
            "peer": round(mean_lack["random"], 3),
            "peer_name": "random search",
            "unit": "points",
            "better": "lower",
        }
        for name in of
        if name != "random"
    ]
    print(json.dumps({"figures": figures}))


if __name__ == "__main__":
    main()
