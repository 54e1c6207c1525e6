"""Distances in the features of a classifier: looked up once, part of trials' identity, kept with the results."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest

from expflow.errors import ExperimentInvalid, LedgerMismatch, UserError, WeightsMissing
from expflow.ledger import load_state
from expflow.sweep.finished_trial import load_finished_trial
from expflow.sweep.in_process import run_in_process
from expflow.sweep.plan import Plan, make_plan
from expflow.sweep.result_location import find_results
from expflow.sweep.test_evaluation import evaluate_on_test
from expflow.sweep.trial_check import check_trial
from expflow.sweep.trial_evaluation import EvaluationRequest
from expflow.sweep.trial_expansion import planned_trials
from expflow.training import Attempt, World, run_trial
from tests.finished_sweeps import copy_of_sweeps, finish_sweeps
from tests.rank_forks import run_forked_ranks

CLASSIFIER = """
data: {name: digits, batch_size: 50, limit: 200}
model: {name: resnet, layout: cifar, depth: 8, width: 4}
task: classification
optimizer: {name: sgd, lr: 0.1}
trainer: {epochs: 1}
sweep: {space: {optimizer.lr: [0.01, 0.1]}, seeds: 1}
"""
GAN = """
data: {name: digits, batch_size: 50, limit: 150}
model:
  generator: {name: dcgan_generator, latent: 4, width: 4, norm: none}
  discriminator: {name: dcgan_discriminator, width: 4, norm: none}
task: {name: gan, features: judge/best, samples: 4}
optimizer: {name: adam, lr: 0.001}
trainer: {epochs: 1}
sweep: {space: {task.features: ["", judge/best]}, seeds: 1, metric: val/swd}
"""
DIFFUSION = """
data: {name: digits, batch_size: 50, limit: 50}
model: {name: ddpm_unet, width: 4, factors: [1, 2], blocks: 1}
task: {name: diffusion, timesteps: 10, sampling_steps: 2, samples: 4, features: judge/best}
optimizer: {name: adam, lr: 0.001}
trainer: {epochs: 1}
"""
AUTOENCODER = """
data: {name: digits, batch_size: 50, limit: 50}
model: {name: autoencoder, backbone: resnet, depth: 8, width: 2, code: 3, decoder_width: 4}
task: {name: autoencoder, samples: 4, features: judge/best}
optimizer: {name: adam, lr: 0.001}
trainer: {epochs: 1}
"""
PIX2PIX = """
data: {name: digits, batch_size: 50, limit: 50}
model:
  generator: {name: resnet_generator, width: 2, blocks: 1}
  discriminator: {name: patch_discriminator, width: 2, norm: instance, layers: 1, sees: pair}
task: {name: pix2pix, condition: edges, samples: 4, features: judge/best}
optimizer: {name: adam, lr: 0.001}
trainer: {epochs: 1}
"""
CYCLEGAN = """
data: {name: digits, batch_size: 50, limit: 50}
model:
  to_image: {name: resnet_generator, width: 2, blocks: 1}
  to_condition: {name: resnet_generator, width: 2, blocks: 1}
  image_judge: {name: patch_discriminator, width: 2, norm: instance, layers: 1}
  condition_judge: {name: patch_discriminator, width: 2, norm: instance, layers: 1}
task: {name: cyclegan, condition: edges, samples: 4, features: judge/best}
optimizer: {name: adam, lr: 0.001}
trainer: {epochs: 1}
"""
TWO_SOURCES = CYCLEGAN.replace("condition: edges", "condition: source").replace(
    "data: {name: digits, batch_size: 50, limit: 50}",
    """data:
  image: {name: digits, batch_size: 50, limit: 50}
  condition: {name: digits, split_seed: 1, val_fraction: 0.15, batch_size: 50, limit: 50}""",
)
MAKING = {
    "gan": GAN.split("sweep:")[0],
    "diffusion": DIFFUSION,
    "autoencoder": AUTOENCODER,
    "pix2pix": PIX2PIX,
    "cyclegan": CYCLEGAN,
    "two sources": TWO_SOURCES,
}
"""An experiment for each task that compares made images in features."""
DISTANCES = {"val/kid", "val/frechet_distance"}

pytestmark = [pytest.mark.timeout(240), pytest.mark.usefixtures("rank_forks")]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the finished sweep ``judge``, a GAN that was measured with it and one that was not."""
    return finish_sweeps(tmp_path_factory.mktemp("features"), {"judge": CLASSIFIER, "exp": GAN})


