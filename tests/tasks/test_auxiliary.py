"""Auxiliary classifiers in the task: weighted into what is minimised, and in nothing that is measured."""

import pytest
import torch
from torch import nn

from expflow.architectures.outputs import WithAuxiliary
from expflow.config.schema import Recipe
from expflow.config.spec import UserComponent
from expflow.tasks import build_task
from expflow.tasks.specs import ClassificationSpec
from tests.tasks.test_tasks import DATA, measured, recipe


class Branching(nn.Module):
    """A network with two auxiliary classifiers, whose scores are parameters."""

    def __init__(self, num_classes):
        super().__init__()
        self.scores = nn.Parameter(torch.arange(3.0 * num_classes).reshape(3, num_classes).sin())

    def forward(self, x_bchw):
        main, *auxiliary = (row.expand(len(x_bchw), -1) for row in self.scores)
        return WithAuxiliary(main, tuple(auxiliary)) if self.training else main


BATCH = {
    "image": torch.zeros(3, 1, 2, 2, dtype=torch.uint8),
    "label": torch.tensor([0, 4, 2]),
    "valid": torch.tensor([True, True, False]),
}


def branching(**arguments) -> Recipe:
    model = UserComponent(name=f"{Branching.__module__}:Branching")
    return recipe(model=model, task=ClassificationSpec(name="classification", **arguments))


def by_hand(task):
    """Cross-entropy of the two valid samples for each of the three rows of scores."""
    logs = task.model.scores.log_softmax(1)
    return [-(row[0] + row[4]) / 2 for row in logs]


@pytest.mark.parametrize(
    ("arguments", "weight"), [({}, 0.3), ({"auxiliary_weight": 0}, 0), ({"auxiliary_weight": 1}, 1)]
)
def test_auxiliary_losses_count_with_their_weight(arguments, weight):
    task, logged = measured(build_task(branching(**arguments), DATA))
    task.train()
    loss = task.training_step(BATCH, 0)
    main, *auxiliary = by_hand(task)
    assert loss.item() == pytest.approx((main + weight * sum(auxiliary)).item(), abs=1e-6)
    loss.backward()
    assert (task.model.scores.grad[1:].abs().max() > 0) == (weight > 0)
    task.on_train_epoch_end()
    assert logged["train/loss"] == pytest.approx(main.item(), abs=1e-6)  # comparable with val/loss


def test_validation_sees_the_scores_alone():
    task, logged = measured(build_task(branching(), DATA))
    task.eval()
    task.validation_step(BATCH, 0)
    task._log_means("val")
    assert logged["val/loss"] == pytest.approx(by_hand(task)[0].item(), abs=1e-6)
