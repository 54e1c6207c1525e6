from __future__ import annotations

import math

import pytest

from expflow import metrics
from expflow.report import formatting
from expflow.report.costs import quantity
from expflow.report.statistics import estimate
from tests.report.states import header, trial


@pytest.mark.parametrize(
    ("metric", "value", "text"),
    [
        ("val/top1", 0.98740, "98.74 %"),
        ("final/val_top5", 1.0, "100.00 %"),
        ("fit/loss", 1.5284, "1.53"),
        ("fit/loss", 0.00112, "0.00112"),
        ("fit/loss", 0.0, "0"),
        ("fit/loss", 12400.0, "12,400"),
        ("fit/loss", 123.4, "123"),
        ("fit/loss", 3.2e-7, "3.20e-07"),
        ("fit/loss", math.nan, "nan"),
        ("val/top1", math.inf, "inf"),
        ("val/stop", 0.5, "0.500"),
    ],
)
def test_values(metric, value, text):
    assert metrics.metric_value(metric, value) == text


def test_differences_of_shares_are_points():
    assert formatting.difference_value("val/top1", -0.5810) == "-58.10 points"
    assert formatting.difference_value("val/loss", 1.5) == "+1.50"
    assert formatting.interval("val/top1", estimate([0.1, 0.2]), difference=True) == "[+10.00, +20.00]"
    assert formatting.interval("val/top1", estimate([0.1])) == ""


@pytest.mark.parametrize(
    ("p", "text"), [(0.0000004, "< 0.001"), (0.0042, "= 0.0042"), (0.05, "= 0.050"), (0.6, "= 0.60")]
)
def test_p_values(p, text):
    assert formatting.p_value(p) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (0.0123, "0.012 s"),
        (0.93, "0.93 s"),
        (6.66, "6.7 s"),
        (59.97, "1 min 0 s"),
        (102, "1 min 42 s"),
        (11100, "3 h 5 min"),
    ],
)
def test_durations(seconds, text):
    assert formatting.duration(seconds) == text


@pytest.mark.parametrize(
    ("amount", "text"),
    [(853018, "853.0 k"), (125.5e6, "125.5 M"), (999999, "1.000 M"), (4810, "4.810 k"), (4736, "4.736 k"), (12, "12")],
)
def test_counts(amount, text):
    assert formatting.count(amount) == text


@pytest.mark.parametrize(
    ("metric", "value", "text"),
    [
        ("cost/peak_bytes", 992_202_752, "992 MB"),
        ("cost/peak_bytes", 2.5e12, "2.5 TB"),
        ("cost/seconds", 0.0123, "0.012 s"),
        ("cost/params", 853018, "853,018"),
        ("progress/epoch", 2.0, "2"),
        ("progress/epoch", 2.5, "2.50"),
        ("val/top1", 1.0, "100.00 %"),
        ("val/loss", math.nan, "nan"),
    ],
)
def test_a_value_that_stands_alone_has_its_unit(metric, value, text):
    assert formatting.measured_value(metric, value) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(4.93e-05, "h", "0.18 s"), (0.5, "h", "30 min 0 s"), (1234.0, "h", "1,234 h"), (1.5e9, "B", "1.5 GB")],
)
def test_what_a_sweep_costs_is_written_without_powers_of_ten(value, unit, text):
    assert quantity(value, unit) == text


def test_directions():
    assert formatting.direction("val/top1", header(mode="min")) == "min"  # the sweep's own metric goes by its mode
    assert [formatting.direction(metric, header(metric="x")) for metric in ("val/top1", "fit/loss", "my")] == [
        "max",
        "min",
        None,
    ]
    assert formatting.axis_label("my", header()) == "my"


def test_coverage_names_the_split_that_was_measured():
    assert formatting.coverage("fit/top1", header()).endswith("1,400 training images: one image is 0.071 points")
    assert formatting.coverage("val/loss", header()) == "training seeds, not the choice of 397 validation images"
    assert formatting.coverage("val/top1", header(data={})) == "training seeds, not the choice of data"


@pytest.mark.parametrize("metric", ["val/miou", "val/ap50", "val/ap", "val/map", "val/pixel_accuracy", "val/text_r1"])
def test_what_one_image_counts_is_said_of_means_over_images_alone(metric):
    assert formatting.coverage(metric, header()) == "training seeds, not the choice of 397 validation images"


def test_the_recipe_is_named_as_far_as_it_is_fixed():
    assert formatting.recipe_words(header(), []) == "sgd, rate 0.1, 10 epochs"
    assert formatting.recipe_words(header(), ["optimizer.name"]) == "optimizer searched, rate 0.1, 10 epochs"
    trainer = {"epochs": 9, "lightning": {"max_steps": 1040}}
    assert formatting.recipe_words(header(recipe={"trainer": trainer}), []) == "at most 9 epochs, at most 1,040 steps"
    steps = ["trainer.lightning.max_steps"]
    assert formatting.recipe_words(header(recipe={"trainer": trainer}), steps) == "at most 9 epochs, steps searched"
    stopped = {"epochs": 9, "early_stopping": {"metric": "val/loss"}}
    assert formatting.recipe_words(header(recipe={"trainer": stopped}), []) == "at most 9 epochs"
    assert formatting.recipe_words(header(recipe={"task": {"name": "scripted"}}), []) == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0s"),
        (0.01, "<0.1s"),
        (0.05, "0.1s"),
        (0.93, "0.9s"),
        (9.96, "10s"),
        (59.6, "1m00s"),
        (75, "1m15s"),
        (5000, "1h23m"),
    ],
)
def test_short_durations(seconds, text):
    assert formatting.short_duration(seconds) == text


def test_a_trial_of_the_base_recipe_has_a_name():
    assert formatting.trial_label(trial({}, 3)) == "base recipe s3"


def test_units_come_from_the_table_of_metrics():
    assert metrics.metric_value("val/miou", 0.5) == "50.00 %"
    assert formatting.difference_value("val/ap", 0.01) == "+1.00 points"
    assert metrics.metric_value("val/psnr", 31.42) == "31.4"
    assert formatting.axis_label("val/miou", header()) == "val/miou (%), higher is better"
    assert formatting.axis_label("cost/seconds", header()) == "cost/seconds (s), lower is better"