@pytest.fixture
def place(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of one's own."""
    return copy_of_sweeps(finished, tmp_path, monkeypatch)


def plan(folder: Path, text: str = GAN) -> Plan:
    (folder / "exp.yaml").write_text(text)
    return make_plan(folder / "exp.yaml")


def test_a_trial_reports_both_distances_where_it_names_a_classifier_and_is_else_the_same(place: Path) -> None:
    without, with_them = load_state(place / "runs" / "exp").plan_trials()
    assert with_them.metrics.keys() - without.metrics.keys() == DISTANCES
    assert all(math.isfinite(with_them.metrics[metric]) for metric in DISTANCES)
    assert with_them.metrics["val/frechet_distance"] > 0
    assert with_them.weights == without.weights, "measuring changes nothing of the training"
    assert with_them.metrics["val/swd"] == without.metrics["val/swd"]


def test_the_classifiers_digest_is_part_of_the_trials_identity(place: Path) -> None:
    state = load_state(place / "runs" / "judge")
    best, other = sorted(state.plan_trials(), key=lambda trial: -trial.metrics["val/top1"])
    _, measured = planned_trials(plan(place))
    assert measured.features is not None
    assert measured.features.weights.trial == best.trial
    base = GAN.split("sweep:")[0]
    ids = []
    for name in ("best", best.trial, other.trial):
        [trial] = planned_trials(plan(place, base.replace("judge/best", f"judge/{name}")))
        assert trial.features is not None
        ids.append(trial.features.id)
    assert ids[0] == ids[1] != ids[2]
    known = load_state(place / "runs" / "exp").header.weights["features:judge/best"]  # type: ignore[union-attr]
    assert known["trial"] == best.trial
    assert known["network"]["model"]["width"] == 4


def test_what_continues_measures_with_the_copy_and_another_classifier_is_refused(place: Path) -> None:
    shutil.rmtree(place / "runs" / "judge")
    before = load_state(place / "runs" / "exp")
    result = run_in_process(plan(place, GAN.replace("seeds: 1", "seeds: 2")))
    assert result.ran == 2
    trials = {(trial.values["task.features"], trial.seed): trial for trial in result.state.plan_trials()}
    assert trials["judge/best", 1].metrics.keys() >= DISTANCES
    assert trials["judge/best", 0].trial in before.trials
    shutil.rmtree(place / "runs" / "exp" / "weights")
    (place / "judge.yaml").write_text(CLASSIFIER.replace("epochs: 1", "epochs: 2"))
    run_in_process(make_plan(place / "judge.yaml"))
    with pytest.raises(LedgerMismatch, match=r"was measured in the features of judge/.*whose copy is gone"):
        plan(place)


def test_the_trial_checks_and_tests_with_the_same_classifier(place: Path) -> None:
    state = load_state(place / "runs" / "exp")
    trial = next(trial for trial in state.plan_trials() if trial.values["task.features"])
    assert check_trial(find_results(f"exp/{trial.trial}", place / "runs")).equal
    results = find_results(f"exp/{trial.trial}", place / "runs")
    tested = evaluate_on_test(results, EvaluationRequest(trial.config, (trial,))).metrics[trial.trial]
    assert "test/swd" in tested
    assert "test/kid" not in tested, "100 images are too few for 16 features"
    finished = load_finished_trial(results, trial)
    with finished.open_evaluator() as evaluator:
        again = evaluator.evaluate(finished.load_weights(evaluator).weights, "val").metrics
    assert {metric: again[metric] for metric in DISTANCES} == pytest.approx(
        {metric: trial.metrics[metric] for metric in DISTANCES}, rel=1e-6
    )


@pytest.mark.parametrize("text", MAKING.values(), ids=MAKING)
def test_two_ranks_measure_what_one_does(place: Path, text: str) -> None:
    [trial] = planned_trials(plan(place, text))
    assert trial.data is not None
    measured = []
    for ranks in (1, 2):
        reports = []
        attempt = Attempt(trial.recipe, 0, Path(trial.data.root), features=trial.features)
        run_forked_ranks(
            attempt,
            World(ranks=ranks),
            lambda report, kept=reports: kept.append(report) or True,
            on_notice=lambda notice: None,
            leave=lambda: False,
        )
        measured.append(reports[-1].metrics)
    one, two = measured
    assert one.keys() >= DISTANCES
    for metric in DISTANCES:
        assert two[metric] == pytest.approx(one[metric], rel=1e-3, abs=1e-5), metric


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (GAN.replace("judge/best", "nowhere/best"), r"exp.yaml:9:\d+: task.features"),
        (
            GAN.replace("judge/best", "judge"),
            "expected a trial whose network gives the features",
        ),
        (GAN.replace("judge/best", "exp/best"), "is no classifier of expflow's networks"),
        (PIX2PIX.replace("judge/best", "nowhere/best"), r"exp.yaml:6:\d+: task.features"),
        (DIFFUSION.replace("samples: 4", "samples: 4, eta: 1"), "drawn without further noise"),
    ],
)
def test_what_gives_no_features_is_refused_with_its_place(place: Path, text: str, reason: str) -> None:
    with pytest.raises(ExperimentInvalid, match=reason):
        plan(place, text)


def test_the_smaller_val_of_two_sources_decides_how_many_images_are_compared(place: Path) -> None:
    text = TWO_SOURCES.replace("val_fraction: 0.15", "val_fraction: 0.05")
    [trial] = planned_trials(plan(place, text))
    assert trial.data is not None
    assert trial.data.spec.samples["val"] < 160
    attempt = Attempt(trial.recipe, 0, Path(trial.data.root), features=trial.features)
    with pytest.raises(UserError, match=r"gives 16 features, whose covariance needs at least 160 images of val"):
        run_trial(attempt, World(), lambda report: True)


def test_a_task_that_was_not_given_its_classifier_says_so(place: Path) -> None:
    [trial] = planned_trials(plan(place, GAN.split("sweep:")[0]))
    assert trial.data is not None
    with pytest.raises(WeightsMissing, match=r"task\.features: judge/best was not looked up"):
        run_trial(Attempt(trial.recipe, 0, Path(trial.data.root)), World(), lambda report: True)
