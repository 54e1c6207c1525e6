"""What the ledger's records mean to MLflow, without MLflow."""

from __future__ import annotations

import math

import pytest

from expflow.events import (
    AttemptFailed,
    DriverStopped,
    Event,
    SplitEvaluated,
    TrialEnded,
    TrialForked,
    TrialReported,
    TrialStarted,
)
from expflow.intervals import share_estimate
from expflow.ledger import Header, Record
from expflow.tracking.config_runs import config_key, final_values
from expflow.tracking.ledger_translator import LedgerTranslator, dataset
from expflow.tracking.naming import as_text, flatten, full_recipe, safe_key
from expflow.tracking.pending_updates import SWEEP, RunUpdate
from tests.tracking.stories import failed_trial, header, proposed, reports, whole_sweep, whole_trial


def mirror_of(*events: Event | Header, **changes) -> LedgerTranslator:
    mirror = LedgerTranslator()
    for line, event in enumerate([header(**changes), *events], start=1):
        mirror.apply(Record(1, line, 1000.0 + line, event, line))
    return mirror


def updates(mirror: LedgerTranslator) -> dict[str, RunUpdate]:
    return dict(mirror.pending)


def points(update: RunUpdate, metric: str) -> list[tuple[int, float]]:
    return [(point.step, pytest.approx(point.value)) for point in update.points if point.metric == metric]


def test_one_sweep_run_a_run_for_each_config_and_each_trial() -> None:
    mirror = mirror_of(*whole_sweep(), DriverStopped("finished"))
    keys = [key for key, _ in mirror.pending]
    assert keys[0] == SWEEP
    assert sorted(keys[1:]) == sorted(
        [config_key("c20", (0, 1, 2)), config_key("c56", (0, 1, 2))]
        + [f"trial:t{depth}s{seed}" for depth in (20, 56) for seed in range(3)]
    )
    assert all(update.fresh and update.status == "FINISHED" for _, update in mirror.pending)


def test_one_seed_needs_no_config_runs() -> None:
    mirror = mirror_of(*whole_sweep(seeds=(0,)), seeds=(0,))
    assert not [key for key, _ in mirror.pending if key.startswith("config")]


def test_runs_are_named_and_described() -> None:
    mirror = mirror_of(*whole_trial(56, 2))
    trial = mirror.spec("trial:t56s2")
    assert (trial.role, trial.name) == ("trial", "depth=56 s2")
    assert trial.parameters["model.depth"] == "56"
    assert trial.parameters["optimizer.lr"] == "0.1"
    assert trial.started_at == 1003.0
    expected = {
        "expflow.role": "trial",
        "expflow.trial": "t56s2",
        "expflow.config": "c56",
        "expflow.seed": "2",
        "expflow.version": "0.1.0",
        "mlflow.source.git.commit": "c0ffee",
    }
    assert expected.items() <= trial.tags.items()
    assert mirror.spec(config_key("c56", (0, 1, 2))).name == "depth=56"
    sweep = mirror.spec(SWEEP)
    assert sweep.name == "depth"
    assert sweep.tags["mlflow.note.content"] == "**Does depth hurt?**\n\nExpected: No."
    assert sweep.parameters["model.depth"] == "20"


def test_a_trial_without_searched_values_has_the_experiments_name() -> None:
    event = whole_trial(20, 0)
    event[0] = type(event[0])("t20s0", "c20", 0, {}, {})
    assert mirror_of(*event, seeds=(0,)).spec("trial:t20s0").name == "depth s0"


def test_reports_keep_the_ledgers_time_and_step() -> None:
    update = updates(mirror_of(*whole_trial(20, 0)))["trial:t20s0"]
    assert points(update, "val/top1") == [(10, 0.48), (20, 0.49), (30, 0.5)]
    assert [point.at for point in update.points if point.metric == "progress/epoch"] == [1004.0, 1005.0, 1006.0]
    assert points(update, "cost/seconds") == [(30, 1.5)]


def test_a_mean_is_told_once_all_seeds_are_there() -> None:
    events = [*whole_trial(20, 0), *whole_trial(20, 1), *whole_trial(20, 2)[:3]]
    key = config_key("c20", (0, 1, 2))
    assert points(updates(mirror_of(*events))[key], "val/top1") == [(10, 0.58)]
    assert points(updates(mirror_of(*events[:-1]))[key], "val/top1") == []


def test_final_values_cover_the_seeds_at_full_budget() -> None:
    events = [*whole_trial(20, 0), *whole_trial(20, 1), *failed_trial(20, 2)]
    update = updates(mirror_of(*events))[config_key("c20", (0, 1, 2))]
    assert points(update, "final/val_top1") == [(0, 0.55)]
    assert points(update, "final/val_top1_low") == [(0, 0.5)]
    assert points(update, "final/val_top1_high") == [(0, 0.6)]
    assert points(update, "n_seeds") == [(10, 3), (20, 2), (30, 2), (30, 2)]
    assert update.tags["expflow.failed_seeds"] == "2"
    assert update.tags["expflow.state"] == "done"


