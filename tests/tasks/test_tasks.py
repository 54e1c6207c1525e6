"""Tasks: what they are handed, what they measure, and what they refuse."""

import math

import pytest
import torch
from torch import nn

from expflow.architectures import NetworkCost
from expflow.architectures.specs.linear import LinearSpec
from expflow.architectures.specs.mlp import MLPSpec
from expflow.config.schema import Recipe
from expflow.config.spec import UserComponent
from expflow.data.dataspec import DataSpec, FieldSpec
from expflow.errors import UserError
from expflow.losses.specs import CrossEntropySpec
from expflow.optim.specs import AdamSpec, ConstantSpec, SGDSpec
from expflow.tasks import build_task, cost
from expflow.tasks.classification import Classification
from expflow.tasks.specs import Action, ClassificationSpec, ScriptedSpec
from tests.training import user_code

USER = user_code.__name__
CLASSES = 6
DATA = DataSpec({"image": FieldSpec((1, 2, 2), "uint8")}, tuple("abcdef"), mean=(0.5,), std=(0.25,))


def recipe(**changes):
    usual = {
        "model": LinearSpec(name="linear"),
        "task": ClassificationSpec(name="classification"),
        "loss": CrossEntropySpec(name="cross_entropy"),
        "optimizer": SGDSpec(name="sgd"),
        "schedule": ConstantSpec(name="constant"),
    }
    return Recipe(**{key: value for key, value in (usual | changes).items() if value is not None})


class Strategy:
    def reduce(self, tensor, reduce_op):
        return tensor


class Measured:
    """Stands where the trainer would: nothing is reduced, and what is logged is kept."""

    strategy = Strategy()


def measured(task):
    """A task with a trainer's stand-in, and the dict of what it logs."""
    logged = {}
    object.__setattr__(task, "_trainer", Measured())
    object.__setattr__(task, "log_dict", lambda metrics: logged.update({k: v.item() for k, v in metrics.items()}))
    return task, logged


class Fixed(nn.Module):
    """Scores that were decided beforehand, in the order in which they are asked for."""

    def __init__(self, *scores):
        super().__init__()
        self.scores = list(scores)

    def forward(self, x):
        return self.scores.pop(0)


def batch(labels, valid=None):
    n = len(labels)
    image = torch.zeros(n, 1, 2, 2, dtype=torch.uint8)
    mask = torch.ones(n, dtype=torch.bool) if valid is None else torch.tensor(valid)
    return {"image": image, "label": torch.tensor(labels), "valid": mask}


def classification(model, loss=None, data=DATA):
    loss = loss or nn.CrossEntropyLoss(reduction="none")
    return Classification(data, model, loss, lambda params: None, lambda *args: None)


def test_images_are_scaled_to_zero_one_and_normalised_with_the_datas_mean_and_std():
    task = classification(nn.Identity())
    image = torch.tensor([0, 51, 255], dtype=torch.uint8).view(3, 1, 1, 1)
    assert task(image).flatten().tolist() == pytest.approx([-2, (0.2 - 0.5) / 0.25, 2])


def test_means_are_over_samples_not_over_batches():
    rank_of_label = [0, 1, 4, 5]  # position of the label among the sorted scores
    scores = torch.zeros(4, CLASSES)
    for row, rank in enumerate(rank_of_label):
        scores[row] = torch.tensor([6.0, 5, 4, 3, 2, 1]).roll(-rank)
    task, logged = measured(classification(Fixed(scores[:3], scores[3:])))
    task.on_validation_start()
    task.validation_step(batch([0, 0, 0]), 0)
    task.validation_step(batch([0]), 1)
    task.on_validation_epoch_end()
    exact = nn.functional.cross_entropy(scores, torch.zeros(4, dtype=torch.long)).item()
    assert logged == {"val/loss": pytest.approx(exact), "val/top1": 0.25, "val/top5": 0.75}


