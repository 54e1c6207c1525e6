"""Several trials on a GPU, by measured memory: the arithmetic, what is measured, and a real sweep on half GPUs."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from expflow.config.schema import Budget
from expflow.errors import ExperimentInvalid
from expflow.events import Packed, TrialStarted
from expflow.ledger import SweepState, load
from expflow.sweep.budgets import Limits
from expflow.sweep.driver import open_sweep
from expflow.sweep.packing import MARGIN, MOST_MEASURED, candidates, heaviest, memory_of, pack
from expflow.sweep.plan import Plan, make_plan
from expflow.training.contract import DeviceNeed, sharing
from tests.sweep.runs import Workplace

GIB = 2**30
H100 = 80 * GIB


def need(peak: float, context: float = 0.5) -> DeviceNeed:
    """In GiB of an 80 GiB GPU."""
    return DeviceNeed(int(peak * GIB), int(context * GIB), H100)


# the arithmetic


@pytest.mark.parametrize(
    ("peak", "gangs", "gpus", "fits", "at_once"),
    [
        (5.5, 64, 1, 12, 12),  # 80 / (6 * 1.1)
        (5.5, 8, 1, 12, 8),  # the CPUs feed eight
        (5.5, 20, 8, 12, 3),  # and with more GPUs, two or three on each
        (5.5, 2, 8, 12, 1),  # rather a GPU of its own for each
        (35.8, 64, 1, 2, 2),
        (36.0, 64, 1, 1, 1),  # 36.5 would fit twice, but not with its margin
        (79.0, 64, 1, 0, 1),
        (90.0, 64, 1, 0, 1),
        (1e-6, 40, 2, 145, 20),
    ],
)
def test_as_many_as_memory_and_cpus_allow(peak: float, gangs: int, gpus: int, fits: int, at_once: int) -> None:
    packed = pack({"depth=56": need(peak), "depth=20": need(peak / 2)}, gangs, gpus)
    assert (packed.fits, packed.at_once, packed.config) == (fits, at_once, "depth=56")


def test_the_whole_gpu_is_for_what_ran_out_of_memory() -> None:
    packed = pack({"a": need(70.0), "b": DeviceNeed(None, GIB, H100)}, 16, 1)
    assert (packed.config, packed.at_once, packed.devices, memory_of(packed)) == ("b", 1, 1.0, 1.0)
    assert packed.words == "measured more than the GPU's 80.0 GiB for b: 1 trial at once on each GPU"


def test_nothing_at_all_is_capped_by_the_cpus() -> None:
    assert pack({"": DeviceNeed(0, 0, H100)}, 48, 1).at_once == 48
    assert pack({"": need(0.001, 0.0)}, 1000, 1).at_once == 100


@pytest.mark.parametrize("trials", range(1, 101))
def test_ray_finds_room_for_every_share(trials: int) -> None:
    packed = pack({"": DeviceNeed(0, 0, H100)}, trials, 1)
    assert packed.at_once == sharing(packed.devices) == trials
    assert trials * round(packed.devices * 10_000) <= 10_000  # Ray counts in these


@pytest.mark.parametrize("peak", [0.01, 0.4, 3.0, 11.3, 26.0, 39.0])
def test_what_was_measured_fits_into_what_torch_may_take(peak: float) -> None:
    found = need(peak)
    packed = pack({"": found}, 1000, 1)
    most = memory_of(packed) * H100
    assert most >= peak * GIB * (1 + MARGIN)
    assert packed.at_once == 1 or packed.at_once * (most + found.context) <= H100 * (1 + 1e-9)


def test_it_is_said_what_was_measured_and_chosen() -> None:
    assert pack({"depth=56": need(5.5)}, 64, 1).words == (
        "measured 6.0 GiB of 80.0 GiB for depth=56: 12 trials at once on each GPU"
    )
    assert pack({"": need(5.5)}, 4, 1).words == (
        "measured 6.0 GiB of 80.0 GiB: 4 trials at once on each GPU (it has memory for 12)"
    )


# what is measured

BASE = {
    "data": {"name": "digits", "batch_size": 64},
    "model": {"name": "mlp", "hidden": 8},
    "task": "classification",
    "optimizer": {"name": "sgd", "lr": 0.1},
    "trainer": {"epochs": 1},
}


@pytest.fixture
def planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)

    def make(base: dict[str, Any] = BASE, *, resources: dict[str, Any] | None = None, **sweep: Any) -> Plan:
        file = tmp_path / "exp.yaml"
        file.write_text(json.dumps({**base, "resources": resources or {}, "sweep": {"metric": "val/top1", **sweep}}))
        return make_plan(file)

    return make


def test_the_largest_configs_are_measured_once_each(planned: Any) -> None:
    space = {"optimizer.lr": [0.1, 0.2, 0.3], "model.hidden": [2, 4, 8, 16, 32, 64, 128], "data.batch_size": [32, 64]}
    found = [each.values for each in candidates(planned(space=space, seeds=2))]
    assert found[0] == {"optimizer.lr": 0.1, "model.hidden": 128, "data.batch_size": 64}
    assert len(found) == len({tuple(sorted(each.items())) for each in found}) == MOST_MEASURED
    assert {each["optimizer.lr"] for each in found} == {0.1}
    assert {"optimizer.lr": 0.1, "model.hidden": 128, "data.batch_size": 32} in found


def test_a_searcher_that_learns_may_come_to_more_than_it_proposes_first(planned: Any) -> None:
    plan = planned(space={"model.hidden": {"int": [1, 500]}}, searcher={"name": "tpe", "trials": 30})
    first = max(each.values["model.hidden"] for each in plan.trials())
    assert candidates(plan)[0].values["model.hidden"] > max(first, 450)


def test_what_cannot_be_counted_is_spread_over_the_proposals(planned: Any) -> None:
    plan = planned({"task": "scripted"}, space={"task.gpu_memory": [each / 100 for each in range(10, 30)]})
    found = [each.values["task.gpu_memory"] for each in candidates(plan)]
    assert (len(found), found[0], found[-1]) == (MOST_MEASURED, 0.1, 0.29)


@pytest.mark.parametrize(
    ("sizes", "measured"),
    [([[0, 4], [2, 8]], ((0, 8),)), ([[1, 6]], ()), ([[1, 6], [2, 12]], ((0, 12),)), ([], ())],
)
def test_images_are_measured_at_their_largest(planned: Any, sizes: Any, measured: Any) -> None:
    plan = planned({**BASE, "trainer": {"epochs": 3, "image_sizes": sizes}}, space={"optimizer.lr": [0.1]})
    (trial,) = plan.trials()  # digits are 8x8
    assert heaviest(trial.recipe, trial.data).trainer.image_sizes == measured


def test_what_is_unfrozen_later_is_measured_unfrozen(planned: Any) -> None:
    init = {"freeze": "backbone", "unfreeze_after": 1}
    plan = planned({**BASE, "init": init, "trainer": {"epochs": 3}}, space={"optimizer.lr": [0.1]})
    (trial,) = plan.trials()
    measured = heaviest(trial.recipe, trial.data).init
    assert measured is not None
    assert (measured.frozen, measured.unfreeze_after) == ((), None)


def test_ranks_that_train_together_do_not_share_a_gpu(planned: Any) -> None:
    with pytest.raises(ExperimentInvalid, match=r"gpus_per_rank: measured is for trials of one rank.*\(it is 2\)"):
        planned(resources={"gpus_per_rank": "measured", "ranks": 2}, space={"optimizer.lr": [0.1]})


# what counts afterwards

HALF = Packed("", GIB, 0, 2 * GIB, fits=2, at_once=2, devices=0.5)


def test_shared_gpus_are_counted_as_the_share_that_they_are(planned: Any) -> None:
    plan = planned({"task": "scripted"}, resources={"gpus_per_rank": "measured"}, space={"task.value": [0.1]})
    with open_sweep(plan, tracking="") as conductor:
        assert conductor.state.devices == 1.0
        conductor.record(HALF)
        assert conductor.state.devices == 0.5
    assert load(plan.folder).packed == HALF
    with open_sweep(plan, tracking="") as conductor:  # until it has measured again
        assert (conductor.state.packed, conductor.state.devices) == (None, 0.5)


def test_device_hours_follow_the_share() -> None:
    now = 0.0
    limits = Limits(Budget(), devices=1.0, clock=lambda: now)
    state = SweepState(running={"a": None})
    limits(TrialStarted("a", 1, "gang-1"), state)
    now = 3600.0
    assert limits.device_hours(state) == 1.0
    limits(HALF, state)
    assert limits.device_hours(state) == 0.5


# on Ray


@pytest.mark.timeout(120)
def test_without_a_gpu_there_is_nothing_to_measure_on(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    workplace.write("{task: scripted, resources: {gpus_per_rank: measured}, sweep: {}}")
    assert "resources.gpus_per_rank: measured needs a GPU" in workplace.run("sweep", "exp.yaml", code=2)


@pytest.fixture(scope="module")
def gpu_in_name() -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
        patch.setenv("RAY_AUTH_MODE", "token")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        words = [sys.executable, "-m", "tests.sweep.one_gpu"]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as cluster:
            assert cluster.stdin is not None
            assert cluster.stdout is not None
            found = next(json.loads(line) for line in cluster.stdout if line.startswith("{"))
            patch.setenv("RAY_ADDRESS", found["address"])
            yield found["address"]
            cluster.stdin.close()
            cluster.wait(60)


@pytest.mark.timeout(240)
def test_two_gangs_share_a_gpu(workplace: Workplace, gpu_in_name: str) -> None:
    workplace.write("""
