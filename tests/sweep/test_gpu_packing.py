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
from expflow.events import GpuSharingMeasured, TrialStarted
from expflow.ledger import SweepState, load_state
from expflow.report.formatting import gpu_sharing
from expflow.sweep.driver import open_sweep
from expflow.sweep.gpu_packing import (
    MARGIN,
    MAX_MEASURED,
    gpu_memory_share,
    memory_candidates,
    pack,
    peak_memory_recipe,
)
from expflow.sweep.limits import SweepLimits
from expflow.sweep.plan import Plan, make_plan
from expflow.sweep.trial_expansion import planned_trials
from expflow.training.contract import DeviceNeed, trials_per_gpu
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
    assert (packed.config, packed.at_once, packed.devices, gpu_memory_share(packed)) == ("b", 1, 1.0, 1.0)
    assert gpu_sharing(packed) == "measured more than the GPU's 80.0 GiB for b: 1 trial at once on each GPU"


def test_nothing_at_all_is_capped_by_the_cpus() -> None:
    assert pack({"": DeviceNeed(0, 0, H100)}, 48, 1).at_once == 48
    assert pack({"": need(0.001, 0.0)}, 1000, 1).at_once == 100


@pytest.mark.parametrize("trials", range(1, 101))
def test_ray_finds_why_not_propose_every_share(trials: int) -> None:
    packed = pack({"": DeviceNeed(0, 0, H100)}, trials, 1)
    assert packed.at_once == trials_per_gpu(packed.devices) == trials
    assert trials * round(packed.devices * 10_000) <= 10_000  # Ray counts in these


@pytest.mark.parametrize("peak", [0.01, 0.4, 3.0, 11.3, 26.0, 39.0])
def test_what_was_measured_fits_into_what_torch_may_take(peak: float) -> None:
    measured = need(peak)
    packed = pack({"": measured}, 1000, 1)
    most = gpu_memory_share(packed) * H100
    assert most >= peak * GIB * (1 + MARGIN)
    assert packed.at_once == 1 or packed.at_once * (most + measured.context) <= H100 * (1 + 1e-9)


def test_it_is_said_what_was_measured_and_chosen() -> None:
    assert gpu_sharing(pack({"depth=56": need(5.5)}, 64, 1)) == (
        "measured 6.0 GiB of 80.0 GiB for depth=56: 12 trials at once on each GPU"
    )
    assert gpu_sharing(pack({"": need(5.5)}, 4, 1)) == (
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
    candidates = [trial.values for trial in memory_candidates(planned(space=space, seeds=2))]
    assert candidates[0] == {"optimizer.lr": 0.1, "model.hidden": 128, "data.batch_size": 64}
    assert len(candidates) == len({tuple(sorted(values.items())) for values in candidates}) == MAX_MEASURED
    assert {values["optimizer.lr"] for values in candidates} == {0.1}
    assert {"optimizer.lr": 0.1, "model.hidden": 128, "data.batch_size": 32} in candidates


def test_a_searcher_that_learns_may_come_to_more_than_it_proposes_first(planned: Any) -> None:
    plan = planned(space={"model.hidden": {"int": [1, 500]}}, searcher={"name": "tpe", "trials": 30})
    first = max(trial.values["model.hidden"] for trial in planned_trials(plan))
    assert memory_candidates(plan)[0].values["model.hidden"] > max(first, 450)


def test_what_cannot_be_counted_is_spread_over_the_proposals(planned: Any) -> None:
    plan = planned({"task": "scripted"}, space={"task.gpu_memory": [percent / 100 for percent in range(10, 30)]})
    candidates = [trial.values["task.gpu_memory"] for trial in memory_candidates(plan)]
    assert (len(candidates), candidates[0], candidates[-1]) == (MAX_MEASURED, 0.1, 0.29)


@pytest.mark.parametrize(
    ("sizes", "measured"),
    [([[0, 4], [2, 8]], ((0, 8),)), ([[1, 6]], ()), ([[1, 6], [2, 12]], ((0, 12),)), ([], ())],
)
def test_images_are_measured_at_their_largest(planned: Any, sizes: Any, measured: Any) -> None:
    plan = planned({**BASE, "trainer": {"epochs": 3, "image_sizes": sizes}}, space={"optimizer.lr": [0.1]})
    (trial,) = planned_trials(plan)  # digits are 8x8
    assert peak_memory_recipe(trial.recipe, trial.data).trainer.image_sizes == measured


def test_what_is_unfrozen_later_is_measured_unfrozen(planned: Any) -> None:
    init = {"freeze": "backbone", "unfreeze_after": 1}
    plan = planned({**BASE, "init": init, "trainer": {"epochs": 3}}, space={"optimizer.lr": [0.1]})
    (trial,) = planned_trials(plan)
    measured = peak_memory_recipe(trial.recipe, trial.data).init
    assert measured is not None
    assert (measured.frozen, measured.unfreeze_after) == ((), None)


def test_ranks_that_train_together_do_not_share_a_gpu(planned: Any) -> None:
    with pytest.raises(ExperimentInvalid, match=r"gpus_per_rank: measured is for trials of one rank.*\(it is 2\)"):
        planned(resources={"gpus_per_rank": "measured", "ranks": 2}, space={"optimizer.lr": [0.1]})


# what counts afterwards

HALF = GpuSharingMeasured("", GIB, 0, 2 * GIB, fits=2, at_once=2, devices=0.5)


def test_shared_gpus_are_counted_as_the_share_that_they_are(planned: Any) -> None:
    plan = planned({"task": "scripted"}, resources={"gpus_per_rank": "measured"}, space={"task.value": [0.1]})
    with open_sweep(plan, tracking="") as conductor:
        assert conductor.state.devices == 1.0
        conductor.record(HALF)
        assert conductor.state.devices == 0.5
    assert load_state(plan.folder).packed == HALF
    with open_sweep(plan, tracking="") as conductor:  # until it has measured again
        assert (conductor.state.packed, conductor.state.devices) == (None, 0.5)


def test_device_hours_follow_the_share() -> None:
    now = 0.0
    limits = SweepLimits(Budget(), devices=1.0, clock=lambda: now)
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
            head = next(json.loads(line) for line in cluster.stdout if line.startswith("{"))
            patch.setenv("RAY_ADDRESS", head["address"])
            yield head["address"]
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
    assert [trial.status for trial in state.plan_trials()] == ["done"] * 6
    assert state.devices == 0.5
    began = [
        record.body for record in workplace.records() if isinstance(record.body, TrialStarted | GpuSharingMeasured)
    ]
    assert isinstance(began[0], GpuSharingMeasured)  # before anything runs
    gangs = {start.gang for start in began if isinstance(start, TrialStarted)}
    assert len(gangs) == 2  # the three CPUs alone would feed a third


@pytest.mark.timeout(240)
@pytest.mark.skipif(torch.cuda.is_available(), reason="the GPU is there")
def test_steps_that_fail_while_they_are_measured_end_the_sweep(workplace: Workplace, gpu_in_name: str) -> None:
    workplace.write(json.dumps({**BASE, "resources": {"gpus_per_rank": "measured"}, "sweep": {}}))
    output = workplace.run("sweep", "exp.yaml", code=2)
    assert "resources.gpus_per_rank: nothing could be measured, since a few steps of training fail: " in output
    assert not any(isinstance(record.body, TrialStarted) for record in workplace.records())
