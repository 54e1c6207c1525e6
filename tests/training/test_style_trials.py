"""Trials that look at images through a trained classifier: they resume, agree over ranks, draw, and are compared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from expflow.architectures.torchvision_weights import WeightsFile
from expflow.data.prepare.build import prepare
from expflow.errors import ExperimentInvalid, Preempted, UserError, WeightsMissing
from expflow.events import Report
from expflow.ledger import load_state
from expflow.sweep.finished_trial import load_finished_trial
from expflow.sweep.in_process import run_in_process
from expflow.sweep.plan import make_plan
from expflow.sweep.result_location import find_results
from expflow.sweep.trial_expansion import planned_trials
from expflow.tasks import cost
from expflow.training import Artifact, Attempt
from expflow.training.transfer.pretrained import sha256_of
from tests.finished_sweeps import copy_of_sweeps, finish_sweeps
from tests.training.attempts import train_attempt
from tests.training.comparing import comparable

pytestmark = [pytest.mark.timeout(240), pytest.mark.usefixtures("rank_forks")]

JUDGE = """
data: {name: digits, batch_size: 50, limit: 200}
model: {name: resnet, layout: cifar, depth: 8, width: 4}
task: classification
optimizer: {name: sgd, lr: 0.1}
trainer: {epochs: 1}
"""
STYLE = "features: judge/best, style: '3', style_images: 2, content_layer: layer1.0, style_layers: [stem, layer1.0]"
REST = "\noptimizer: {name: adam, lr: 0.02}\ntrainer: {epochs: 2}\n"
DATA = "data: {name: digits, limit: 45, batch_size: 8}\n"
TRIALS = {
    "style_transfer": f"{DATA}task: {{name: style_transfer, {STYLE}, images: 3, begin: noise}}{REST}",
    "fast_style_transfer": f"{DATA}model: {{name: resnet_generator, width: 4, blocks: 1}}\n"
    f"task: {{name: fast_style_transfer, {STYLE}, samples: 3}}{REST}",
    "deep_dream": f"{DATA}task: {{name: deep_dream, features: judge/best, of: '4', images: 3, shift: 1}}{REST}",
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the finished classifier ``judge``."""
    return finish_sweeps(tmp_path_factory.mktemp("judged"), {"judge": JUDGE})