def test_padding_counts_in_no_loss_and_no_metric():
    scores = torch.randn(4, CLASSES)
    task, logged = measured(classification(Fixed(scores)))
    loss = task.training_step(batch([1, 2, 3, 3], [True, True, False, False]), 0)
    exact = nn.functional.cross_entropy(scores[:2], torch.tensor([1, 2]))
    assert loss.item() == pytest.approx(exact.item())
    task.on_train_epoch_end()
    assert logged["train/loss"] == pytest.approx(exact.item())


def test_a_loss_that_averages_by_itself_never_sees_padding():
    scores = torch.randn(3, CLASSES)
    task, _ = measured(classification(Fixed(scores), user_code.averaged))
    loss = task.training_step(batch([1, 2, 3], [True, True, False]), 0)
    assert loss.item() == pytest.approx(nn.functional.cross_entropy(scores[:2], torch.tensor([1, 2])).item())


def test_validation_inside_of_an_epoch_does_not_disturb_the_training_means():
    right, wrong = torch.eye(CLASSES)[:1] * 9, torch.eye(CLASSES)[1:2] * 9
    task, logged = measured(classification(Fixed(right, wrong, wrong)))
    task.training_step(batch([0]), 0)
    task.on_validation_start()
    task.validation_step(batch([0]), 0)
    task.on_validation_epoch_end()
    task.training_step(batch([0]), 1)
    task.on_train_epoch_end()
    assert logged["val/top1"] == 0
    assert logged["train/top1"] == 0.5


def test_top_five_needs_more_than_five_classes():
    few = DataSpec(DATA.fields, tuple("abcde"))
    task, logged = measured(classification(Fixed(torch.zeros(1, 5)), data=few))
    task.on_validation_start()
    task.validation_step(batch([0]), 0)
    task.on_validation_epoch_end()
    assert logged == {"val/loss": pytest.approx(math.log(5)), "val/top1": 1.0}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer": None}, "classification needs optimizer"),
        ({"model": {"a": MLPSpec(name="mlp"), "b": MLPSpec(name="mlp")}}, "takes one model; the recipe names 2: a, b"),
        ({"optimizer": {"a": SGDSpec(name="sgd"), "b": SGDSpec(name="sgd")}}, "takes one optimizer"),
        ({"task": {"a": ClassificationSpec(name="classification")}}, "one task"),
        ({"task": UserComponent(name=f"{USER}:Plain")}, "Plain has no parameter 'model'; it takes no slots"),
        ({"task": UserComponent(name="torch.nn:Identity"), **dict.fromkeys(("model", "loss", "optimizer", "schedule"))},
         "LightningModule is needed"),
    ],
)  # fmt: skip
def test_a_recipe_that_does_not_fit_its_task_is_refused(changes, message):
    with pytest.raises(UserError, match=message):
        build_task(recipe(**changes), DATA)


def test_classification_needs_classes():
    with pytest.raises(UserError, match="classes"):
        build_task(recipe(), DataSpec(DATA.fields))


def test_the_users_task_is_handed_its_slots_under_the_users_names():
    task = build_task(two_players(), DATA)
    assert isinstance(task.model, nn.ModuleDict)
    assert list(task.model) == ["coder", "judge"]
    assert isinstance(task.loss["judge"], nn.BCEWithLogitsLoss)
    assert isinstance(task.optimizer["coder"](task.model["coder"].parameters()), torch.optim.Adam)
    assert task.weight == 2.0


def two_players():
    return recipe(
        task=UserComponent(name=f"{USER}:TwoPlayers", weight=2.0),
        model={"coder": UserComponent(name=f"{USER}:Coder"), "judge": UserComponent(name=f"{USER}:Judge")},
        loss={
            "coder": UserComponent(name="torch.nn:MSELoss"),
            "judge": UserComponent(name="torch.nn:BCEWithLogitsLoss"),
        },
        optimizer={"coder": AdamSpec(name="adam"), "judge": SGDSpec(name="sgd")},
        schedule=None,
    )


