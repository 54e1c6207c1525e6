"""Metrics: direction, unit, and whether a value is a mean over samples."""

import pytest

from expflow.errors import UserError
from expflow.metrics import (
    METRICS,
    is_per_sample,
    is_share,
    metric_mode,
    metric_of,
    top_k,
    unit_of,
)


@pytest.mark.parametrize(
    ("metric", "mode"),
    [
        ("val/top1", "max"),
        ("val/top3", "max"),
        ("fit/loss", "min"),
        ("cost/params", "min"),
        ("cost/whatever", "min"),
        ("test/error", "min"),
        ("train/accuracy", "max"),
        ("val/miou", "max"),
        ("val/fid", "min"),
    ],
)
def test_metrics_know_their_direction(metric, mode):
    assert metric_mode(metric) == mode
    assert metric_mode(metric, "max") == "max"


@pytest.mark.parametrize("metric", ["val/crispness", "top1", "my/top1", "val_loss", ""])
def test_the_direction_of_a_users_metric_must_be_given(metric):
    with pytest.raises(UserError, match="mode: max"):
        metric_mode(metric)
    assert metric_mode(metric, "min") == "min"
    assert metric_of(metric) is None


@pytest.mark.parametrize(("wrong", "right"), [("val/topp1", "val/top1"), ("val/pixel_acuracy", "val/pixel_accuracy")])
def test_the_nearest_known_metric_is_named(wrong, right):
    with pytest.raises(UserError, match=f"nearest: {right}"):
        metric_mode(wrong)


def test_units():
    assert all(is_share(name) for name in ("val/top1", "val/top10", "final/val_top5", "val/ap50"))
    assert not any(is_share(name) for name in ("val/loss", "x/top1y", "cost/seconds"))
    assert (unit_of("cost/seconds"), unit_of("cost/peak_bytes"), unit_of("mine")) == ("seconds", "bytes", "none")


def test_only_means_over_samples_have_values_per_sample():
    assert is_per_sample("val/top5")
    assert is_per_sample("val/psnr")
    assert not is_per_sample("val/miou")
    assert not is_per_sample("val/ap")
    assert not is_per_sample("val/unheard_of")


@pytest.mark.parametrize(("metric", "k"), [("val/top5", 5), ("top1", 1), ("val/top0", None), ("val/topology", None)])
def test_k_of_a_top_k_accuracy(metric, k):
    assert top_k(metric) == k


def test_every_metric_has_a_label():
    assert all(metric.label for metric in METRICS.values())
