"""Pictures of a trial's inside: what is chosen and counted for them, by hand; and that each kind can be drawn."""

import io

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import image as reading
from torch import nn

from expflow.data.dataspec import DataSpec, FieldSpec
from expflow.report.case_figure import case_figure, case_rows, select_cases
from expflow.report.confusion_figure import confusion_figure, frequent_mistakes
from expflow.report.filter_figure import filter_figure
from expflow.training.evaluation.confusion import confusion_counts
from expflow.training.evaluation.network_inspection import FirstLayer, first_layer
from expflow.training.evaluation.predictions import Predictions

NAMES = ("cat", "dog", "$cow$")


def made(labels, top, sure, losses=None, classes=3):
    """Predictions whose first class has the probability ``sure``, the second the rest of it."""
    sure = np.asarray(sure, np.float64)
    scores = np.log(np.stack([sure, np.maximum((1 - sure) / 2, 1e-9)], 1)).astype(np.float32)
    n = len(labels)
    top = np.stack([top, [(place + 1) % classes for place in top]], 1)
    losses = np.full(n, np.nan) if losses is None else losses
    zeros = np.zeros(n, np.float32)
    return Predictions(
        "val", classes, np.arange(n) + 100, np.asarray(labels), top, scores, zeros, np.asarray(losses, np.float32)
    )


FIVE = made([0, 1, 2, 0, 1], [0, 2, 2, 1, 2], [0.9, 0.8, 0.4, 0.95, 0.5], [0.1, 2.3, 0.9, 3.7, 1.4])


def test_confusion_counts_labels_in_rows():
    matrix = confusion_counts(FIVE)
    assert matrix.tolist() == [[1, 1, 0], [0, 0, 2], [0, 0, 1]]
    assert frequent_mistakes(matrix) == [(1, 2, 2), (0, 1, 1)]
    assert frequent_mistakes(np.eye(3, dtype=np.int64)) == []


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=40))
def test_confusion_holds_every_sample(pairs):
    labels, taken = (list(column) for column in zip(*pairs, strict=True))
    matrix = confusion_counts(made(labels, taken, [0.5] * len(labels)))
    assert matrix.sum() == len(pairs)
    assert matrix.sum(1).tolist() == np.bincount(labels, minlength=3).tolist()
    assert np.trace(matrix) == sum(one == other for one, other in pairs)
    assert sum(count for *_, count in frequent_mistakes(matrix, 9)) == len(pairs) - np.trace(matrix)


def test_cases_by_hand():
    chosen = select_cases(FIVE, 2)
    assert (chosen.best, chosen.worst, chosen.surest_mistakes) == ((0, 2), (3, 1), (3, 1))
    assert case_rows(chosen) == {0, 1, 2, 3}
    right = select_cases(made([0, 1], [0, 1], [0.9, 0.8], [0.1, 0.2]))
    assert right.surest_mistakes == ()


def test_without_losses_the_labels_probability_stands_for_them():
    unknown = made([0, 1, 2, 0, 1], [0, 2, 2, 1, 2], [0.9, 0.8, 0.4, 0.95, 0.5])
    chosen = select_cases(unknown, 1)
    assert chosen.best == (0,)  # 0.9 for the label
    assert chosen.worst == (1,)  # its label is not among the first two
    drawn = case_figure(unknown, chosen, {}, NAMES, "a")
    assert "the label's probability stands for it" in drawn.caption


def size_of(drawing):
    height, width, _ = reading.imread(io.BytesIO(drawing.png)).shape
    assert drawing.svg.startswith(b"<?xml")
    return width, height


def test_every_picture_can_be_drawn_and_says_what_it_shows():
    images = {int(number): np.full((8, 8, 1 + 2 * (number % 2)), 90, np.uint8) for number in FIVE.ids[:4]}
    worst = case_figure(FIVE, select_cases(FIVE, 3), images, NAMES, "digits, a=$1 s0")
    assert "cat taken for dog" in worst.alt
    size_of(worst)
    matrix = confusion_figure(FIVE, NAMES, "digits, s0")
    assert "2 of 5 images are right" in matrix.caption
    assert "dog taken for $cow$ (2)" in matrix.caption
    size_of(matrix)
    assert matrix.png == confusion_figure(FIVE, NAMES, "digits, s0").png  # the same bytes for the same predictions


def test_a_matrix_of_many_classes_stays_a_picture():
    many = made(list(range(200)), list(range(200)), [0.5] * 200, classes=200)
    drawn = confusion_figure(many, [f"class {number}" for number in range(200)], "imagenet")
    assert max(size_of(drawn)) < 2000
    assert "There are no mistakes." in drawn.caption


@pytest.mark.parametrize(("count", "channels"), [(1, 1), (6, 3), (14, 5)])
def test_filters_of_all_counts_and_channels(count, channels, monkeypatch):
    monkeypatch.setattr("expflow.report.filter_figure.MOST_TILES", 12)
    weights = np.random.default_rng(0).normal(size=(count, 5, 5, channels))
    drawn = filter_figure(FirstLayer("conv1", "filters", weights, classes=False), (), "net")
    assert f"{count} filters of 5x5" in drawn.title
    assert ("first 12 of 14" in drawn.caption) == (count == 14)
    assert max(size_of(drawn)) < 2200


def test_filters_of_nothing_but_zeros_can_be_drawn():
    filter_figure(FirstLayer("conv1", "filters", np.zeros((2, 3, 3, 1)), classes=False), (), "net")


def spec(channels=1, size=8, classes=3):
    fields = {"image": FieldSpec((channels, size, size), "uint8")}
    return DataSpec(fields, tuple(map(str, range(classes))))


def test_the_first_layer_is_the_one_that_fits_the_image():
    conv = nn.Sequential(nn.Conv2d(3, 4, 5), nn.Conv2d(4, 2, 3))
    layer = first_layer(conv, spec(channels=3))
    assert (layer.name, layer.kind, layer.weights.shape, layer.classes) == ("0", "filters", (4, 5, 5, 3), False)
    torch.testing.assert_close(torch.from_numpy(layer.weights[1, 2, 3]), conv[0].weight[1, :, 2, 3].double())
    linear = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    layer = first_layer(linear, spec())
    assert (layer.kind, layer.classes, layer.weights.shape) == ("templates", True, (3, 8, 8, 1))
    assert layer.weights[2, 1, 5, 0] == linear[1].weight[2, 13].item()
    assert not first_layer(nn.Linear(64, 10), spec()).classes
    assert first_layer(nn.Linear(10, 3), spec()) is None
    assert first_layer(linear, DataSpec(fields={})) is None