def test_the_cost_of_a_recipe():
    assert cost(recipe(), DATA) == NetworkCost(4 * 6 + 6, 4 * 6)
    parts = {"coder": 3 * 4 + 4 + 4 * 64 + 64, "judge": 67 * 4 + 4 + 4 + 1}
    assert cost(two_players(), DATA) == NetworkCost(sum(parts.values()), None, parts)
    alone = {"model": None, "loss": None, "optimizer": None, "schedule": None}
    assert (
        cost(recipe(task=UserComponent(name=f"{USER}:Plain", hidden=2), **alone), DATA).params == 64 * 2 + 2 + 2 * 3 + 3
    )
    takes_no_image = UserComponent(name=f"{USER}:Coder", width=1)
    of_its_task = recipe(
        task=UserComponent(name=f"{USER}:OneSlot"), model=takes_no_image, loss=None, optimizer=None, schedule=None
    )
    assert cost(of_its_task, DATA) == NetworkCost(3 + 1 + 64 + 64, None)


@pytest.mark.parametrize("action", [{}, {"sleep": 1, "nan": True}, {"report": {}, "raise": "x"}])
def test_an_action_does_one_thing(action):
    with pytest.raises(ValueError, match="one thing"):
        Action(**action)


def test_a_script_reads_back_what_it_dumps():
    spec = ScriptedSpec(name="scripted", script=[{"report": {"val/top1": "curve"}, "repeat": 2}, {"raise": "no"}])
    assert ScriptedSpec(**spec.model_dump()) == spec
    assert ScriptedSpec(**spec.model_dump(by_alias=True)) == spec


def test_mixed_images_are_learned_with_their_shares_and_count_by_the_larger():
    scores = torch.randn(2, CLASSES)
    task, logged = measured(classification(Fixed(scores)))
    shares = torch.tensor([[0.7, 0.3, 0, 0, 0, 0], [0.2, 0.8, 0, 0, 0, 0]])
    value = task.training_step({**batch([0, 1]), "label": shares}, 0)
    task.on_train_epoch_end()
    assert value.item() == pytest.approx(-(scores.log_softmax(1) * shares).sum(1).mean().item())
    assert logged["train/top1"] == (scores.argmax(1) == torch.tensor([0, 1])).double().mean().item()


def test_losses_of_half_precision_scores_are_summed_in_single():
    scores = torch.randn(3, CLASSES).bfloat16()
    task, _ = measured(classification(Fixed(scores)))
    value = task.training_step(batch([1, 2, 3]), 0)
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(nn.functional.cross_entropy(scores.float(), torch.tensor([1, 2, 3])).item())


def test_a_loss_that_learns_is_trained_with_the_network():
    class Stepping(Measured):
        estimated_stepping_batches, num_training_batches, accumulate_grad_batches = 10, 5, 1

    class Learns(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

    def sgd(network):
        return torch.optim.SGD(network.parameters(), lr=0.1)

    task = Classification(DATA, nn.Linear(4, CLASSES), Learns(), sgd, lambda *args: None)
    object.__setattr__(task, "_trainer", Stepping())
    groups = task.configure_optimizers()["optimizer"].param_groups
    assert [len(group["params"]) for group in groups] == [2, 1]


def test_a_count_is_made_once_for_all_rates():
    first = cost(recipe(), DATA)
    assert cost(recipe(optimizer=AdamSpec(name="adam", lr=0.5)), DATA) is first
    assert cost(recipe(model=MLPSpec(name="mlp", hidden=3)), DATA) != first
    assert cost(recipe(), DataSpec(DATA.fields, tuple("abc"), mean=(0.5,), std=(0.25,))) != first
    own = recipe(model=UserComponent(name=f"{USER}:Looks"))
    wide = DataSpec({"image": FieldSpec((1, 8, 8), "uint8")}, tuple("abcdef"))
    assert cost(own, wide) is not cost(own, wide)  # its name may stand for other code later
