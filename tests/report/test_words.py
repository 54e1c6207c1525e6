from __future__ import annotations

import math

import pytest
from states import header

from expflow.report import words
from expflow.report.statistics import estimate


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
    assert words.metric_value(metric, value) == text


def test_differences_of_shares_are_points():
    assert words.difference_value("val/top1", -0.5810) == "-58.10 points"
    assert words.difference_value("val/loss", 1.5) == "+1.50"
    assert words.interval("val/top1", estimate([0.1, 0.2]), difference=True) == "[+10.00, +20.00]"
    assert words.interval("val/top1", estimate([0.1])) == ""


@pytest.mark.parametrize(
    ("p", "text"), [(0.0000004, "< 0.001"), (0.0042, "= 0.0042"), (0.05, "= 0.050"), (0.6, "= 0.60")]
)
def test_p_values(p, text):
    assert words.p_value(p) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(6.66, "6.7 s"), (59.97, "1 min 0 s"), (102, "1 min 42 s"), (11100, "3 h 5 min")]
)
def test_durations(seconds, text):
    assert words.duration(seconds) == text


@pytest.mark.parametrize(("amount", "text"), [(853018, "853 k"), (125.5e6, "125.5 M"), (999999, "1 M"), (12, "12")])
def test_counts(amount, text):
    assert words.count(amount) == text


def test_directions():
    assert words.direction("val/top1", header(mode="min")) == "min"  # the sweep's own metric goes by its mode
    assert [words.direction(metric, header(metric="x")) for metric in ("val/top1", "fit/loss", "my")] == [
        "max",
        "min",
        None,
    ]
    assert words.axis_label("my", header()) == "my"


def test_coverage_names_the_split_that_was_measured():
    assert words.coverage("fit/top1", header()).endswith("1,400 training images: one image is 0.071 points")
    assert words.coverage("val/loss", header()) == "training seeds, not the choice of 397 validation images"
    assert words.coverage("val/top1", header(data={})) == "training seeds, not the choice of data"


def test_the_recipe_is_named_as_far_as_it_is_fixed():
    assert words.recipe_words(header(), []) == "sgd, rate 0.1, 10 epochs"
    assert words.recipe_words(header(), ["optimizer.name"]) == "optimizer searched, rate 0.1, 10 epochs"
    assert words.recipe_words(header(recipe={"task": {"name": "scripted"}}), []) == ""