@pytest.fixture
def place(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return copy_of_sweeps(finished, tmp_path, monkeypatch)


def attempt_of(place: Path, text: str, folder: str = "", seed: int = 0) -> Attempt:
    (place / "exp.yaml").write_text(text)
    [trial] = planned_trials(make_plan(place / "exp.yaml"))
    root = prepare(trial.recipe.data, cache=place / "cache").root  # type: ignore[arg-type]
    return Attempt(trial.recipe, seed, root, place / folder if folder else None, features=trial.features)


def train(attempt: Attempt, ranks: int = 1, leave_at: int | None = None) -> tuple[Any, list[Report], list[Artifact]]:
    outcome, reports, notices = train_attempt(attempt, ranks, leave_at)
    samples = [notice for notice in notices if isinstance(notice, Artifact) and notice.name == "samples"]
    return outcome, reports, samples


@pytest.mark.parametrize("name", TRIALS)
def test_two_ranks_train_and_measure_what_one_does(name: str, place: Path) -> None:
    _, one, samples = train(attempt_of(place, TRIALS[name], "one"))
    _, two, _ = train(attempt_of(place, TRIALS[name], "two"), ranks=2)
    assert [report.step for report in one] == [report.step for report in two] == [drawn.step for drawn in samples]
    for single, double in zip(one, two, strict=True):
        assert comparable(single.metrics).keys() == comparable(double.metrics).keys()
        for metric, value in comparable(single.metrics).items():
            assert value == pytest.approx(double.metrics[metric], rel=2e-3, abs=1e-6), metric
    pixels = np.asarray(Image.open(samples[-1].path))
    assert len(np.unique(pixels)) > 3


@pytest.mark.parametrize("name", TRIALS)
def test_a_trial_that_was_cut_is_the_trial_that_was_not(name: str, place: Path) -> None:
    whole, expected, drawn = train(attempt_of(place, TRIALS[name], "whole"))
    with pytest.raises(Preempted):
        train(attempt_of(place, TRIALS[name], "cut"), leave_at=4)
    again, reports, redrawn = train(attempt_of(place, TRIALS[name], "cut"))
    assert again.weights == whole.weights
    assert comparable(reports[-1].metrics) == comparable(expected[-1].metrics)
    assert redrawn[-1].sha256 == drawn[-1].sha256


@pytest.mark.parametrize("name", TRIALS)
def test_what_is_minimised_falls(name: str, place: Path) -> None:
    text = TRIALS[name].replace("epochs: 2", "epochs: 6")
    _, reports, _ = train(attempt_of(place, text.replace("lr: 0.02", "lr: 0.005")))
    assert reports[-1].metrics["train/loss"] < reports[0].metrics["train/loss"]


def test_a_sweep_over_the_weight_of_the_style_moves_both_distances_and_its_best_can_be_looked_at(place: Path) -> None:
    text = TRIALS["style_transfer"].replace("epochs: 2", "epochs: 8").replace("begin: noise", "begin: content")
    (place / "styles.yaml").write_text(text + "sweep: {space: {task.style_weight: [0.1, 100]}, seeds: 2}\n")
    run_in_process(make_plan(place / "styles.yaml"))
    trials = {
        (trial.values["task.style_weight"], trial.seed): trial.metrics
        for trial in load_state(place / "runs" / "styles").plan_trials()
    }
    for seed in (0, 1):
        weak, strong = trials[0.1, seed], trials[100, seed]
        assert strong["val/style_loss"] < weak["val/style_loss"]
        assert strong["val/content_loss"] > weak["val/content_loss"]
    assert trials[100, 0] != trials[100, 1], "each seed has images of its own"
    results = find_results("styles/best", place / "runs")
    trial = next(iter(load_state(place / "runs" / "styles").plan_trials()))
    finished = load_finished_trial(results, trial)
    with finished.open_evaluator() as evaluator:
        again = evaluator.evaluate(finished.load_weights(evaluator).weights, "val").metrics
    assert again["val/style_loss"] == pytest.approx(trial.metrics["val/style_loss"], rel=1e-6)


def test_pixels_are_all_that_is_learned(place: Path) -> None:
    attempt = attempt_of(place, TRIALS["deep_dream"])
    plan = make_plan(place / "exp.yaml")
    [trial] = planned_trials(plan)
    counted = cost(trial.recipe, attempt.features.data_spec)  # type: ignore[union-attr]
    assert counted.params == 3 * 8 * 8


REFUSED = [
    ("style_transfer", "style: '3'", "style: three", "task.style: there is no class 'three'; there are 0, 1, 2"),
    ("style_transfer", "[stem, layer1.0]", "[stem, layer9]", "no layer 'layer9'"),
    ("style_transfer", "[stem, layer1.0]", "[head]", "task.style_layers: head gives an output of shape"),
    (
        "style_transfer",
        "style_images: 2",
        "style_images: 900",
        "900 images of the class 3 are asked for, and train has",
    ),
    ("fast_style_transfer", "content_layer: layer1.0", "content_layer: lay", "task.content_layer"),
    ("deep_dream", "of: '4'", "of: four", "nor is it a class"),
]


@pytest.mark.parametrize(("name", "old", "new", "words"), REFUSED)
def test_what_does_not_fit_is_refused_before_the_first_step(
    name: str, old: str, new: str, words: str, place: Path
) -> None:
    assert old in TRIALS[name]
    attempt = attempt_of(place, TRIALS[name].replace(old, new))
    with pytest.raises(UserError, match=words):
        train(attempt)


@pytest.mark.parametrize(
    ("name", "change", "key", "words"),
    [
        ("style_transfer", "model: linear\n", "model", "does not use this slot"),
        ("style_transfer", "init: {freeze: backbone}\n", "init", "here images are learned"),
        ("fast_style_transfer", "loss: squared\n", "loss", "does not use this slot"),
        ("style_transfer", "+content_weight: 0, style_weight: 0", "task.style_weight", "nothing of style or content"),
    ],
)
def test_misuse_is_refused_with_a_reason(name: str, change: str, key: str, words: str, place: Path) -> None:
    text = TRIALS[name]
    with pytest.raises(ExperimentInvalid) as raised:
        attempt_of(place, text.replace("style: ", f"{change[1:]}, style: ") if change[0] == "+" else text + change)
    assert any(problem.key == key and words in problem.message for problem in raised.value.problems), raised.value


def test_it_needs_a_classifier(place: Path) -> None:
    with pytest.raises(ExperimentInvalid, match="features"):
        attempt_of(place, TRIALS["deep_dream"].replace("features: judge/best, ", ""))


def test_published_weights_are_looked_through_where_the_site_has_them(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network of torchvision with weights that were drawn here, under the name of published ones."""
    import torchvision

    colours = place / "colours"
    for number, kind in enumerate(("plain", "striped") * 8):
        (colours / kind).mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (40, 40, 3), np.uint8)
        Image.fromarray(pixels).save(colours / kind / f"{number}.png")
    text = (
        f"data: {{name: folder, path: {colours}, val_fraction: 0.25, batch_size: 8}}\n"
        "task: {name: style_transfer, features: torchvision/SqueezeNet1_1_Weights.IMAGENET1K_V1, style: striped,"
        " content_layer: features.3, style_layers: [features.0, features.4], images: 1}" + REST
    )
    with pytest.raises(WeightsMissing, match=r"squeezenet1_1-b8a52dc0\.pth is not in"):
        attempt_of(place, text)
    torch.manual_seed(0)
    torch.save(torchvision.models.squeezenet1_1(weights=None).state_dict(), place / "net.pth")
    name = f"net-{sha256_of(place / 'net.pth')[:8]}.pth"
    (place / "net.pth").rename(place / name)
    monkeypatch.setattr(
        "expflow.sweep.initial_weights.weights_file", lambda source: WeightsFile(name, "https://example.org")
    )
    (place / "expflow.site.yaml").write_text("weights: .\n")
    attempt = attempt_of(place, text)
    assert attempt.features is not None
    assert attempt.features.model.name == "torchvision/squeezenet1_1"
    assert attempt.features.data_spec.mean == (0.485, 0.456, 0.406)
    _, reports, _ = train(attempt)
    assert reports[-1].metrics["train/loss"] < reports[0].metrics["train/loss"]