def test_a_config_whose_seeds_all_failed_failed() -> None:
    events = [event for seed in range(3) for event in failed_trial(20, seed)]
    update = updates(mirror_of(*events))[config_key("c20", (0, 1, 2))]
    assert (update.status, update.tags["expflow.state"]) == ("FAILED", "failed")
    assert not points(update, "final/val_top1")


def test_intervals_follow_the_rule_of_inference() -> None:
    def ends(metric, values, samples=None):
        final = final_values([{metric: value} for value in values], lambda _: samples)
        return tuple(value for name, value in final.items() if name.endswith(("_low", "_high")))

    assert ends("val/loss", [1.0]) == ()
    assert ends("val/loss", [2.0, 1.0]) == (1.0, 2.0)
    # t(0.975, 2 degrees of freedom) = 4.302653, from any table; the deviation of 1, 2, 3 is 1
    half = 4.302653 / math.sqrt(3)
    assert ends("val/loss", [1.0, 2.0, 3.0]) == pytest.approx((2 - half, 2 + half))
    assert ends("val/loss", [1.0, math.nan, 2.0]) == ()
    low, high = ends("val/top1", [0.99, 0.99, 0.99], 397)  # seeds that agree by chance
    assert 0.98 < low < 0.99 < high < 1


def test_more_seeds_replace_the_config_run() -> None:
    edited = header(seeds=(0, 1, 2, 3), plan="p2")
    again = [proposed(20, seed) for seed in range(3)]
    mirror = mirror_of(*whole_sweep(depths=(20,)), edited, *again, *whole_trial(20, 3))
    by_run = updates(mirror)
    assert by_run[config_key("c20", (0, 1, 2))].retired
    new = by_run[config_key("c20", (0, 1, 2, 3))]
    assert points(new, "val/top1") == [(10, 0.63), (20, 0.64), (30, 0.65)]
    assert points(new, "final/val_top1") == [(0, 0.65)]


def test_what_a_second_attempt_repeats_is_not_told_twice() -> None:
    events = [
        proposed(20, 0),
        TrialStarted("t20s0", 1, "gang-0"),
        *reports(20, 0)[:2],
        AttemptFailed("t20s0", 1, "worker_lost", "killed"),
        TrialStarted("t20s0", 2, "gang-1"),
        *reports(20, 0, attempt=2),
        TrialEnded("t20s0", 2, "done", 30, 2.0),
    ]
    update = updates(mirror_of(*events))["trial:t20s0"]
    assert points(update, "val/top1") == [(10, 0.48), (20, 0.49), (30, 0.5)]
    other = TrialReported("t20s0", 2, 10, {"val/top1": 0.1, "fit/loss": 1.0}, 0.3)
    update = updates(mirror_of(*events[:6], other))["trial:t20s0"]
    assert points(update, "val/top1") == [(10, 0.48), (20, 0.49), (10, 0.1)], "what differs is news"
    assert points(update, "fit/loss") == [(10, 1.0), (20, 0.5)]


def test_a_failure_is_named() -> None:
    update = updates(mirror_of(*failed_trial(20, 0)))["trial:t20s0"]
    assert update.status == "FAILED"
    assert update.tags["expflow.failure"] == "diverged: the loss became nan at step 12"


def test_an_interrupted_sweep_is_killed_and_opened_again() -> None:
    started = [proposed(20, 0), TrialStarted("t20s0", 1, "gang-0")]
    mirror = mirror_of(*started, DriverStopped("interrupted"))
    by_run = updates(mirror)
    assert (by_run[SWEEP].status, by_run["trial:t20s0"].tags["expflow.state"]) == ("KILLED", "waiting")
    assert mirror.driver_stopped
    mirror.apply(Record(2, 1, 2000.0, header(), 1))
    assert updates(mirror)[SWEEP].status == "RUNNING"
    assert not mirror.driver_stopped


def test_a_killed_driver_is_said_and_a_living_one_stands() -> None:
    mirror = mirror_of(proposed(20, 0), TrialStarted("t20s0", 1, "gang-0"))
    mirror.interrupt(5000.0)
    by_run = updates(mirror)
    assert (by_run[SWEEP].status, by_run["trial:t20s0"].status) == ("KILLED", "KILLED")
    mirror = mirror_of(proposed(20, 0), TrialStarted("t20s0", 1, "gang-0"))
    mirror.pending.clear()
    mirror.reassert(5000.0)
    assert {key: update.status for key, update in mirror.pending} == {
        SWEEP: "RUNNING",
        "trial:t20s0": "RUNNING",
        config_key("c20", (0, 1, 2)): "RUNNING",
    }


def test_parameters_are_those_of_the_first_proposal() -> None:
    longer = header(recipe={**header().recipe, "trainer": {"epochs": 30}}, plan="p2")
    mirror = mirror_of(*whole_trial(20, 0), longer, proposed(20, 0), *whole_trial(56, 0))
    assert mirror.spec("trial:t20s0").parameters["trainer.epochs"] == "3"
    assert mirror.spec("trial:t56s0").parameters["trainer.epochs"] == "30"
    assert mirror.spec(SWEEP).parameters["trainer.epochs"] == "3"


