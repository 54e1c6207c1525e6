"""The kNN probe as a trial: its votes, what it is fitted to, resuming and ranks, and an encoder of another sweep."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from expflow.config import load
from expflow.config.schema import Recipe
from expflow.data.dataspec import DataSpec, FieldSpec
from expflow.data.prepare.build import prepare
from expflow.errors import ExperimentInvalid, Preempted, UserError
from expflow.events import Report
from expflow.ledger import load_state
from expflow.sweep.finished_trial import load_finished_trial
from expflow.sweep.in_process import run_in_process
from expflow.sweep.plan import make_plan
from expflow.sweep.result_location import find_results
from expflow.tasks import build_task, cost
from expflow.tasks.knn import SMALLEST_SHARE, KnnProbe
from expflow.training import Attempt, Saved, World
from expflow.training.evaluation.evaluator import open_evaluator
from expflow.training.evaluation.inference_network import InferenceNetwork
from tests.training.attempts import train_attempt
from tests.training.comparing import comparable

pytestmark = [pytest.mark.timeout(180), pytest.mark.usefixtures("rank_forks")]

LIMIT = 205
DATA = f"data: {{name: digits, limit: {LIMIT}, batch_size: 32}}\n"
PIXELS = DATA + "model: linear\n"
"""The head of a linear network is given the pixels."""
VIT = "model: {name: vit, patch: 2, depth: 1, width: 16, heads: 2, mlp_ratio: 2, positions: sine, pooling: average}\n"


def recipe_of(text: str, folder: Path) -> Recipe:
    file = folder / "trial.yaml"
    file.write_text(text)
    return load(file).experiment.recipe


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    recipe = recipe_of(f"{PIXELS}task: knn\n", folder)
    return prepare(recipe.data, cache=folder / "cache").root  # type: ignore[arg-type]


def probe(attempt: Attempt, ranks: int = 1, leave_at: int | None = None) -> tuple[Any, Report, list[Any]]:
    outcome, (report,), notices = train_attempt(attempt, ranks, leave_at)
    return outcome, report, notices


def slow_shares(
    queries: torch.Tensor, bank: torch.Tensor, labels: torch.Tensor, spec: Any, classes: int
) -> list[list[float]]:
    """Each class's share of the votes, one query and one neighbour at a time (Wu et al. 2018, section 3.4)."""
    rows = []
    for query in queries.double():
        cosines = [float(query @ other / (query.norm() * other.norm())) for other in bank.double()]
        nearest = sorted(range(len(bank)), key=lambda place: -cosines[place])[: spec.neighbours]
        votes = [0.0] * classes
        for place in nearest:
            exponential = spec.weighting == "exponential"
            votes[int(labels[place])] += math.exp(cosines[place] / spec.temperature) if exponential else 1.0
        rows.append([vote / sum(votes) for vote in votes])
    return rows


@pytest.mark.parametrize("keys", ["neighbours: 7", "neighbours: 12, weighting: equal", "neighbours: 3, temperature: 1"])
def test_its_votes_against_a_slow_implementation(keys: str, tmp_path: Path) -> None:
    recipe = recipe_of(f"data: digits\nmodel: linear\ntask: {{name: knn, {keys}}}\n", tmp_path)
    fields = {"image": FieldSpec((1, 2, 3), "uint8"), "label": FieldSpec((), "int64")}
    spec = DataSpec(fields, tuple("abcdefg"), {"train": 40}, mean=(0.4,), std=(0.2,))
    task, generator = build_task(recipe, spec), torch.Generator().manual_seed(0)
    assert isinstance(task, KnnProbe)
    image = torch.randint(0, 256, (60, 1, 2, 3), generator=generator, dtype=torch.uint8)
    label = torch.randint(0, 7, (60,), generator=generator)
    batches = [
        {"image": image[part], "label": label[part], "index": torch.arange(60)[part], "valid": label[part] >= 0}
        for part in (slice(0, 25), slice(25, 40))
    ]
    batches[1]["valid"] = torch.arange(15) != 4  # what could not be read has no vote
    task.fit(batches, seed=0, samples=40)
    pixels = (image.float() - 0.4 * 255).flatten(1) / (0.2 * 255)
    kept = torch.arange(40) != 29
    expected = torch.tensor(slow_shares(pixels[40:], pixels[:40][kept], label[:40][kept], task.spec, 7))
    shares = task(image[40:]).exp().double()
    tolerance = 1e-4 if task.spec.weighting == "exponential" else 1 / (4 * 12)  # nearness decides between equal votes
    assert shares == pytest.approx(expected.clamp(min=SMALLEST_SHARE), abs=tolerance)
    losses = task.losses_of(task(image[40:]), label[40:])
    assert torch.allclose(losses.exp().reciprocal(), shares.float().gather(1, label[40:, None])[:, 0])


