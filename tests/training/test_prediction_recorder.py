"""A user's ``validation_step`` may return what it likes: what cannot be predictions of classes is left alone."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from expflow.config.spec import UserComponent
from expflow.training import World
from expflow.training.evaluation.prediction_recorder import PredictionRecorder, predictions_file
from expflow.training.evaluation.predictions import join_predictions
from tests.training import odd_results_code
from tests.training.test_run_trial import recipe, train

TRAINER = SimpleNamespace(world_size=1)


def recorded(*batches, rows=False):
    """The predictions that a recorder has after one validation over ``batches``: pairs of result and batch."""
    recorder = PredictionRecorder(rows=rows)
    recorder.on_validation_start(TRAINER, None)
    for number, (result, batch) in enumerate(batches):
        recorder.on_validation_batch_end(TRAINER, None, result, batch, number)
    recorder.on_validation_end(TRAINER, None)
    return recorder.predictions("val", World())


SCORES = torch.tensor([[0.1, 0.9, 0.0], [0.8, 0.1, 0.0]])
LABEL = torch.tensor([1, 2])

NOT_PREDICTIONS = {
    "no mapping": ((SCORES, LABEL), {"label": LABEL}),
    "nothing": (None, {"label": LABEL}),
    "another key": ({"logits": SCORES}, {"label": LABEL}),
    "a batch without labels": ({"scores": SCORES}, {"image": SCORES}),
    "a batch that is a tuple": ({"scores": SCORES}, (SCORES, LABEL)),
    "one score for each sample": ({"scores": SCORES[:, 0]}, {"label": LABEL}),
    "one number": ({"scores": torch.tensor(0.5)}, {"label": LABEL}),
    "a Python number": ({"scores": 0.5}, {"label": LABEL}),
    "a list": ({"scores": [0.1, 0.9]}, {"label": LABEL}),
    "an array": ({"scores": SCORES.numpy()}, {"label": LABEL}),
    "a mapping": ({"scores": {"top1": 0.5}}, {"label": LABEL}),
    "scores of pixels": ({"scores": torch.zeros(2, 3, 4, 4)}, {"label": torch.zeros(2, 4, 4, dtype=torch.long)}),
    "scores of another length": ({"scores": torch.zeros(5, 3)}, {"label": LABEL}),
    "one row for the whole batch": ({"scores": SCORES[:1]}, {"label": LABEL}),
    "no classes": ({"scores": torch.zeros(2, 0)}, {"label": LABEL}),
    "complex scores": ({"scores": SCORES.to(torch.complex64)}, {"label": LABEL}),
    "labels that are pixels": ({"scores": SCORES}, {"label": torch.zeros(2, 4, 4, dtype=torch.long)}),
    "one label": ({"scores": SCORES}, {"label": torch.tensor(1)}),
    "labels that are numbers": ({"scores": SCORES}, {"label": torch.tensor([0.3, 0.7])}),
    "labels in a list": ({"scores": SCORES}, {"label": [1, 2]}),
    "texts for labels": ({"scores": SCORES}, {"label": ["cat", "dog"]}),
    "shares of other classes": ({"scores": SCORES}, {"label": torch.zeros(2, 5)}),
    "no label at all": ({"scores": SCORES}, {"label": None}),
}


@pytest.mark.parametrize("case", NOT_PREDICTIONS)
def test_what_cannot_be_meant_is_left_alone_without_a_word(case, caplog):
    caplog.set_level(logging.DEBUG)
    for rows in (False, True):
        assert recorded(NOT_PREDICTIONS[case], NOT_PREDICTIONS[case], rows=rows) is None
    assert caplog.text == ""


def test_scores_with_labels_are_predictions():
    predictions = recorded(({"scores": SCORES}, {"label": LABEL}), ({"scores": SCORES[:1]}, {"label": LABEL[:1]}))
    assert (predictions.classes, predictions.ids.tolist(), predictions.labels.tolist()) == (3, [0, 1, 2], [1, 2, 1])
    assert predictions.top.tolist() == [[1, 0, 2], [0, 1, 2], [1, 0, 2]]
    assert np.isnan(predictions.losses).all()


def test_labels_may_be_shares_of_classes():
    predictions = recorded(({"scores": SCORES}, {"label": torch.tensor([[0.0, 0.9, 0.1], [1.0, 0.0, 0.0]])}))
    assert predictions.labels.tolist() == [1, 0]


@pytest.mark.parametrize("losses", [torch.tensor(0.5), 0.5, torch.zeros(2, 3), torch.zeros(7), {"a": 1}, None])
def test_losses_of_another_shape_are_not_those_of_samples(losses):
    predictions = recorded(({"scores": SCORES, "losses": losses}, {"label": LABEL}))
    assert np.isnan(predictions.losses).all()
    assert recorded(({"scores": SCORES, "losses": torch.tensor([1.0, 2.0])}, {"label": LABEL})).losses.tolist() == [
        1,
        2,
    ]


@pytest.mark.parametrize("index", [torch.tensor([0.5, 1.5]), torch.zeros(2, 2, dtype=torch.long), ["a", "b"], 3, None])
def test_an_index_that_names_no_samples_is_not_used(index):
    predictions = recorded(*2 * [({"scores": SCORES}, {"label": LABEL, "index": index})])
    assert predictions.ids.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("valid", [torch.tensor([0.1, 0.9]), torch.tensor(True), [True, False], None])
def test_valid_is_a_mask_or_nothing(valid):
    predictions = recorded(({"scores": SCORES}, {"label": LABEL, "valid": valid}))
    assert len(predictions) == 2
    assert len(recorded(({"scores": SCORES}, {"label": LABEL, "valid": torch.tensor([True, False])}))) == 1


@pytest.mark.parametrize(
    ("odd", "reason"),
    [
        ({"scores": SCORES[0]}, "a tensor of shape (3,)"),
        ({"scores": torch.zeros(2, 4)}, "4 classes, and 3 before"),
        ({"loss": 0.5}, "no scores or no labels"),
        (None, "no scores or no labels"),
    ],
)
@pytest.mark.parametrize("first", [False, True])
def test_a_validation_of_which_a_part_is_missing_keeps_nothing_and_says_so(odd, reason, first, caplog):
    batches = [({"scores": SCORES}, {"label": LABEL}), (odd, {"label": LABEL})]
    assert recorded(*(batches[::-1] if first else batches)) is None
    assert "predictions on val are not kept" in caplog.text
    assert reason in caplog.text or first
    caplog.clear()


def test_the_next_validation_begins_anew():
    recorder = PredictionRecorder()
    for results in ([{"scores": SCORES}, None], [{"scores": SCORES}, {"scores": SCORES}]):
        recorder.on_validation_start(TRAINER, None)
        for number, result in enumerate(results):
            recorder.on_validation_batch_end(TRAINER, None, result, {"label": LABEL}, number)
        recorder.on_validation_end(TRAINER, None)
    assert len(recorder.predictions("val", World())) == 4


@pytest.mark.parametrize("shape", ["regression", "segmentation", "squeezed"])
def test_a_users_module_with_scores_of_its_own_trains_to_its_end(shape, tmp_path):
    task = UserComponent(name=f"{odd_results_code.__name__}:OddResults", shape=shape)
    slots = {"model": None, "loss": None, "optimizer": None, "schedule": None}
    outcome, reports = train(recipe(2, task=task, **slots), folder=tmp_path)
    assert (outcome.step, len(reports)) == (8, 2)
    assert "val/loss" in reports[-1].metrics
    assert not (tmp_path / predictions_file("val")).exists()


@pytest.mark.parametrize(
    "indices",
    [
        ([0, 1], [0, 1]),  # the place in the batch
        ([7, 7], [7, 7]),  # the number of a class or of a file
        ([3, 4], [4, 5]),  # a window that overlaps the one before
    ],
)
def test_an_index_that_comes_again_names_no_samples(indices):
    label = torch.tensor([1, 2]), torch.tensor([0, 2])
    batches = [
        ({"scores": SCORES}, {"label": labels, "index": torch.tensor(index)})
        for labels, index in zip(label, indices, strict=True)
    ]
    for rows in (False, True):
        predictions = recorded(*batches, rows=rows)
        assert predictions.ids.tolist() == [0, 1, 2, 3]
        assert predictions.labels.tolist() == [1, 2, 0, 2]


def test_padding_may_repeat_an_index():
    valid = torch.tensor([True, False])
    batches = [{"label": LABEL, "index": torch.tensor([number, 0]), "valid": valid} for number in (5, 3)]
    assert recorded(*(({"scores": SCORES}, batch) for batch in batches)).ids.tolist() == [3, 5]


def part(ids, labels, top=((1, 0), (0, 1))):
    return {
        "ids": np.array(ids),
        "labels": np.array(labels),
        "top": np.array(top),
        "scores": np.zeros((2, 2)),
        "totals": np.zeros(2),
        "losses": np.zeros(2),
        "valid": np.ones(2, bool),
    }


def test_a_sample_of_two_ranks_counts_once_and_two_samples_of_one_index_are_none():
    joined = join_predictions("val", 3, [part([4, 5], [1, 2]), part([5, 6], [2, 0], [[0, 1], [1, 0]])])
    assert joined.ids.tolist() == [4, 5, 6]
    assert join_predictions("val", 3, [part([0, 1], [1, 2]), part([0, 1], [2, 2])]) is None
    others = part([0, 1], [1, 2], [[0, 1], [1, 0]])
    assert join_predictions("val", 3, [part([0, 1], [1, 2]), others]) is None