def test_what_a_fork_changes_is_a_metric() -> None:
    events = [
        *whole_trial(20, 0)[:3],
        TrialForked("t20s0", "t20s1", 10, {"optimizer.lr": 0.05, "model.shortcut": "none"}),
    ]
    update = updates(mirror_of(*events))["trial:t20s0"]
    assert points(update, "searched/optimizer.lr") == [(10, 0.05)]
    assert update.tags["expflow.forked_from"] == "t20s1"


def test_the_same_records_give_the_same_news() -> None:
    events = [*whole_sweep(), DriverStopped("finished")]
    assert updates(mirror_of(*events)) == updates(mirror_of(*events))


def test_a_searched_data_key_is_not_the_sweeps_data() -> None:
    events = whole_trial(20, 0)
    events[0] = type(events[0])("t20s0", "c20", 0, {"data.batch_size": 32}, {})
    assert not mirror_of(*events, seeds=(0,)).spec("trial:t20s0").with_data


def test_a_whole_mapping_may_be_searched() -> None:
    base = header().recipe
    recipe = full_recipe(base, {"model": {"name": "mlp", "hidden": [64, 64]}, "optimizer.lr": 0.5})
    assert flatten(recipe) == {
        "data.name": "digits",
        "data.batch_size": "64",
        "model.name": "mlp",
        "model.hidden": "[64, 64]",
        "optimizer.name": "sgd",
        "optimizer.lr": "0.5",
        "trainer.epochs": "3",
    }


def test_names_and_values_fit_what_mlflow_takes() -> None:
    assert safe_key("val/top1") == "val/top1"
    assert safe_key("loss[2]@x") == "loss_2__x"
    assert safe_key("../up") == "up"
    assert safe_key("a//b/") == "a/b"
    assert len(safe_key("k" * 400)) == 250
    assert len(as_text("v" * 9000)) == 6000
    assert as_text(True) == "true"
    assert as_text("plain") == "plain"


def test_the_data_are_described_without_more_than_is_known() -> None:
    assert dataset(header(data={})) is None
    facts = dataset(header())
    assert facts is not None
    assert (facts["name"], facts["digest"]) == ("digits", "ab" * 18)


def test_what_a_config_costs_is_one_number_without_an_interval() -> None:
    events = [*whole_trial(20, 0), *whole_trial(20, 1), *whole_trial(20, 2)]
    reports = [event for event in events if isinstance(event, TrialReported)]
    for report in reports[2::3]:
        report.metrics["cost/params"] = 7.0
    update = updates(mirror_of(*events))[config_key("c20", (0, 1, 2))]
    assert points(update, "cost/params") == [(0, 7.0)]
    assert not [point.metric for point in update.points if point.metric.startswith("final/cost")]


def test_a_config_and_its_trials_share_a_colour_that_no_other_config_has() -> None:
    mirror = mirror_of(*whole_sweep())
    colours = {
        depth: {mirror.spec(key).tags["mlflow.runColor"] for key in (f"trial:t{depth}s0", f"trial:t{depth}s1")}
        | {mirror.spec(config_key(f"c{depth}", (0, 1, 2))).tags["mlflow.runColor"]}
        for depth in (20, 56)
    }
    assert all(len(colour) == 1 for colour in colours.values())
    assert colours[20] != colours[56]


def test_a_look_at_test_is_told_of_trials_config_and_sweep() -> None:
    trials = {f"t20s{seed}": {"test/top1": 0.5 + seed / 10} for seed in range(3)}
    combined = {"ensemble": {"test/top1": 0.75}}
    look = SplitEvaluated("c20", "test", "d1", 2, True, trials | combined, members={"ensemble": list(trials)})
    mirror = mirror_of(*whole_sweep(), look, DriverStopped("finished"))
    by_run = updates(mirror)
    assert points(by_run["trial:t20s1"], "test/top1") == [(30, 0.6)]
    config = by_run[config_key("c20", (0, 1, 2))]
    assert points(config, "final/test_top1") == [(0, 0.6)]
    low = share_estimate([0.5, 0.6, 0.7], mirror.header.measured_on("test/top1")).low
    assert points(config, "final/test_top1_low") == [(0, low)]
    assert points(config, "ensemble/test/top1") == [(0, 0.75)]
    for key in ("trial:t20s0", config_key("c20", (0, 1, 2)), SWEEP):
        assert by_run[key].tags["expflow.test_looks"] == "2"
    assert "expflow.test_looks" not in by_run["trial:t56s0"].tags
    assert by_run[SWEEP].status == "FINISHED"


def test_a_look_at_one_seed_is_told_of_its_trial() -> None:
    look = SplitEvaluated(
        "c20",
        "test",
        "d1",
        1,
        False,
        {"t20s0": {"test/top1": 0.5}, "uniform_soup": {"test/top1": 0.25}},
        members={"uniform_soup": ["t20s0"]},
    )
    by_run = updates(mirror_of(*whole_trial(20, 0), look, seeds=(0,)))
    assert points(by_run["trial:t20s0"], "test/top1") == [(30, 0.5)]
    assert points(by_run[SWEEP], "uniform_soup/test/top1") == [(0, 0.25)]
