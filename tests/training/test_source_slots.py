"""Recipes with several data sources: orders, ranks, resuming, evaluation, what is recorded, and what is refused."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from expflow.config import load
from expflow.errors import ExperimentInvalid, UserError
from expflow.ledger import load_state
from expflow.sweep.finished_trial import load_finished_trial
from expflow.sweep.in_process import run_in_process
from expflow.sweep.plan import Plan, make_plan
from expflow.sweep.result_location import find_results
from expflow.sweep.trial_expansion import planned_trials
from expflow.training import Attempt, World
from expflow.training.trial_data import open_trial_data, split_loader

DATA = """data:
  image: {name: digits, limit: 37, batch_size: 8}
  condition: {name: digits, split_seed: 1, val_fraction: 0.05, limit: 90, batch_size: 8}
"""
REST = """model:
  to_image: {name: resnet_generator, width: 2, blocks: 1}
  to_condition: {name: resnet_generator, width: 2, blocks: 1}
  image_judge: {name: patch_discriminator, width: 2, norm: instance, layers: 1}
  condition_judge: {name: patch_discriminator, width: 2, norm: instance, layers: 1}
task: {name: cyclegan, condition: source, samples: 4}
optimizer: {name: adam, lr: 0.0001, beta1: 0.5}
trainer: {epochs: 1}
"""

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def place(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EXPFLOW_CACHE", str(cache))
    return tmp_path


def plan(folder: Path, text: str = DATA + REST) -> Plan:
    (folder / "exp.yaml").write_text(text)
    return make_plan(folder / "exp.yaml")


def attempt(folder: Path, text: str = DATA + REST) -> Attempt:
    [trial] = planned_trials(plan(folder, text))
    assert trial.data is not None
    return Attempt(trial.recipe, 0, Path(trial.data.root))


def pairs(loader: object) -> list[tuple[int, int]]:
    """(image, condition): the samples of a pass, in their order."""
    return [
        (int(image), int(condition))
        for batch in loader  # type: ignore[attr-defined]
        for image, condition, valid in zip(batch["index"], batch["condition.index"], batch["valid"], strict=True)
        if valid
    ]


@pytest.mark.parametrize("memory", ["1 GiB", "0"])
def test_an_epoch_takes_each_sample_of_the_largest_once_and_others_equally_often(place: Path, memory: str) -> None:
    text = DATA.replace("batch_size: 8}", f"batch_size: 8, memory: {memory}}}") + REST
    train = open_trial_data(attempt(place, text), World()).train
    first, second = pairs(train), pairs(train)
    assert len(train) == 12  # type: ignore[arg-type]
    for epoch in (first, second):
        assert sorted(condition for _, condition in epoch) == list(range(90))
        images = [image for image, _ in epoch]
        assert sorted(images[:37]) == sorted(images[37:74]) == list(range(37))
        assert images[:37] != images[37:74]
        assert max(Counter(images).values()) == 3
    assert first != second
    assert first == pairs(open_trial_data(attempt(place, text), World()).train), "a function of seed and epoch"


def test_equal_sources_have_orders_of_their_own(place: Path) -> None:
    text = DATA.replace("split_seed: 1, val_fraction: 0.05, limit: 90", "limit: 37") + REST
    both = pairs(open_trial_data(attempt(place, text), World()).train)
    assert sum(image == condition for image, condition in both) < 10


def test_ranks_share_global_batches_and_a_position_goes_on_inside_an_epoch(place: Path) -> None:
    one = attempt(place)
    whole = pairs(open_trial_data(one, World()).train)
    shares = [pairs(open_trial_data(one, World(rank, 2)).train) for rank in (0, 1)]
    assert sorted(shares[0] + shares[1]) == sorted(whole)
    loader = open_trial_data(one, World()).train
    batches = iter(loader)  # type: ignore[arg-type]
    for _ in range(5):
        next(batches)
    again = open_trial_data(one, World(threads=3)).train
    again.load_state_dict(loader.state_dict())  # type: ignore[union-attr]
    again.sampler.set_epoch(0)  # type: ignore[union-attr]
    assert pairs(again) == whole[40:]


def test_evaluation_counts_no_sample_twice(place: Path) -> None:
    one = attempt(place)
    data = open_trial_data(one, World())
    assert data.spec.samples["val"] < 100 < data.spec.samples["train"] + 11
    val = pairs(data.val)
    assert len(val) == data.spec.samples["val"]
    assert all(len({pair[side] for pair in val}) == len(val) for side in (0, 1))
    assert pairs(split_loader(one, World(), data, "val")) == val
    with pytest.raises(UserError, match="no split 'extra' under image, condition"):
        split_loader(one, World(), data, "extra")


def test_a_sweep_of_it_names_its_sources_and_is_evaluated_again(place: Path) -> None:
    result = run_in_process(plan(place, DATA + REST + "sweep: {space: {task.cycle: [0, 5]}, seeds: 1}\n"))
    assert result.ran == 2
    state = load_state(place / "runs" / "exp")
    assert state.header is not None
    assert state.header.metric == "val/swd"
    assert state.header.data["source"] == "image: digits, condition: digits"
    trial = next(iter(state.plan_trials()))
    assert {"val/swd", "val/condition_swd", "val/generator_loss"} <= trial.metrics.keys()
    assert "val/l1" not in trial.metrics, "there is no true image"
    finished = load_finished_trial(find_results(f"exp/{trial.trial}", place / "runs"), trial)
    with finished.open_evaluator() as evaluator:
        again = evaluator.evaluate(finished.load_weights(evaluator).weights, "val").metrics
    assert again["val/swd"] == pytest.approx(trial.metrics["val/swd"], rel=1e-5)


def test_the_data_key_follows_each_source_and_only_what_describes_it(place: Path) -> None:
    keys = []
    for text in (DATA, DATA.replace("limit: 90", "limit: 80"), DATA.replace("split_seed: 1", "split_seed: 2")):
        [trial] = planned_trials(plan(place, text + REST))
        assert trial.data is not None
        keys.append(trial.data.key)
    assert keys[0] == keys[1] != keys[2]


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("  condition: {name: digits", "  other: {name: digits", "data.other: the task cyclegan has no data slot"),
        ("  condition: {name: digits", "  other: {name: digits", "data.condition: missing"),
        ("limit: 90, batch_size: 8", "limit: 90, batch_size: 4", "data.condition.batch_size: is 4, and data.image"),
        ("limit: 90,", "limit: 90, sampling: balanced,", "data.condition.sampling: balanced draws samples by class"),
        ("limit: 90,", "limit: 90, on_bad_sample: skip,", "data.condition.on_bad_sample"),
        ("limit: 90,", "limit: 90, train: {mixup: 0.2},", "data.condition.train.mixup"),
        ("split_seed: 1", "split_seed: trial", "data.condition.split_seed: trial draws val for each trial"),
        ("condition: source", "condition: edges", "task.condition: edges is made of the images themselves"),
        ("epochs: 1", "epochs: 1, image_sizes: [[0, 8]]", "trainer.image_sizes"),
        ("epochs: 1", "epochs: 1, fit_on: train+val", "trainer.fit_on"),
    ],
)
def test_what_slots_do_not_take_is_refused_by_name(place: Path, old: str, new: str, reason: str) -> None:
    assert old in DATA + REST
    with pytest.raises(ExperimentInvalid, match=reason):
        plan(place, (DATA + REST).replace(old, new))


def test_other_tasks_take_one_source_and_slots_images_of_one_size(place: Path) -> None:
    (place / "one.yaml").write_text(DATA + "model: mlp\ntask: classification\noptimizer: {name: sgd, lr: 0.1}\n")
    with pytest.raises(ExperimentInvalid, match="the task classification takes one data source, and this names image"):
        load(place / "one.yaml")
    (place / "two.yaml").write_text("data: {name: digits}\n" + REST)
    with pytest.raises(ExperimentInvalid, match="source needs two data sources"):
        load(place / "two.yaml")
    larger = (DATA + REST).replace("limit: 90", "limit: 90, image_size: 16")
    with pytest.raises(UserError, match=r"condition has images of shape \(1, 16, 16\) and data.image of \(1, 8, 8\)"):
        list(planned_trials(plan(place, larger)))
