"""Which metrics decide that a trial diverged."""

from __future__ import annotations

import math

import pytest

from expflow.config import load
from expflow.errors import Diverged
from expflow.training.contract import Attempt
from expflow.training.finite_metrics import MeasuredMetrics, decisive_metrics, finite

RECIPE = """\
data: digits
model: {name: mlp, hidden: 4}
task: classification
optimizer: {name: sgd, lr: 0.1}
trainer: {epochs: 2, early_stopping: {metric: val/watched, mode: min}}
schedule: {name: plateau, metric: val/followed, mode: max}
"""


def test_what_is_judged_watched_or_followed_is_decisive(tmp_path):
    (tmp_path / "exp.yaml").write_text(RECIPE)
    attempt = Attempt(load(tmp_path / "exp.yaml").experiment.recipe, 0, judged_by="val/judged")
    assert decisive_metrics(attempt) == {"val/judged", "val/watched", "val/followed"}


@pytest.mark.parametrize("name", ["loss", "val/loss", "train/loss", "fit/loss", "a/b/loss", "val_loss", "train_loss"])
def test_a_loss_is_always_decisive(name):
    with pytest.raises(Diverged, match=f"{name} became nan by step 7"):
        finite({"a": 1.0, name: math.nan}, 7)


@pytest.mark.parametrize("name", ["val/f1", "val/lossy", "aux_loss", "val/loss_ratio", "val/floss"])
def test_other_metrics_are_missing(name):
    assert finite({"a": 1.0, name: -math.inf}, 7) == MeasuredMetrics({"a": 1.0}, (name,))
    with pytest.raises(Diverged):
        finite({name: math.inf}, 7, {name})


def test_a_later_measurement_counts():
    first = MeasuredMetrics({"a": 1.0, "b": 2.0}, ("c",))
    second = MeasuredMetrics({"c": 3.0}, ("b",))
    assert first | second == MeasuredMetrics({"a": 1.0, "c": 3.0}, ("b",))
