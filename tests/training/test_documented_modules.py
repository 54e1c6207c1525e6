"""Modules of Lightning's documentation train as they are, with one rank and with two, over the values of a key."""

import math
from pathlib import Path

import pytest

from expflow.config.schema import Recipe, Trainer
from expflow.config.spec import UserComponent
from expflow.training import Artifact, Attempt, World, run_trial
from tests.training.forked_ranks import train_on_two_ranks

CODE = "tests.training.documented_modules"  # not imported here: expflow sees to it that it fits
SEARCHED = {
    "LitClassifier": ("learning_rate", (0.001, 0.01)),
    "LitAutoEncoder": ("code", (2, 3)),
    "GAN": ("lr", (0.0002, 0.002)),
    "LitEpochEnd": ("learning_rate", (0.001, 0.01)),
    "LitPlateau": ("learning_rate", (0.001, 0.01)),
}
TRIALS = [(name, key, value) for name, (key, values) in SEARCHED.items() for value in values]
STEPS = {1: math.ceil(71 / 16), 2: math.ceil(36 / 16)}
"""Of an epoch of 71 samples in batches of 16, by ranks."""
EPOCHS = {"LitPlateau": 3}
"""Where not 2."""


def recipe(name, *, strategy=None, **arguments):
    task = UserComponent(name=f"{CODE}:{name}", **arguments)
    data = UserComponent(name=f"{CODE}:DigitsDataModule")
    trainer = Trainer(epochs=EPOCHS.get(name, 2), lightning={"strategy": strategy} if strategy else {})
    return Recipe(data=data, task=task, trainer=trainer)


def recipes(folder: Path):
    """What the two ranks train."""
    trials = {f"{name}-{value}": recipe(name, **{key: value}) for name, key, value in TRIALS}
    still = {f"{name}-still": recipe(name, learning_rate=0.0) for name in ("LitClassifier", "LitEpochEnd")}
    promised = {f"{name}-ddp": recipe(name, strategy="ddp") for name in ("GAN", "LitClassifier")}
    return trials | still | promised


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory):
    return train_on_two_ranks(f"{__name__}:recipes", tmp_path_factory.mktemp("two"))


def train_alone(trained, folder):
    reports, notices = [], []
    attempt = Attempt(trained, 0, folder=folder)
    outcome = run_trial(attempt, World(), lambda report: reports.append(report) or True, on_notice=notices.append)
    return outcome, [report.metrics for report in reports], [n for n in notices if isinstance(n, Artifact)]


@pytest.mark.parametrize(("name", "key", "value"), TRIALS)
def test_each_is_trained_on_one_rank(name, key, value, tmp_path):
    outcome, reports, artifacts = train_alone(recipe(name, **{key: value}), tmp_path)
    assert outcome.step == len(reports) * STEPS[1]
    expects(name, reports, [[artifact.name, artifact.step] for artifact in artifacts], tmp_path)


@pytest.mark.parametrize(("name", "key", "value"), TRIALS)
def test_each_is_trained_on_two_ranks(name, key, value, two_ranks, request):
    result = two_ranks[f"{name}-{value}"]
    assert "error" not in result, result
    assert result["step"] == len(result["reports"]) * STEPS[2]
    folder = request.getfixturevalue("tmp_path_factory").getbasetemp()
    expects(name, result["reports"], result["artifacts"], next(folder.glob(f"two*/{name}-{value}")))


def test_a_gan_that_is_told_to_use_all_its_parameters_is_refused_with_the_key(two_ranks):
    """Without the key they are looked for, as in the test before: the documented module trains unchanged."""
    assert two_ranks["LitClassifier-ddp"]["step"] == 2 * STEPS[2]
    error = two_ranks["GAN-ddp"]["error"]
    assert error.startswith("UserError: trainer.lightning.strategy: ddp says that each parameter has a gradient")
    assert error.endswith("leave it out, and DDP looks for them in each step")


def expects(name, reports, artifacts, folder):
    """What a trial reports and keeps, whatever its ranks."""
    assert len(reports) == EPOCHS.get(name, 2)
    assert all(math.isfinite(value) for report in reports for value in report.values())
    if name == "GAN":
        assert {"g_loss", "d_loss"} <= reports[-1].keys()
        pictures = {("train_generated_images", epoch) for epoch in (0, 1)}
        pictures |= {("validation_generated_images", epoch) for epoch in (0, 1)}
        assert {tuple(artifact) for artifact in artifacts} == {*pictures, ("hyperparameters", 0)}
        assert len(artifacts) == 5  # one of each name and step, though a picture is logged in every step
        assert (folder / "artifacts/train_generated_images/step-000000001.png").stat().st_size > 100
    elif name == "LitEpochEnd":
        assert [report["val_samples"] for report in reports] == [37, 37]
        assert 0 <= reports[-1]["val_worst_class"] <= 1
    else:
        assert reports[-1]["val_loss"] < reports[0]["val_loss"]
    if name == "LitClassifier":
        assert [path.name for path in (folder / "lightning").rglob("*.ckpt")] == ["best.ckpt"]
    if name == "LitPlateau":
        assert [report["lr-Adam"] / reports[0]["lr-Adam"] for report in reports] == pytest.approx([1, 1, 0.5])


@pytest.mark.parametrize("name", ["LitClassifier", "LitEpochEnd"])
def test_metrics_of_equal_weights_are_those_of_one_rank(name, two_ranks, tmp_path):
    """At a rate of zero both train the same network, so that every metric of validation has to be equal."""
    still = two_ranks[f"{name}-still"]
    _, reports, _ = train_alone(recipe(name, learning_rate=0.0), tmp_path)
    for metric in ("val_loss", "val_acc", "val_worst_class", "val_samples"):
        if metric in reports[-1]:
            assert still["reports"][-1][metric] == pytest.approx(reports[-1][metric], rel=1e-6)
