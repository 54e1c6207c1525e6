"""What a sweep's course would take, without running it."""

import pytest

from expflow.config.schema import Dimension
from expflow.registry import SCHEDULERS, load_dotted
from expflow.sweep.schedulers import SchedulerContext
from expflow.sweep.simulation import SimulatedTrial, simulate

SPACE = (Dimension(key="optimizer.lr", kind="uniform", low=0.1, high=1.0),)


def scheduler(name, epochs, **arguments):
    spec = SCHEDULERS.spec(name)(name=name, **arguments)
    return load_dotted(spec.build)(spec, SchedulerContext(epochs, SPACE))


def trials(count, seconds=9.0, seeds=1):
    return [
        SimulatedTrial(str(config), seconds, {"optimizer.lr": 0.1 + config / 100})
        for config in range(count)
        for _ in range(seeds)
    ]


def test_without_a_scheduler_trials_fill_the_gangs_in_their_order():
    played = simulate(
        [SimulatedTrial("a", 4), SimulatedTrial("b", 1), SimulatedTrial("c", 2)], slots=2, epochs=2, seed=0
    )
    assert played.wall == pytest.approx(4)
    assert played.trained == pytest.approx(7)
    assert simulate([], slots=2, epochs=2, seed=0).wall == 0


def test_successive_halving_trains_what_its_rungs_say():
    # 9 configs: 9 epochs to the first rung, 3 of them 2 more, 1 of them 6 more
    halving = scheduler("successive_halving", 9, min=1, reduction=3)
    played = simulate(trials(9), slots=3, epochs=9, scheduler=halving, seed=0)
    assert played.trained == pytest.approx(9 * 1 + 3 * 2 + 1 * 6)


def test_seeds_of_a_config_share_its_fate():
    halving = scheduler("successive_halving", 9, min=1, reduction=3)
    played = simulate(trials(9, seeds=2), slots=3, epochs=9, scheduler=halving, seed=0)
    assert played.trained == pytest.approx(2 * (9 * 1 + 3 * 2 + 1 * 6))


@pytest.mark.parametrize("name", ["asha", "median", "hyperband", "successive_halving"])
def test_a_scheduler_that_stops_trials_saves_training(name):
    whole = simulate(trials(40), slots=4, epochs=9, seed=0)
    played = simulate(trials(40), slots=4, epochs=9, scheduler=scheduler(name, 9), seed=0)
    assert 40 * 1.0 <= played.trained < whole.trained
    assert played.wall < whole.wall


def test_a_population_is_trained_to_its_end():
    played = simulate(trials(6), slots=2, epochs=9, scheduler=scheduler("pbt", 9, interval=3), seed=0)
    assert played.trained == pytest.approx(6 * 9)


def test_the_same_seed_gives_the_same_course():
    def play(seed):
        return simulate(trials(40), slots=4, epochs=9, scheduler=scheduler("asha", 9), seed=seed)

    assert play(1) == play(1)
    assert len({play(seed).trained for seed in range(5)}) > 1