task:
  name: scripted
  script: [{sleep: 1.0}, {report: {val/top1: curve}, repeat: 2}]
trainer: {epochs: 2}
resources: {gpus_per_rank: measured}
sweep: {space: {task.gpu_memory: [0.2, 0.4]}, seeds: 3, metric: val/top1}
""")
    output = workplace.run("sweep", "exp.yaml")
    assert "measured 0.4 GiB of 1.0 GiB for gpu_memory=0.4: 2 trials at once on each GPU" in output
    state = workplace.state()
    assert [each.status for each in state.plan_trials()] == ["done"] * 6
    assert state.devices == 0.5
    began = [each.body for each in workplace.records() if isinstance(each.body, TrialStarted | Packed)]
    assert isinstance(began[0], Packed)  # before anything runs
    gangs = {each.gang for each in began if isinstance(each, TrialStarted)}
    assert len(gangs) == 2  # the three CPUs alone would feed a third


@pytest.mark.timeout(240)
@pytest.mark.skipif(torch.cuda.is_available(), reason="the GPU is there")
def test_steps_that_fail_while_they_are_measured_end_the_sweep(workplace: Workplace, gpu_in_name: str) -> None:
    workplace.write(json.dumps({**BASE, "resources": {"gpus_per_rank": "measured"}, "sweep": {}}))
    output = workplace.run("sweep", "exp.yaml", code=2)
    assert "resources.gpus_per_rank: nothing could be measured, since a few steps of training fail: " in output
    assert not any(isinstance(each.body, TrialStarted) for each in workplace.records())
