"""Evolution, local search and predictor: what each does with results, and that each beats chance where it can."""

import math
import random
import statistics

import pytest

from expflow.config.child_space import child_dimensions
from expflow.registry import load_dotted
from expflow.search.specs import ControllerSpec, EvolutionSpec, LocalSpec, PredictorSpec
from expflow.sweep.searchers import Learned

SPACE = child_dimensions(
    "model.layers",
    "layers",
    {"count": [2, 3], "height": [1, 3, 5], "width": [1, 3, 5], "stride": [1, 2], "filters": [4, 8, 16], "skips": True},
)
SPECS = {
    "controller": ControllerSpec(trials=80, batch=4),
    "evolution": EvolutionSpec(trials=80, population=10, sample=4),
    "local": LocalSpec(trials=80, startup=5),
    "predictor": PredictorSpec(trials=80, startup=15, ensemble=2, candidates=30, refit=20),
}


def build(spec, seed=0, mode="max"):
    return load_dotted(spec.build)(spec.model_copy(update={"seed": seed}), SPACE, mode)


def reward(values):
    layers = range(1, values["model.layers.count"] + 1)

    def part(number, key):
        return values[f"model.layers.{number}.{key}"]

    return sum(
        math.log2(part(n, "filters")) + 2 * (part(n, "height") == part(n, "width")) - (part(n, "stride") == 2)
        for n in layers
    )


def searched(searcher, children=80):
    rewards = []
    while len(rewards) < children and (values := searcher.suggest()) is not None:
        rewards.append(reward(values))
        searcher.complete(values, Learned("complete", rewards[-1]))
    return rewards


@pytest.mark.parametrize("name", ["evolution", "local", "predictor"])
def test_its_best_child_is_better_than_that_of_as_many_random_ones(name):
    best = [max(searched(build(SPECS[name], seed))) for seed in range(4)]
    random_spec = EvolutionSpec(trials=80, population=1000)
    chance = [max(searched(build(random_spec, seed))) for seed in range(4)]
    assert statistics.mean(best) > statistics.mean(chance)


@pytest.mark.parametrize("name", SPECS)
def test_the_same_results_in_the_same_order_give_the_same_children(name):
    """Results arrive in another order than children were proposed, some fail, and one searcher is fed from a record."""
    first, second = build(SPECS[name], 3), build(SPECS[name], 3)
    rng, running = random.Random(5), []
    for number in range(60):
        values = first.suggest()
        assert second.suggest(values) == values
        running.append(values)
        if len(running) > 3:
            ended = running.pop(rng.randrange(len(running)))
            learned = [Learned("infeasible"), Learned("failed")][number // 10 % 2] if number % 10 == 0 else None
            learned = learned or Learned("complete", reward(ended))
            first.complete(ended, learned)
            second.complete(ended, learned)
    assert [first.suggest() for _ in range(3)] == [second.suggest() for _ in range(3)]


@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("kind", ["failed", "infeasible"])
def test_a_search_in_which_every_child_fails_goes_on(name, kind):
    searcher = build(SPECS[name])
    for _ in range(40):
        values = searcher.suggest()
        assert values is not None
        searcher.complete(values, Learned(kind))


def test_in_evolution_the_oldest_dies_and_children_name_their_parents():
    searcher = build(EvolutionSpec(trials=10, population=2, sample=2))
    first, second = (searcher.suggest() for _ in range(2))
    searcher.complete(first, Learned("complete", 5.0))
    searcher.complete(second, Learned("complete", 1.0))
    assert searcher.parents == ()
    third = searcher.suggest()
    assert searcher.parents == (first,)
    searcher.complete(third, Learned("complete", 3.0))  # now the first, which was the best, is dead
    searcher.suggest()
    assert searcher.parents == (third,)


def test_local_search_goes_on_from_the_first_better_neighbour_and_restarts_on_a_hill():
    searcher = build(LocalSpec(trials=1000, startup=1))
    values = searcher.suggest()
    searcher.complete(values, Learned("complete", 1.0))
    neighbour = searcher.suggest()
    assert searcher.parents == (values,)
    searcher.complete(neighbour, Learned("complete", 2.0))
    assert (searcher.suggest(), searcher.parents)[1] == (neighbour,)
    while searcher.parents:
        searcher.complete(searcher.suggest(), Learned("complete", 0.0))
    assert searcher.suggest() is not None
