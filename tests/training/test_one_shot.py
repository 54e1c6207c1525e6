"""One-shot search in trials: two ranks give what one gives, a cut search goes on bit for bit, and a child comes out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from expflow.architectures import build
from expflow.architectures.specs.child import ChildSpec
from expflow.architectures.specs.supernet import SupernetSpec
from expflow.architectures.supernet import Supernet
from expflow.architectures.supernet_children import child_texts, chosen_edges, discrete_mixing
from expflow.config import load
from expflow.config.schema import Recipe
from expflow.data.dataspec import DataSpec, FieldSpec
from expflow.data.prepare.build import prepare
from expflow.errors import ExperimentInvalid, Preempted, TrialError, UserError
from expflow.events import Report
from expflow.tasks.one_shot import architecture_side, unrolled_gradient
from expflow.training import Attempt
from expflow.training.checkpoints import list_checkpoints
from tests.training.attempts import train_attempt
from tests.training.comparing import comparable

pytestmark = [pytest.mark.timeout(180), pytest.mark.usefixtures("rank_forks")]

RECIPE = """
data: {name: digits, batch_size: 40, limit: 180}
model:
  {name: supernet, nodes: 2, operations: [skip_connect, max_pool_3x3, conv_3x3], cells: 3, width: 4, partial: PARTIAL}
