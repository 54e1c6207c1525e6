"""One-shot search by drawn paths: what a path computes, how the policy learns, ranks, and a search that was cut."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from expflow.architectures.supernet_children import (
    chosen_edges,
    discrete_mixing,
    log_probability,
    sampled_path,
    strongest_path,
)
from expflow.config.schema import Recipe
from expflow.errors import ExperimentInvalid, Preempted
from expflow.training import Attempt
from tests.training.comparing import comparable
from tests.training.test_one_shot import architecture_of, recipe_of, root, small, train

__all__ = ["root"]
pytestmark = [pytest.mark.timeout(180), pytest.mark.usefixtures("rank_forks")]


def paths_recipe(folder: Path, paths: int = 3, **changes: str) -> Recipe:
    return recipe_of(folder, **{"architecture_lr: 0.1": f"architecture_lr: 0.1, paths: {paths}", **changes})


def test_the_strongest_path_computes_what_the_discrete_mixing_does() -> None:
    network = small().eval()
    image = torch.randn(4, 1, 6, 6, dtype=torch.float64)
    with network.following(strongest_path(network)):
        followed = network(image)
    assert torch.allclose(followed, network(image, discrete_mixing(network)))
    kept = dict(chosen_edges(network, network.mixing(network.architecture)[0]))
    assert [place for place, operation in enumerate(strongest_path(network)[0]) if operation < 3] == sorted(kept)


def test_paths_are_drawn_with_the_probability_that_is_said() -> None:
    network, generator = small(), torch.Generator().manual_seed(7)
    network.operations_normal.copy_(torch.randn(5, 4, generator=generator))
    weights = network.operations_normal.double().softmax(1)
    drawn = torch.tensor([list(sampled_path(network, generator)[0]) for _ in range(4000)])
    shares = torch.stack([(drawn == place).double().mean(0) for place in range(4)], 1)
    assert torch.allclose(shares, weights, atol=0.03)
    path = sampled_path(network, generator)
    by_hand = sum(
        float(getattr(network, f"operations_{kind}").double().softmax(1)[edge, operation].log())
        for kind, chosen in zip(("normal", "reduction"), path, strict=True)
        for edge, operation in enumerate(chosen)
    )
    assert float(log_probability(network.architecture, path)) == pytest.approx(by_hand, rel=1e-5)


def test_two_ranks_learn_what_one_does_and_weights_are_shared(root: Path, tmp_path: Path) -> None:
    recipe = paths_recipe(tmp_path)
    _, one = train(Attempt(recipe, 0, root, tmp_path / "one"))
    train(Attempt(recipe, 0, root, tmp_path / "two"), ranks=2)
    for name, weights in architecture_of(tmp_path / "one").items():
        assert weights.abs().max() > 0.1, "it has learned"
        assert torch.allclose(weights, architecture_of(tmp_path / "two")[name], atol=1e-5, rtol=0), name
    metrics = one[-1].metrics
    assert metrics["val/gap"] == 0
    assert metrics["val/top1"] == metrics["val/discrete_top1"]
    assert "train/eigenvalue" not in metrics
    assert len(list((tmp_path / "one" / "artifacts" / "child").iterdir())) == 2


@pytest.mark.parametrize("question", [2, 5])
def test_a_search_that_was_cut_is_the_search_that_was_not(root: Path, tmp_path: Path, question: int) -> None:
    recipe = paths_recipe(tmp_path)
    whole, expected = train(Attempt(recipe, 0, root))
    with pytest.raises(Preempted):
        train(Attempt(recipe, 0, root, tmp_path), leave_at=question)
    again, reports = train(Attempt(recipe, 0, root, tmp_path))
    assert again.weights == whole.weights
    assert comparable(reports[-1].metrics) == comparable(expected[-1].metrics)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture_lr: 0.1": "order: 2, paths: 2"}, "drawn paths have no gradient through a step"),
        ({"partial: 1": "partial: 2", "architecture_lr: 0.1": "paths: 2"}, "belongs to the mixture of all children"),
    ],
)
def test_what_paths_do_not_go_with_is_refused_in_the_file(
    tmp_path: Path, changes: dict[str, str], message: str
) -> None:
    with pytest.raises(ExperimentInvalid, match=message):
        recipe_of(tmp_path, **changes)
