"""What every task that draws samples must do as a trial: go on bit for bit, agree over ranks, draw beside training."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from expflow.config import load
from expflow.config.schema import Recipe
from expflow.data.dataspec import FieldSpec
from expflow.data.prepare.build import prepare
from expflow.errors import ExperimentInvalid, Preempted
from expflow.events import Report
from expflow.tasks import build_task, cost
from expflow.training import Artifact, Attempt
from tests.data.sources.captioned_sets import write_captions
from tests.data.sources.labelled_sets import write_stamps
from tests.tasks.test_task_contract import CAPTIONED, IMAGES, PALETTED, TEXTS
from tests.training.attempts import train_attempt
from tests.training.comparing import comparable

pytestmark = [pytest.mark.timeout(180), pytest.mark.usefixtures("rank_forks")]

TRIALS = {
    # task -> its recipe but for data and trainer
    "autoencoder": """
model: {name: autoencoder, backbone: resnet, layout: cifar, depth: 8, width: 4, norm: layer, code: 4, decoder_width: 4,
        decoder_norm: layer}
task: {name: autoencoder, samples: 5}
optimizer: {name: adam, lr: 3e-3}
""",
}
TRIALS["diffusion"] = """
model: {name: ddpm_unet, width: 8, factors: [1, 2], blocks: 1, dropout: 0.0}
task: {name: diffusion, timesteps: 20, sampling_steps: 4, samples: 5, eta: 0.5}
optimizer: {name: adam, lr: 3e-3}
"""
TRIALS["mae"] = """
model: {name: mae, patch: 2, depth: 1, width: 12, heads: 2, decoder_width: 8, decoder_depth: 1, decoder_heads: 2}
task: {name: mae, mask_ratio: 0.6, samples: 5}
optimizer: {name: adam, lr: 3e-3}
"""
TRIALS["seq2seq"] = """
model: {name: transformer, width: 8, depth: 1, heads: 2, hidden: 8, dropout: 0.0}
task: {name: seq2seq, samples: 5}
optimizer: {name: adam, lr: 3e-3}
"""
TRIALS["igpt"] = """
model: {name: igpt, width: 8, depth: 1, heads: 2}
task: {name: igpt, samples: 3}
optimizer: {name: adam, lr: 3e-3}
"""
TRIALS["clip"] = """
model: {name: clip, backbone: vit, patch: 4, depth: 1, width: 8, heads: 2, embedding: 4, text_width: 8, text_depth: 1,
        text_heads: 2}
