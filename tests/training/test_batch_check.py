"""One batch of training and one of validation, as `plan` tries them: what fails in a trial fails there, in bounds."""

from __future__ import annotations

import signal
import time

import pytest
import torch

from expflow.config import load, make_importable
from expflow.data.prepare.build import prepare
from expflow.events import Report
from expflow.training import batch_check
from expflow.training.batch_check import check_batches
from expflow.training.contract import Attempt, BatchCheck, World, run_trial

NETS = """\
import time

import torch
from pytorch_lightning import Callback
from torch import nn


class Net(nn.Module):
    def __init__(self, in_channels, num_classes, image_size, kind="right", width: int = 4):
        super().__init__()
        scores = {"few": 2, "many": 1000}.get(kind, num_classes)
        pixels = in_channels * image_size[0] * image_size[1]
        self.kind = kind
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(pixels, width), nn.Linear(width, scores))

    def forward(self, image):
        if self.kind == "asleep" and self.training:
            time.sleep(60)
        if self.kind == "greedy" and self.training:
            self.kept = [torch.ones(2**24) for _ in range(8)]
        if self.kind == "no validation" and not self.training and image.shape[0] > 1:
            raise RuntimeError("not in eval mode")
        if self.kind == "leaves":
            raise SystemExit(4)
        out = self.layers(image)
        return (out, out) if self.kind == "tuple" else out[:, :, None] if self.kind == "map" else out


class WrongLoss(nn.Module):
    def forward(self, scores, target):
        return (scores.argmax(1) == target).float()


class OfEachScore(nn.Module):
    def forward(self, scores, target):
        return (scores - target).square().mean()


class OfText(nn.Module):
    def forward(self, scores, target):
        return "low"


class Broken(Callback):
    def on_validation_start(self, trainer, pl_module):
        trainer.no_such_thing
"""

RECIPE = """\
data: {{name: digits, batch_size: {batch_size}}}
model: {model}
task: classification
loss: {loss}
optimizer: {{name: sgd, lr: 0.1}}
trainer: {trainer}
"""

NET = '{{name: "nets:Net", kind: {}}}'


@pytest.fixture
def attempt(tmp_path, monkeypatch):
    (tmp_path / "nets.py").write_text(NETS)
    make_importable(tmp_path)

    def make(model="{name: mlp, hidden: 8}", loss="cross_entropy", trainer="{epochs: 3}", batch_size=64):
        file = tmp_path / "exp.yaml"
        file.write_text(RECIPE.format(model=model, loss=loss, trainer=trainer, batch_size=batch_size))
        recipe = load(file).experiment.recipe
        return Attempt(recipe, 0, prepare(recipe.data, cache=tmp_path / "cache").root)

    return make


def finding(attempt, check=BatchCheck(8)):  # noqa: B008 - frozen
    return check_batches(check, attempt, World())


def test_a_network_that_works_reports_its_metrics(attempt):
    result = finding(attempt())
    assert not result.failure
    assert not result.skipped
    assert {"train/loss", "train/top1", "val/loss", "val/top1", "val/top5"} <= {*result.metrics}


def test_a_metric_that_is_no_number_in_one_batch_is_reported_all_the_same(attempt, monkeypatch):
    report = Report(1, {"val/loss": 1.0}, 1.0, ["val/auroc"])
    monkeypatch.setattr(batch_check, "run_trial", lambda attempt, world, on_report: on_report(report))
    assert finding(attempt()).metrics == ("val/loss", "val/auroc")


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("tuple", "an output of type tuple for 8 images of 10 classes; expected a tensor of shape (8, 10)"),
        ("few", "an output of shape (8, 2) for 8 images of 10 classes"),
        ("many", "an output of shape (8, 1000) for 8 images of 10 classes"),
        ("map", "an output of shape (8, 10, 1) for 8 images"),
        ("no validation", "RuntimeError: not in eval mode (nets.py:"),
        ("leaves", "SystemExit: 4 (nets.py:"),
    ],
)
def test_what_fails_is_said(attempt, kind, reason):
    assert reason in finding(attempt(NET.format(kind))).failure


@pytest.mark.parametrize(
    ("trainer", "reason"),
    [
        ("{early_stopping: {metric: val/lose, mode: min}}", "val/lose"),
        ("{lightning: {gradient_clip_algorithm: sideways}}", "`gradient_clip_algorithm` sideways is invalid"),
        ("{image_sizes: [[0, 1]]}", "the network takes no images of 1x1"),
        ('{callbacks: [{name: "pytorch_lightning.callbacks:EarlyStopping", monitor: val/lss}]}', "val/lss"),
        ('{callbacks: [{name: "pytorch_lightning.callbacks:ModelCheckpoint", monitor: val/lss}]}', "val/lss"),
        ('{callbacks: ["nets:Broken"]}', "has no attribute 'no_such_thing' (nets.py:"),
    ],
)
def test_a_callback_or_a_setting_that_cannot_work_is_said(attempt, trainer, reason):
    assert reason in finding(attempt(trainer=trainer)).failure