task: {name: one_shot, architecture_lr: 0.1}
optimizer: {name: sgd, lr: 0.05, momentum: 0.9}
schedule: constant
trainer: {epochs: 2, sync_batchnorm: true}
"""
IMAGES = DataSpec(
    {"image": FieldSpec((1, 6, 6), "uint8"), "label": FieldSpec((), "int64")}, tuple("abc"), mean=(0.5,), std=(0.25,)
)


def recipe_of(folder: Path, partial: int = 1, **changes: str) -> Recipe:
    text = RECIPE.replace("PARTIAL", str(partial))
    for key, value in changes.items():
        text = text.replace(key, value)
    (folder / "one_shot.yaml").write_text(text)
    return load(folder / "one_shot.yaml").experiment.recipe


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("one_shot")
    return prepare(recipe_of(folder).data, cache=folder / "cache").root  # type: ignore[arg-type]


def train(attempt: Attempt, ranks: int = 1, leave_at: int | None = None) -> tuple[Any, list[Report]]:
    outcome, reports, _ = train_attempt(attempt, ranks, leave_at)
    return outcome, reports


def architecture_of(folder: Path) -> dict[str, torch.Tensor]:
    checkpoint = max(list_checkpoints(folder / "checkpoints"), key=lambda path: path.name)
    state = torch.load(checkpoint / "weights.pt", weights_only=True)
    return {name: value for name, value in state.items() if "operations_" in name or "edges_" in name}


@pytest.mark.parametrize("partial", [1, 2])
def test_two_ranks_learn_the_architecture_that_one_does(root: Path, tmp_path: Path, partial: int) -> None:
    recipe = recipe_of(tmp_path, partial)
    _, one = train(Attempt(recipe, 0, root, tmp_path / "one"))
    _, two = train(Attempt(recipe, 0, root, tmp_path / "two"), ranks=2)
    first, second = architecture_of(tmp_path / "one"), architecture_of(tmp_path / "two")
    assert len(first) == (2 if partial == 1 else 4)
    for name, weights in first.items():
        assert weights.abs().max() > 0.1, "it has learned"
        assert torch.allclose(weights, second[name], atol=1e-5, rtol=0), name
    assert all(reports[-1].metrics["train/eigenvalue"] > 0 for reports in (one, two))
    assert one[-1].metrics["val/discrete_top1"] == pytest.approx(two[-1].metrics["val/discrete_top1"], abs=0.01)


@pytest.mark.parametrize("question", [1, 3, 5, 6, 8])
def test_a_search_that_was_cut_is_the_search_that_was_not(root: Path, tmp_path: Path, question: int) -> None:
    recipe = recipe_of(tmp_path)
    whole, expected = train(Attempt(recipe, 0, root))
    with pytest.raises(Preempted):
        train(Attempt(recipe, 0, root, tmp_path), leave_at=question)
    again, reports = train(Attempt(recipe, 0, root, tmp_path))
    assert again.weights == whole.weights
    assert comparable(reports[-1].metrics) == comparable(expected[-1].metrics)


def test_what_comes_out_is_a_child_and_signs_of_collapse(root: Path, tmp_path: Path) -> None:
    _, reports = train(Attempt(recipe_of(tmp_path), 0, root, tmp_path))
    metrics = reports[-1].metrics
    assert {"train/skips", "train/entropy", "train/eigenvalue", "val/gap"} <= metrics.keys()
    assert 0 <= metrics["val/discrete_top1"] <= 1
    assert metrics["val/gap"] == pytest.approx(metrics["val/top1"] - metrics["val/discrete_top1"], abs=1e-6)
    texts = sorted((tmp_path / "artifacts" / "child").iterdir())
    assert len(texts) == 2
    child = json.loads(texts[-1].read_text())
    spec = ChildSpec(name="child", normal=child["model.normal"], reduction=child["model.reduction"], cells=3, width=4)
    assert build(spec, IMAGES)(torch.zeros(2, 1, 6, 6)).shape == (2, 3)


def test_the_weights_never_see_the_architectures_samples() -> None:
    numbers = torch.arange(20_000)
    side = architecture_side(numbers, 0.3)
    assert side.double().mean() == pytest.approx(0.3, abs=0.01)
    order = torch.randperm(len(numbers))
    assert torch.equal(architecture_side(numbers[order], 0.3), side[order])


def test_without_warmup_over_the_architecture_stays_as_it_was(root: Path, tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, **{"architecture_lr: 0.1": "architecture_lr: 0.1, warmup: 2"})
    train(Attempt(recipe, 0, root, tmp_path))
    assert all(weights.abs().max() < 0.01 for weights in architecture_of(tmp_path).values())


def small(partial: int = 1) -> Supernet:
    torch.manual_seed(3)
    spec = SupernetSpec(
        name="supernet",
        nodes=2,
        operations=("skip_connect", "avg_pool_3x3", "conv_3x3"),
        cells=3,
        width=4,
        partial=partial,
        activation="tanh",
    )
    network = build(spec, IMAGES).double()
    assert isinstance(network, Supernet)
    return network.train()


def test_the_second_order_gradient_is_that_of_finite_differences() -> None:
    network, rate = small(), 0.3
    generator = torch.Generator().manual_seed(5)
    images = [torch.randn(8, 1, 6, 6, generator=generator, dtype=torch.float64) for _ in range(2)]
    labels = [torch.randint(0, 3, (8,), generator=generator) for _ in range(2)]
    weights = dict(network.named_parameters())

    def loss_on(place: int) -> Any:
        def loss_of(architecture: Any, weights: Any) -> torch.Tensor:
            scores = torch.func.functional_call(network, dict(weights), (images[place], network.mixing(architecture)))
            return torch.nn.functional.cross_entropy(scores, labels[place])

        return loss_of

    architecture = [value.clone() for value in network.architecture]
    exact = unrolled_gradient(loss_on(0), loss_on(1), architecture, weights, rate)

    def after_a_step(values: list[torch.Tensor]) -> float:
        slopes = torch.autograd.grad(loss_on(0)(values, weights), list(weights.values()))
        stepped = {name: value - rate * slope for (name, value), slope in zip(weights.items(), slopes, strict=True)}
        return float(loss_on(1)(values, stepped).detach())

    first_order = torch.autograd.grad(
        loss_on(1)([value.requires_grad_() for value in architecture], weights), architecture
    )
    architecture = [value.detach() for value in architecture]
    for kind in (0, 1):
        for place in ((0, 0), (2, 1), (4, 3)):
            ends = []
            for sign in (1, -1):
                moved = [value.clone() for value in architecture]
                moved[kind][place] += sign * 1e-5
                ends.append(after_a_step(moved))
            assert float(exact[kind][place]) == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-4, abs=1e-8)
    assert not torch.allclose(exact[0], first_order[0], rtol=1e-2), "the step matters"


def test_second_order_trains_on_one_rank_and_is_refused_on_two(root: Path, tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, **{"architecture_lr: 0.1": "architecture_lr: 0.1, order: 2", "epochs: 2": "epochs: 1"})
    _, reports = train(Attempt(recipe, 0, root))
    assert reports[-1].metrics["val/top1"] > 0
    with pytest.raises((UserError, TrialError), match="order: 2 goes through a step of this rank alone"):
        train(Attempt(recipe, 0, root, tmp_path / "two"), ranks=2)


def test_a_child_keeps_the_two_strongest_edges_of_each_node() -> None:
    network = small()
    normal = torch.zeros(5, 4)
    normal[0, 1], normal[1, 2], normal[2, 0], normal[3, 2], normal[4, 1] = 3.0, 2.0, 1.0, 2.0, 3.0
    normal[2, 3] = 9.0  # none, which counts for nothing and takes its share
    network.operations_normal.copy_(normal)
    assert child_texts(network)["model.normal"] == "avg_pool_3x3(0) + conv_3x3(1), conv_3x3(1) + avg_pool_3x3(2) > 2 3"
    mixing = network.mixing(network.architecture)
    assert chosen_edges(network, mixing[0]) == [(0, 1), (1, 2), (3, 2), (4, 1)]
    assert discrete_mixing(network)[0].sum() == 4


def test_a_discrete_mixing_computes_what_only_its_edges_do() -> None:
    network = small(partial=1)
    image = torch.randn(4, 1, 6, 6, dtype=torch.float64)
    before = network(image, discrete_mixing(network))
    kept = chosen_edges(network, network.mixing(network.architecture)[0])
    with torch.no_grad():
        for cell in network.cells:
            for place, edge in enumerate(cell.edges):
                if cell.kind == "normal" and place not in {chosen for chosen, _ in kept}:
                    for parameter in edge.parameters():
                        parameter.add_(1.0)
    assert torch.allclose(network(image, discrete_mixing(network)), before)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("partial: 1", "partial: 3", "an even number has to be one in 3"),
        ("[skip_connect, max_pool_3x3, conv_3x3]", "[skip_connect, conv_9x9]", "there is no operation 'conv_9x9'"),
        ("[skip_connect, max_pool_3x3, conv_3x3]", "[skip_connect]", "at least two operations"),
        ("architecture_lr: 0.1", "share: 1", "task.share"),
        ("architecture_lr: 0.1", "betas: [0.5, 1.0]", "expected two numbers from 0 to below 1"),
        ("limit: 180", "train: {mixup: 0.2}", "mixes samples of the weights with those of the architecture"),
    ],
)
def test_what_cannot_be_searched_is_refused_in_the_file(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(ExperimentInvalid, match=message):
        recipe_of(tmp_path, **{old: new})


def test_another_network_is_refused_in_the_file(tmp_path: Path) -> None:
    (tmp_path / "e.yaml").write_text("data: digits\nmodel: mlp\ntask: one_shot\noptimizer: {name: sgd, lr: 0.1}\n")
    with pytest.raises(ExperimentInvalid, match="needs the network of all children"):
        load(tmp_path / "e.yaml")
