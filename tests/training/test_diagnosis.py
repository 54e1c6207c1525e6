"""Learning curves of each kind are told apart, with numbers; and real ones of nets that are known to be so."""

import math
import random

import pytest

from expflow.architectures.specs.mlp import MLPSpec
from expflow.data.prepare.build import prepare
from expflow.data.specs import DigitsSpec
from expflow.optim.specs import ConstantSpec, SGDSpec
from expflow.training.evaluation.diagnosis import LearningCurves, diagnose, learning_curves
from tests.training.test_run_trial import recipe, train


def drawn(train, val, epochs=30, noise=0.005, val_noise=None, seed=0, **facts):
    """Curves from functions of the share of training that is over, with jumps in proportion to their values."""
    rng = random.Random(seed)
    share = [epoch / epochs for epoch in range(1, epochs + 1)]

    def curve(of, size):
        return [of(t) * (1 + rng.gauss(0, size)) for t in share]

    curves = curve(train, noise), curve(val, noise if val_noise is None else val_noise)
    return LearningCurves(range(1, epochs + 1), *curves, **facts)


def falling(start, end, rate=6.0):
    return lambda t: end + (start - end) * math.exp(-rate * t)


SHAPES = {
    "good_fit": {"train": falling(2.3, 0.30), "val": falling(2.3, 0.38)},
    "overfitting": {"train": falling(2.3, 0.01), "val": lambda t: 0.5 + 1.8 * math.exp(-9 * t) + 0.6 * t * t},
    "underfitting": {"train": lambda t: 2.30 - 0.05 * t, "val": lambda t: 2.31 - 0.04 * t},
    "halted_early": {"train": lambda t: 2.3 - 1.5 * t, "val": lambda t: 2.35 - 1.4 * t},
    "val_too_easy": {"train": falling(2.3, 0.5), "val": falling(2.0, 0.15)},
    "val_too_few": {"train": falling(2.3, 0.3), "val": falling(0.6, 0.5), "val_noise": 0.3, "val_samples": 12},
}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", SHAPES)
def test_each_picture_of_the_lecture_is_recognised(kind, seed):
    assert diagnose(drawn(**SHAPES[kind], classes=10, seed=seed)).kind == kind


def test_a_verdict_says_why_in_numbers():
    verdict = diagnose(drawn(**SHAPES["overfitting"]))
    assert verdict.title == "overfitting"
    assert verdict.evidence["val_min"] < verdict.evidence["val_end"]
    assert f"epoch {verdict.evidence['val_min_epoch']:g}" in verdict.sentence
    assert "12 samples" in diagnose(drawn(**SHAPES["val_too_few"])).sentence


def test_a_high_resting_loss_is_underfitting_only_where_the_number_of_classes_is_known():
    resting = {"train": falling(2.3, 1.5, 12), "val": falling(2.3, 1.55, 12)}
    verdict = diagnose(drawn(**resting, classes=10))
    assert verdict.kind == "underfitting"
    assert "65%" in verdict.sentence
    assert diagnose(drawn(**resting)).kind == "good_fit"


def test_a_wide_gap_that_does_not_rise_is_overfitting_too():
    verdict = diagnose(drawn(falling(2.3, 0.01), falling(2.3, 0.8), classes=10))
    assert verdict.kind == "overfitting"
    assert "does not rise" in verdict.sentence


def test_val_is_held_against_the_training_set_measured_alike_where_that_is_known():
    """Dropout raises the running mean of the training loss above val: val is not easier for that."""
    curves = {"train": falling(2.3, 0.6), "val": falling(2.3, 0.4), "classes": 10}
    assert diagnose(drawn(**curves)).kind == "val_too_easy"
    assert diagnose(drawn(**curves, fit=0.33)).kind == "good_fit"


def test_a_training_that_begins_fitted_is_no_underfitting():
    assert diagnose(drawn(lambda t: 0.02, lambda t: 0.03, classes=10, fit=0.02)).kind == "good_fit"


def test_few_points_are_not_read():
    verdict = diagnose(LearningCurves(range(5), [2, 1, 0.5, 0.3, 0.2], [2, 1, 0.5, 0.3, 0.2]))
    assert verdict.kind == "too_short_to_tell"
    assert "5 validated epochs" in verdict.sentence


def test_curves_come_from_reports():
    reports = [{"train/loss": 2.0, "val/loss": 2.1, "progress/epoch": 5.0}, {"train/loss": 1.0, "progress/epoch": 7.0}]
    last = {"train/loss": 0.5, "val/loss": 0.6, "fit/loss": 0.4, "progress/epoch": 10.0}
    curves = learning_curves([*reports, last, {"train/loss": math.nan, "val/loss": 1.0}], val_samples=7, classes=3)
    assert curves == LearningCurves((5.0, 10.0), (2.0, 0.5), (2.1, 0.6), 0.4, 7, 3)
    assert learning_curves([{"val/top1": 0.5}]) is None


def real(tmp_path_factory, limit=None, hidden=64, epochs=30, lr=0.1):
    root = prepare(DigitsSpec(name="digits"), cache=tmp_path_factory.mktemp("cache")).root
    data = DigitsSpec(name="digits", batch_size=50, limit=limit)
    plan = recipe(
        epochs,
        data=data,
        model=MLPSpec(name="mlp", hidden=hidden),
        optimizer=SGDSpec(name="sgd", lr=lr, momentum=0.9),
        schedule=ConstantSpec(name="constant"),
    )
    _, reports = train(plan, data_root=root)
    return diagnose(learning_curves([report.metrics for report in reports], val_samples=397, classes=10))


def test_real_curves_are_read_as_they_are_known_to_be(tmp_path_factory):
    assert real(tmp_path_factory, limit=60, hidden=512, epochs=60).kind == "overfitting"
    assert real(tmp_path_factory, lr=1e-5, epochs=6).kind == "underfitting"
    assert real(tmp_path_factory, lr=2e-3, epochs=8).kind == "halted_early"
    assert real(tmp_path_factory, lr=0.02, epochs=30).kind == "good_fit"
