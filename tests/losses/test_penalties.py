"""Penalties on weights: the two conventions of the square, and how they enter the task."""

import pytest
import torch
from torch import nn

from expflow.data.dataspec import DataSpec, FieldSpec
from expflow.losses.penalties import PENALTIES, penalised_weights, penalty
from expflow.tasks.classification import Classification
from expflow.tasks.specs import ClassificationSpec

WEIGHTS = torch.tensor([1.0, -2.0, 3.0])
DATA = DataSpec({"image": FieldSpec((1, 2, 2), "uint8")}, ("a", "b"))


def task(model, **arguments):
    loss = nn.CrossEntropyLoss(reduction="none")
    return Classification(DATA, model, loss, lambda params: None, lambda *args: None, **arguments)


def batch():
    image = torch.arange(12, dtype=torch.uint8).view(3, 1, 2, 2)
    return {"image": image, "label": torch.tensor([0, 1, 1]), "valid": torch.tensor([True, True, False])}


@pytest.mark.parametrize(("name", "worked"), [("l1", 0.6), ("l2", 1.4), ("half_l2", 0.7)])
def test_penalties_by_hand(name, worked):
    assert penalty(name, [WEIGHTS], 0.1).item() == pytest.approx(worked)
    assert penalty(name, WEIGHTS.split(1), 0.1).item() == pytest.approx(worked)


@pytest.mark.parametrize(
    ("name", "gradient"), [("l1", [0.1, -0.1, 0.1]), ("l2", [0.2, -0.4, 0.6]), ("half_l2", [0.1, -0.2, 0.3])]
)
def test_their_gradients_by_hand(name, gradient):
    weights = WEIGHTS.clone().requires_grad_()
    penalty(name, [weights], 0.1).backward()
    assert weights.grad.tolist() == pytest.approx(gradient)


def test_biases_and_scales_of_norms_are_left_alone():
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 2))
    assert [tuple(weight.shape) for weight in penalised_weights(network)] == [(2, 1, 3, 3), (2, 2)]
    network[0].requires_grad_(False)
    assert len(penalised_weights(network)) == 1


def test_a_network_without_weights_has_no_penalty():
    assert penalty("l2", [], 1.0).item() == 0


@pytest.mark.parametrize("name", PENALTIES)
def test_the_task_minimises_loss_plus_penalty_and_reports_the_loss_alone(name):
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    plain, added = task(model), task(model, penalty=name, penalty_strength=0.5)
    loss, both = (variant.training_step(batch(), 0) for variant in (plain, added))
    assert both.item() == pytest.approx(loss.item() + penalty(name, [model[1].weight], 0.5).item())
    assert torch.equal(added._epoch_means.total(), plain._epoch_means.total())


def test_half_l2_is_the_weight_decay_of_sgd():
    stepped = []
    for strength, decay in ((0.3, 0.0), (0.0, 0.3)):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2, bias=False))
        task(model, penalty="half_l2", penalty_strength=strength).training_step(batch(), 0).backward()
        torch.optim.SGD(model.parameters(), lr=0.1, weight_decay=decay).step()
        stepped.append(model[1].weight.detach())
    assert torch.allclose(*stepped)


def test_the_spec_names_the_penalties_there_are():
    names = set(ClassificationSpec.model_fields["penalty"].annotation.__args__)
    assert names == {"none", *PENALTIES}
