"""Tasks with several networks in trials: two ranks give what one gives, and a cut training goes on bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from expflow.config import load
from expflow.config.schema import Recipe
from expflow.data.prepare.build import prepare
from expflow.data.prepare.slots import prepare_slots
from expflow.errors import Preempted
from expflow.events import Report
from expflow.training import Artifact, Attempt
from tests.training.attempts import train_attempt
from tests.training.comparing import comparable

pytestmark = [pytest.mark.timeout(180), pytest.mark.usefixtures("rank_forks")]

DIGITS = "data: {name: digits, limit: 37, batch_size: 8}"
SCENES = "data: {name: digit_scenes, train_scenes: 37, val_scenes: 21, test_scenes: 1, side: 16, batch_size: 8}"
SOURCES = """data:
  image: {name: digits, limit: 37, batch_size: 8}
  condition: {name: digits, split_seed: 1, limit: 11, batch_size: 8, train: {flip: 0.5}}"""
OPTIMIZERS = """
optimizer: {generator: {name: adam, lr: 0.002, beta1: 0.5}, discriminator: {name: sgd, lr: 0.05}}
schedule: {generator: one_cycle, discriminator: constant}
trainer: {epochs: 2, ema: 0.9}
"""
CYCLE = """model:
  to_image: {name: resnet_generator, width: 2, blocks: 1}
  to_condition: {name: resnet_generator, width: 2, blocks: 1}
  image_judge: {name: patch_discriminator, width: 2, norm: instance, layers: 1}
  condition_judge: {name: patch_discriminator, width: 2, norm: instance, layers: 1}
"""
RECIPES = {
    "gan": (
        DIGITS,
        "{name: dcgan_generator, width: 4, latent: 5, norm: none}",
        "{name: dcgan_discriminator, width: 4, norm: none}",
        "{name: gan, n_critic: 2, objective: hinge, samples: 4}",
    ),
    "pix2pix": (
        SCENES,
        "{name: pix2pix_generator, width: 2, norm: none, dropout: 0}",
        "{name: patch_discriminator, width: 2, norm: none, layers: 1, sees: pair}",
        "{name: pix2pix, condition: mask, samples: 4}",
    ),
    "cyclegan": (SCENES, "", CYCLE, "{name: cyclegan, condition: mask, samples: 4}"),
    "cyclegan_sources": (SOURCES, "", CYCLE, "{name: cyclegan, condition: source, samples: 4}"),
    "context_encoder": (
        DIGITS,
        "{name: context_encoder, width: 4, bottleneck: 6, norm: none}",
        "{name: dcgan_discriminator, width: 4, norm: none, sees: centre}",
        "{name: context_encoder, adversarial: 0.2, samples: 4}",
    ),
}
RATES = {"cyclegan": "0.00002", "cyclegan_sources": "0.00002"}
"""Where not 0.002, at which this training amplifies rounding a hundred thousand times in ten steps."""
STEPS = {"gan": 3}
"""Of an epoch of 37 samples in batches of 8, where not 5."""


@pytest.fixture(scope="module", params=RECIPES)
def trained(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Recipe, Path]:
    """The last batch, of 5 samples, does not divide by two ranks."""
    written, generator, discriminator, task = RECIPES[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    model = f"model: {{generator: {generator}, discriminator: {discriminator}}}" if generator else discriminator
    optimizers = OPTIMIZERS.replace("0.002", RATES.get(request.param, "0.002"))
    (folder / "trained.yaml").write_text("\n".join((written, model, f"task: {task}", optimizers)))
    recipe = load(folder / "trained.yaml").experiment.recipe
    several = prepare_slots(recipe, lambda source: prepare(source, cache=folder / "cache"), folder / "cache")
    data = several or prepare(recipe.data, cache=folder / "cache")  # type: ignore[arg-type]
    return request.param, recipe, data.root


def train(attempt: Attempt, ranks: int = 1, leave_at: int | None = None) -> tuple[Any, list[Report], list[Artifact]]:
    outcome, reports, notices = train_attempt(attempt, ranks, leave_at)
    return outcome, reports, [notice for notice in notices if isinstance(notice, Artifact)]


def test_two_ranks_train_and_measure_what_one_does(trained: tuple[str, Recipe, Path], tmp_path: Path) -> None:
    name, recipe, root = trained
    one, single, artifacts = train(Attempt(recipe, 0, root, tmp_path / "one"))
    two, double, _ = train(Attempt(recipe, 0, root, tmp_path / "two"), ranks=2)
    steps = STEPS.get(name, 5)
    assert [report.step for report in single] == [report.step for report in double] == [steps, 2 * steps]
    assert one.step == two.step == 2 * steps
    for first, second in zip(single, double, strict=True):
        assert first.metrics.keys() == second.metrics.keys()
        for metric, value in first.metrics.items():
            if not metric.startswith("cost/"):
                assert second.metrics[metric] == pytest.approx(value, rel=2e-3, abs=1e-5), metric
    drawn = {(artifact.name, artifact.step) for artifact in artifacts}
    assert drawn == {(name, step) for name in ("samples", "samples_raw") for step in (steps, 2 * steps)}


@pytest.mark.parametrize("question", [1, 2, 4, 7, 9])
def test_a_trial_that_was_cut_is_the_trial_that_was_not(
    trained: tuple[str, Recipe, Path], tmp_path: Path, question: int
) -> None:
    _, recipe, root = trained
    whole, expected, _ = train(Attempt(recipe, 0, root))
    with pytest.raises(Preempted):
        train(Attempt(recipe, 0, root, tmp_path), leave_at=question)
    again, reports, _ = train(Attempt(recipe, 0, root, tmp_path))
    assert again.weights == whole.weights
    assert comparable(reports[-1].metrics) == comparable(expected[-1].metrics)