def test_an_image_has_no_vote_about_itself(tmp_path: Path) -> None:
    recipe = recipe_of("data: digits\nmodel: linear\ntask: {name: knn, neighbours: 1}\n", tmp_path)
    fields = {"image": FieldSpec((1, 1, 2), "uint8"), "label": FieldSpec((), "int64")}
    task: Any = build_task(recipe, DataSpec(fields, ("a", "b"), {"train": 3}, mean=(0.0,), std=(1.0,)))
    image = torch.tensor([[1, 200], [20, 200], [200, 1]], dtype=torch.uint8).reshape(3, 1, 1, 2)
    batch = {"image": image, "label": torch.tensor([0, 1, 1]), "index": torch.tensor([4, 7, 9])}
    task.fit([{**batch, "valid": torch.ones(3, dtype=torch.bool)}], seed=0, samples=3)
    assert task(image).argmax(1).tolist() == [0, 1, 1]
    assert task.scores_of(batch).argmax(1).tolist() == [1, 0, 1]
    of_val = {**batch, "index": torch.tensor([9, 4, 7])}  # numbers of another split, other images
    assert task.scores_of(of_val).argmax(1).tolist() == [0, 1, 1]


def test_it_is_fitted_once_and_evaluated_again_from_its_checkpoint(root: Path, tmp_path: Path) -> None:
    recipe = recipe_of(f"{PIXELS}task: {{name: knn, neighbours: 5}}\n", tmp_path)
    outcome, report, notices = probe(Attempt(recipe, 0, root, tmp_path / "trial"))
    assert (report.step, report.progress, outcome.step) == (1, 1.0, 1)
    assert {"val/loss", "val/top1", "val/top5", "fit/loss", "fit/top1", "fit/top5"} < set(report.metrics)
    assert 0.85 < report.metrics["val/top1"] < 1
    assert 0.85 < report.metrics["fit/top1"] < 1, "no image is its own neighbour"
    (saved,) = [notice for notice in notices if isinstance(notice, Saved)]
    with open_evaluator(Attempt(recipe, 0, root), World()) as evaluator:
        measured = evaluator.evaluate(evaluator.load_weights(saved.path).weights, "val")
    assert measured.metrics["val/top1"] == report.metrics["val/top1"]
    assert measured.predictions is not None
    assert (measured.predictions.top[:, 0] == measured.predictions.labels).mean() == pytest.approx(
        report.metrics["val/top1"]
    )


def test_two_ranks_measure_what_one_does(root: Path, tmp_path: Path) -> None:
    recipe = recipe_of(f"{DATA}{VIT}task: knn\n", tmp_path)
    one, single, _ = probe(Attempt(recipe, 3, root, tmp_path / "one"))
    two, double, _ = probe(Attempt(recipe, 3, root, tmp_path / "two"), ranks=2)
    assert two.weights == one.weights
    assert comparable(double.metrics) == pytest.approx(comparable(single.metrics))


def test_a_fit_that_was_left_begins_anew_and_one_that_ended_measures_again(root: Path, tmp_path: Path) -> None:
    recipe = recipe_of(f"{DATA}{VIT}task: knn\n", tmp_path)
    whole, expected, _ = probe(Attempt(recipe, 1, root, tmp_path / "whole"))
    with pytest.raises(Preempted):
        probe(Attempt(recipe, 1, root, tmp_path / "cut"), leave_at=3)
    again, report, _ = probe(Attempt(recipe, 1, root, tmp_path / "cut"))
    assert again.weights == whole.weights
    assert comparable(report.metrics) == comparable(expected.metrics)
    measured, the_same, notices = probe(Attempt(recipe, 1, root, tmp_path / "whole"), leave_at=0)  # nobody asks
    assert not any(isinstance(notice, Saved) for notice in notices)
    assert measured.weights == whole.weights
    assert comparable(the_same.metrics) == comparable(expected.metrics)
    assert probe(Attempt(recipe, 2, root))[0].weights != whole.weights, "the network is drawn by the seed"


def test_it_is_built_and_counted_without_memory(tmp_path: Path) -> None:
    recipe = recipe_of(f"{DATA}{VIT}task: knn\n", tmp_path)
    fields = {"image": FieldSpec((1, 8, 8), "uint8"), "label": FieldSpec((), "int64")}
    spec = DataSpec(fields, tuple("0123456789"), {"train": LIMIT}, mean=(0.3,), std=(0.3,))
    with torch.device("meta"):
        task = build_task(recipe, spec)
    assert isinstance(task, KnnProbe)
    assert task.features.shape == (LIMIT, 16)
    assert {tensor.device.type for tensor in task.state_dict().values()} == {"meta"}
    assert cost(recipe, spec).params == sum(parameter.numel() for parameter in task.model.parameters())
    assert not any(parameter.requires_grad for parameter in task.parameters())


ENCODER = f"""{DATA}model: {{name: mae, patch: 2, depth: 1, width: 16, heads: 2, mlp_ratio: 2, positions: sine,
  pooling: average, decoder_width: 8, decoder_depth: 1, decoder_heads: 2}}
task: {{name: mae}}
optimizer: {{name: adam, lr: 0.003}}
trainer: {{epochs: 2, validate_every: 2}}
sweep: {{seeds: 1}}
"""
CONTRAST = f"""{DATA}{VIT}task: {{name: knn, neighbours: 5}}
sweep: {{space: {{init.from: [scratch, encoder/best]}}, seeds: 2}}
report:
  contrasts:
    - {{metric: val/top1, of: {{init.from: encoder/best}}, against: {{init.from: scratch}}, expect: higher}}
"""