@pytest.mark.parametrize(
    ("loss", "reason"),
    [("WrongLoss", "does not require grad"), ("OfEachScore", "size of tensor a"), ("OfText", "str")],
)
def test_a_loss_that_does_not_fit_is_said(attempt, loss, reason):
    assert reason in finding(attempt(NET.format("right"), loss=f'"nets:{loss}"')).failure


def test_a_task_that_is_fitted_once_is_built(tmp_path):
    for patch, failure in ((4, ""), (16, "task.patch is 16, and the images have 8 pixels")):
        file = tmp_path / "words.yaml"
        file.write_text(f"data: {{name: digits, batch_size: 64}}\ntask: {{name: bovw, words: 8, patch: {patch}}}\n")
        recipe = load(file).experiment.recipe
        attempt = Attempt(recipe, 0, prepare(recipe.data, cache=tmp_path / "cache").root)
        result = finding(attempt)
        assert failure in result.failure
        assert bool(result.failure) == bool(failure)
        assert result.key == ("task.patch" if failure else "")
        run = set[str]()
        if not failure:
            run_trial(attempt, World(), lambda report: run.update(report.metrics) or True)  # noqa: B023 - called at once
        assert set(result.metrics) == run


def test_a_batch_of_one_under_batch_norm_is_told_from_others(attempt):
    normalised = attempt("{name: mlp, hidden: 8, norm: batch}")
    assert not finding(normalised).failure
    result = finding(normalised, BatchCheck(8, batch_of_one=True))
    assert result.alone
    assert "more than 1 value per channel" in result.failure
    assert finding(normalised, BatchCheck(1, batch_of_one=True)).alone
    assert not finding(attempt("{name: mlp, hidden: 8}"), BatchCheck(8, batch_of_one=True)).failure


def test_settings_of_a_whole_training_do_not_reach_the_check(attempt):
    trainer = (
        "{epochs: 50, validate_every: 7, accumulate: 4, compile: true, precision: 16-mixed,"
        " lightning: {val_check_interval: 30, max_steps: 3, min_epochs: 5, limit_val_batches: 9}}"
    )
    result = finding(attempt(trainer=trainer, batch_size=128))
    assert not result.failure
    assert "val/top1" in result.metrics


def test_what_takes_too_long_is_left_and_said(attempt, monkeypatch):
    monkeypatch.setattr(batch_check, "SECONDS", 0.5)
    handler, began = signal.getsignal(signal.SIGALRM), time.monotonic()
    interval = signal.getitimer(signal.ITIMER_REAL)[1]
    assert finding(attempt(NET.format("asleep"))).skipped == "one batch takes more than 0.5 s"
    assert time.monotonic() - began < 30
    assert signal.getsignal(signal.SIGALRM) is handler
    assert signal.getitimer(signal.ITIMER_REAL)[1] == interval  # whoever times this test still does


def test_what_takes_too_much_memory_is_left_and_said(attempt, monkeypatch):
    monkeypatch.setattr(batch_check, "MEMORY_BYTES", 2**28)
    monkeypatch.setattr(batch_check, "TICK_SECONDS", 0.01)
    assert finding(attempt(NET.format("greedy"))).skipped == "one batch takes more than 0.25 GiB"


def test_weights_that_are_too_large_are_not_even_made(attempt):
    result = finding(attempt("{name: mlp, hidden: 20000, depth: 3}"))
    assert result.skipped == "its weights and gradients alone take 9.0 GiB"


def test_numbers_that_are_not_finite_say_nothing_of_the_network(attempt):
    recipe = attempt().recipe
    rate = recipe.optimizer.model_copy(update={"lr": 1e30})
    result = finding(Attempt(recipe.model_copy(update={"optimizer": rate}), 0, attempt().data_root))
    assert not result.failure
    assert "inf" in result.skipped or "nan" in result.skipped


def test_a_slow_network_is_tried_on_smaller_images(attempt, monkeypatch):
    monkeypatch.setattr(batch_check, "QUICK_MACS", 1000)
    monkeypatch.setattr(batch_check, "SIZES", (1, 2, 4, 6))
    sizes = []
    monkeypatch.setattr(batch_check, "_takes", lambda network, spec, pixels: sizes.append(pixels) or pixels == 6)
    result = finding(attempt("{name: resnet, depth: 8, width: 4}"))
    assert not result.failure
    assert sizes == [1, 2, 4, 6]


def test_the_process_is_as_it_was(attempt):
    state = torch.get_rng_state()
    finding(attempt(NET.format("tuple")))
    assert torch.equal(torch.get_rng_state(), state)