task: {name: clip, samples: 3}
optimizer: {name: adamw, lr: 3e-3}
"""
TRIALS["super_resolution"] = """
model: {name: srcnn, channels: [4, 4], kernels: [3, 1, 3]}
task: {name: super_resolution, factor: 2, samples: 5}
optimizer: {name: adam, lr: 3e-3}
"""
TRIALS["anomaly"] = TRIALS["autoencoder"].replace("{name: autoencoder, samples: 5}", "{name: anomaly, left_out: '1'}")
LABELLED = replace(IMAGES, fields={**IMAGES.fields, "label": FieldSpec((), "int64")}, classes=tuple("0123456789"))
EPOCHS = "trainer: {epochs: 2}\n"
DATES = "{name: written_dates, train_dates: 45, val_dates: 9, test_dates: 1, batch_size: 8}"
DATA = "data: {name: digits, limit: 45, batch_size: 8}\ntrainer: {epochs: 2, accumulate: 2}\n"
"""45 images in batches of 8: the last batch, of 5, does not divide by two ranks."""

REFUSED = {
    "super_resolution": [
        ("loss: cross_entropy\n", "loss", "compares scores with classes"),
        ("", "model", "gives one score for each class of an image"),
    ],
    "anomaly": [("loss: cross_entropy\n", "loss", "compares scores with classes")],
    "seq2seq": [
        ("loss: squared\n", "loss", "gives no value for each token"),
        ("", "data.train.mixup", "changes images, and these data are texts"),
        ("data.palette: 4", "data.palette", "is about images, and these data are texts"),
        ("data.image_size: 4", "data.image_size", "is about images, and these data are texts"),
        ("", "model", "gives one score for each class of an image"),
    ],
    "igpt": [
        ("loss: squared\n", "loss", "does not use this slot"),
        ("", "model", "gives one score for each class of an image"),
        ("", "data.palette", "write how many, such as 16"),
        ("data.palette: 1", "data.palette", "pixels of one colour alone"),
    ],
    "mae": [
        ("loss: squared\n", "loss", "does not use this slot"),
        ("", "model", "gives one score for each class of an image"),
        ("", "data.train.mixup", "mixes images for the sake of their classes"),
    ],
    "diffusion": [
        ("loss: squared\n", "loss", "does not use this slot"),
        ("", "model", "gives one score for each class of an image"),
    ],
    # task -> what is changed in its recipe, and the key and words of the refusal
    "autoencoder": [
        ("loss: cross_entropy\n", "loss", "compares scores with classes"),
        ("loss: squared\n", "model", "gives one score for each class of an image"),
    ],
}


def recipe_of(text: str, folder: Path) -> Recipe:
    file = folder / "trial.yaml"
    given = DATA + text
    if "seq2seq" in text:
        given = given.replace(re.findall("data: (.*)", given)[0], DATES)
    if "name: clip" in text:
        stamps = folder / "stamps of tests"
        write_stamps(stamps, 90)
        write_captions(stamps, 90)
        given = f"data: {{name: stamp_captions, path: {stamps}, side: 8, batch_size: 8, last: drop}}\n{EPOCHS}{text}"
    if "igpt" in text and "without palette" not in text:
        given = given.replace("{name: digits,", "{name: digits, palette: 6,")
    file.write_text(given)
    return load(file).experiment.recipe


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(params=sorted(TRIALS))
def trial(request: pytest.FixtureRequest, tmp_path: Path, cache: Path) -> tuple[Recipe, Path]:
    recipe = recipe_of(TRIALS[request.param], tmp_path)
    return recipe, prepare(recipe.data, cache=cache).root  # type: ignore[arg-type]


def train(
    attempt: Attempt, ranks: int = 1, leave_at: int | None = None
) -> tuple[Any, list[Report], dict[int, Artifact]]:
    outcome, reports, notices = train_attempt(attempt, ranks, leave_at)
    samples = [notice for notice in notices if isinstance(notice, Artifact) and notice.name == "samples"]
    return outcome, reports, {notice.step: notice for notice in samples}


def test_two_ranks_train_and_measure_what_one_does(trial: tuple[Recipe, Path], tmp_path: Path) -> None:
    recipe, root = trial
    _, one, drawn = train(Attempt(recipe, 0, root, tmp_path / "one"))
    _, two, _ = train(Attempt(recipe, 0, root, tmp_path / "two"), ranks=2)
    assert [report.step for report in one] == [report.step for report in two] == sorted(drawn)
    for single, double in zip(one, two, strict=True):
        assert comparable(single.metrics).keys() == comparable(double.metrics).keys()
        for name in comparable(single.metrics):
            assert single.metrics[name] == pytest.approx(double.metrics[name], rel=2e-3, abs=1e-6), name


@pytest.mark.parametrize("question", [1, 4, 7])
def test_a_trial_that_was_cut_is_the_trial_that_was_not(
    trial: tuple[Recipe, Path], tmp_path: Path, question: int
) -> None:
    recipe, root = trial
    whole, expected, drawn = train(Attempt(recipe, 0, root, tmp_path / "whole"))
    with pytest.raises(Preempted):
        train(Attempt(recipe, 0, root, tmp_path / "cut"), leave_at=question)
    again, reports, redrawn = train(Attempt(recipe, 0, root, tmp_path / "cut"))
    assert again.weights == whole.weights
    assert comparable(reports[-1].metrics) == comparable(expected[-1].metrics)
    assert redrawn[max(drawn)].sha256 == drawn[max(drawn)].sha256


def test_samples_are_pictures_that_training_does_not_see(
    trial: tuple[Recipe, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe, root = trial
    whole, reports, drawn = train(Attempt(recipe, 0, root, tmp_path))
    for artifact in drawn.values():
        if artifact.kind == "image":
            pixels = np.asarray(Image.open(artifact.path))
            assert pixels.dtype == np.uint8
            assert len(np.unique(pixels)) > 3
    monkeypatch.setattr("expflow.training.lightning_runner.sample_callbacks", lambda task: [])
    without, the_same, none = train(Attempt(recipe, 0, root))
    assert none == {}
    assert without.weights == whole.weights
    assert comparable(the_same[-1].metrics) == comparable(reports[-1].metrics)


def test_it_is_built_and_counted_without_memory(trial: tuple[Recipe, Path]) -> None:
    recipe, _ = trial
    others = {"seq2seq": TEXTS, "igpt": PALETTED, "clip": CAPTIONED}
    spec = others.get(recipe.task.name, LABELLED)  # type: ignore[union-attr]
    with torch.device("meta"):
        task = build_task(recipe, spec)
    assert {parameter.device.type for parameter in task.parameters()} == {"meta"}
    counted = cost(recipe, spec)
    assert counted.params == sum(parameter.numel() for parameter in task.parameters())
    assert counted.macs


@pytest.mark.parametrize(
    ("task", "change", "key", "words"), [(task, *case) for task, cases in REFUSED.items() for case in cases]
)
def test_misuse_is_refused_with_a_reason(
    task: str, change: str, key: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = TRIALS[task]
    if key.startswith("data"):
        more = ", train: {mixup: 0.2}" if key == "data.train.mixup" else ""
        more = ", " + change.removeprefix("data.") if change else more
        change = "# without palette\n" if key == "data.palette" else ""
        for name, given in (("DATA", DATA), ("DATES", DATES)):
            monkeypatch.setattr(f"{__name__}.{name}", given.replace("batch_size: 8", "batch_size: 8" + more))
    if key == "model":
        text = f"model: linear\ntask: {task}\noptimizer: adam\n"
    with pytest.raises(ExperimentInvalid) as raised:
        recipe_of(text + change, tmp_path)
    assert any(problem.key == key and words in problem.message for problem in raised.value.problems), raised.value