def test_it_probes_the_encoder_of_another_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EXPFLOW_CACHE", str(tmp_path / "cache"))
    for name, text in (("encoder", ENCODER), ("probed", CONTRAST)):
        (tmp_path / f"{name}.yaml").write_text(text)
        run_in_process(make_plan(tmp_path / f"{name}.yaml"))
    runs = tmp_path / "runs"
    trials = {(t.values["init.from"], t.seed): t for t in load_state(runs / "probed").plan_trials()}
    assert trials["encoder/best", 0].metrics["val/top1"] == trials["encoder/best", 1].metrics["val/top1"]
    assert trials["scratch", 0].metrics["val/loss"] != trials["scratch", 1].metrics["val/loss"]
    (pretrained,) = load_state(runs / "encoder").plan_trials()
    loaded = {}
    for name, trial in (("encoder", pretrained), ("probed", trials["encoder/best", 0])):
        finished = load_finished_trial(find_results(f"{name}/{trial.trial}", runs), trial)
        with finished.open_evaluator() as evaluator:
            loaded[name] = finished.load_weights(evaluator).weights
    shared = [name for name in loaded["probed"] if name.startswith("model.") and ".head" not in name]
    assert len(shared) > 10
    assert all(torch.equal(loaded["probed"][name], loaded["encoder"][name]) for name in shared)


def test_it_is_exported_for_batches_of_any_size(tmp_path: Path) -> None:
    recipe = recipe_of(f"{DATA}{VIT}task: {{name: knn, neighbours: 5}}\n", tmp_path)
    fields = {"image": FieldSpec((1, 8, 8), "uint8"), "label": FieldSpec((), "int64")}
    task: Any = build_task(recipe, DataSpec(fields, tuple("abc"), {"train": 9}, mean=(0.3,), std=(0.3,)))
    image = torch.randint(0, 256, (9, 1, 8, 8), generator=torch.Generator().manual_seed(2), dtype=torch.uint8)
    batch = {"image": image, "label": torch.arange(9) % 3, "index": torch.arange(9), "valid": torch.arange(9) >= 0}
    task.fit([batch], seed=0, samples=9)
    network = InferenceNetwork(task)
    exported = torch.export.export(network, (image[:4],), dynamic_shapes=({0: torch.export.Dim("b", min=1, max=99)},))
    assert torch.allclose(exported.module()(image[:7]), network(image[:7]))


@pytest.mark.parametrize(
    ("text", "key", "words"),
    [
        (f"{DATA}task: knn\n", "model", "the task knn needs it"),
        (f"{PIXELS}task: knn\noptimizer: sgd\n", "optimizer", "does not use this slot"),
        (f"{PIXELS}task: {{name: knn, neighbours: 206}}\n", "task.neighbours", "206 of 205 training images"),
        (f"{PIXELS}task: {{name: knn, weighting: exp}}\n", "task.weighting", "expected exponential or equal"),
        (f"{PIXELS}task: knn\ntrainer: {{fit_on: train+val}}\n", "trainer.fit_on", "keeps the features of train"),
        (f"{DATA}model: ddpm_unet\ntask: knn\n", "model", "the task knn needs one score for each class of an image"),
        (
            f"{PIXELS}task: knn\ninit: {{from: x/best, freeze: backbone, probe: true}}\n",
            "init.probe",
            "the kNN probe trains nothing",
        ),
        (
            f"{PIXELS}task: knn\ninit: {{from: x/best, freeze: backbone}}\n",
            "init.freeze",
            "the kNN probe trains nothing",
        ),
        (f"{PIXELS}task: knn\ninit: {{lr_scale: {{head: 2}}}}\n", "init.lr_scale", "the kNN probe trains nothing"),
        ("data: {name: digits, train: {flip: 0.5}}\nmodel: linear\ntask: knn\n", "data.train.flip", "fitted once"),
    ],
)
def test_misuse_is_refused_with_a_reason(text: str, key: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ExperimentInvalid) as raised:
        recipe_of(text, tmp_path)
    problems = [problem for problem in raised.value.problems if problem.key == key]
    assert any(words in problem.message for problem in problems), raised.value


def test_what_only_the_data_show_is_refused(tmp_path: Path) -> None:
    fields = {"image": FieldSpec((1, 8, 8), "uint8"), "label": FieldSpec((), "int64")}
    few = DataSpec(fields, tuple("ab"), {"train": 19}, mean=(0.3,), std=(0.3,))
    recipe = recipe_of("data: digits\nmodel: linear\ntask: knn\n", tmp_path)
    with pytest.raises(UserError, match="neighbours is 20, and there are 19 training images"):
        build_task(recipe, few)
    many = DataSpec(fields, tuple("ab"), {"train": 10**9}, mean=(0.3,), std=(0.3,))
    with pytest.raises(UserError, match="64 features of each of 1,000,000,000 training images do not fit into memory"):
        build_task(recipe, many)
