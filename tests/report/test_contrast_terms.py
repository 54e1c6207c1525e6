"""Differences of differences, and sides at their own best (docs/inference.md, "Comparisons that papers need")."""

import pytest

from expflow.config import load
from expflow.errors import ExperimentInvalid
from expflow.report import answers
from tests.report.states import sweep, trial

BY = {
    "metric": "val/top1",
    "of": {"model": "cnn"},
    "against": {"model": "vit"},
    "where": {},
    "expect": "lower",
    "margin": None,
    "by": {"limit": [200, 4000]},
}
TUNED = {
    "metric": "val/top1",
    "of": {"model": "new"},
    "against": {"model": "old"},
    "where": {},
    "expect": "higher",
    "margin": None,
    "tuned_over": ["lr"],
}


def test_a_difference_of_differences_by_hand():
    # the convolutional net is ahead by 0.30, 0.31, 0.33 with 200 images and by 0.10, 0.09, 0.11 with 4,000
    ahead = {200: (0.30, 0.31, 0.33), 4000: (0.10, 0.09, 0.11)}
    trials = [
        trial({"model": model, "limit": limit}, seed, "done", {"val/top1": 0.5 + (model == "cnn") * lead})
        for limit, leads in ahead.items()
        for seed, lead in enumerate(leads)
        for model in ("cnn", "vit")
    ]
    (answer,) = answers(sweep(trials, report={"contrasts": [BY]}))
    assert (answer.of.mean, answer.against.mean) == pytest.approx((0.10, 0.94 / 3))
    assert answer.difference.mean == pytest.approx(0.10 - 0.94 / 3)
    assert (answer.verdict, answer.n) == ("as_expected", 3)
    assert "cnn minus model=vit at limit=4000 is lower than that of model=cnn minus model=vit at limit=200" in (
        answer.sentence.replace("model=cnn", "cnn", 1)
    )
    assert answer.claim.startswith("val/top1: model=cnn minus model=vit at limit=4000 lower than")


def tuned(new, old, **changes):
    """Rate -> the values of each seed, for either side."""
    trials = [
        trial({"model": model, "lr": lr}, seed, "done", {"val/top1": value})
        for model, side in (("new", new), ("old", old))
        for lr, values in side.items()
        for seed, value in enumerate(values)
    ]
    return sweep(trials, report={"contrasts": [{**TUNED, **changes}]})


def test_each_side_is_at_its_own_best_of_the_other_seeds():
    # seed 0 of the rate 0.1 is lucky: chosen on seeds 1 and 2 alone, 0.2 is better for it
    new = {0.1: (0.99, 0.80, 0.81), 0.2: (0.90, 0.91, 0.92)}
    old = {0.1: (0.70, 0.71, 0.715), 0.2: (0.10, 0.10, 0.10)}
    (answer,) = answers(tuned(new, old))
    # seed 0: 0.2; seed 1: 0.1 has 0.99 + 0.81, 0.2 has 0.90 + 0.92; seed 2: 0.99 + 0.80 against 0.90 + 0.91
    assert answer.of.mean == pytest.approx((0.90 + 0.91 + 0.92) / 3)
    assert answer.against.mean == pytest.approx((0.70 + 0.71 + 0.715) / 3)
    assert answer.verdict == "as_expected"
    assert "model=new (tuned over lr)" in answer.sentence


def test_sides_with_unequal_numbers_of_trials_are_not_tested():
    new = {0.1: (0.9, 0.91, 0.92), 0.2: (0.9, 0.91, 0.93)}
    (answer,) = answers(tuned(new, {0.1: (0.1, 0.2, 0.25)}))
    assert (answer.verdict, answer.p) == ("not_resolved", None)
    assert "unequal numbers of trials (1 and 2)" in answer.sentence


def test_a_metric_to_be_minimised_is_tuned_downwards():
    losses = {0.1: (1.0, 1.1, 1.2), 0.2: (0.5, 0.6, 0.72)}
    trials = [
        trial({"model": model, "lr": lr}, seed, "done", {"val/loss": value + (model == "old") * (1 + seed / 10)})
        for model in ("new", "old")
        for lr, values in losses.items()
        for seed, value in enumerate(values)
    ]
    contrast = {**TUNED, "metric": "val/loss", "expect": "lower"}
    (answer,) = answers(sweep(trials, report={"contrasts": [contrast]}, metric="val/loss", mode="min"))
    assert answer.of.mean == pytest.approx((0.5 + 0.6 + 0.72) / 3)


FILE = """data: digits
model: {{name: resnet, layout: cifar, depth: 8, width: 4}}
task: classification
loss: cross_entropy
optimizer: {{name: sgd, lr: 0.1}}
sweep:
  space: {{data.limit: [200, 400], optimizer.lr: [0.1, 0.2], model.depth: [8, 14]}}
  seeds: 3
report:
  contrasts:
    - {{metric: val/top1, of: {{model.depth: 14}}, against: {{model.depth: 8}}, expect: higher, {more}}}
"""


def loaded(folder, more):
    (folder / "exp.yaml").write_text(FILE.format(more=more))
    return load(folder / "exp.yaml").experiment.report.contrasts[0]


def test_both_are_read_from_the_file(tmp_path):
    assert dict(loaded(tmp_path, "by: {data.limit: [200, 400]}").by) == {"data.limit": (200, 400)}
    assert loaded(tmp_path, "tuned_over: [optimizer.lr]").tuned_over == ("optimizer.lr",)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("by: {data.limit: [200, 300]}", "300 is not among the values of data.limit"),
        ("by: {data.batch_size: [1, 2]}", "data.batch_size is not searched"),
        ("by: {data.limit: [200, 200]}", "the two values are the same"),
        ("by: {data.limit: [200, 400], optimizer.lr: [0.1, 0.2]}", "one searched key makes a difference"),
        ("by: {model.depth: [8, 14]}", "model.depth is fixed by"),
        ("by: {data.limit: 200}", "by.data.limit"),
        ("tuned_over: [optimizer.momentum]", "optimizer.momentum is not searched"),
        ("tuned_over: [model.depth]", "model.depth is fixed by"),
    ],
)
def test_what_is_wrong_with_them_is_said_with_its_place(tmp_path, more, message):
    with pytest.raises(ExperimentInvalid) as raised:
        loaded(tmp_path, more)
    assert message in str(raised.value)
    assert "exp.yaml:11:" in str(raised.value)
