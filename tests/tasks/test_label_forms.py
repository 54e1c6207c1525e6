"""Multilabel, regression and multitask: what is measured, beside scikit-learn, and what counts for nothing."""

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score
from torch import nn
from torch.nn import functional

from expflow.architectures import build
from expflow.data.dataspec import VOID, DataSpec, FieldSpec
from expflow.errors import UserError
from expflow.registry import LOSSES, MODELS, TASKS, load_dotted
from expflow.tasks.multilabel import Multilabel
from expflow.tasks.multitask import Multitask
from expflow.tasks.multitask import build as build_multitask
from expflow.tasks.ranking_precision import average_precision
from expflow.tasks.regression import Regression

CLASSES = 5
DATA = DataSpec(
    {
        "image": FieldSpec((1, 4, 4), "uint8"),
        "label": FieldSpec((), "int64"),
        "labels": FieldSpec((CLASSES,), "uint8", kind="labels"),
        "target": FieldSpec((2,), "float32", kind="numbers"),
    },
    tuple("abcde"),
)


def batch_of(count, seed=0, valid=None):
    generator = torch.Generator().manual_seed(seed)
    return {
        "image": torch.randint(0, 256, (count, 1, 4, 4), generator=generator, dtype=torch.uint8),
        "label": torch.randint(0, CLASSES, (count,), generator=generator),
        "labels": torch.tensor([0, 1, VOID], dtype=torch.uint8)[
            torch.randint(0, 3, (count, CLASSES), generator=generator)
        ],
        "target": torch.randn(count, 2, generator=generator),
        "valid": torch.ones(count, dtype=torch.bool) if valid is None else torch.tensor(valid),
    }


def loss(name):
    spec = LOSSES.spec(name)(name=name)
    return load_dotted(spec.build)(spec, DATA)


def network(outputs):
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, outputs))


@pytest.mark.parametrize("ties", [False, True])
def test_average_precision_is_that_of_scikit_learn(ties):
    generator = np.random.default_rng(0)
    scores = generator.normal(size=(200, 6))
    if ties:
        scores = scores.round()
    labels = generator.integers(0, 2, (200, 6))
    labels[:, 4] = 0
    labels[:150, 5] = VOID
    ours = average_precision(torch.tensor(scores), torch.tensor(labels)).numpy()
    for column in range(4):
        expected = average_precision_score(labels[:, column], scores[:, column])
        assert ours[column] == pytest.approx(expected, abs=1e-12)
    assert np.isnan(ours[4]), "no sample is of it"
    assert ours[5] == pytest.approx(average_precision_score(labels[150:, 5], scores[150:, 5]), abs=1e-12)


def test_multilabel_measures_over_all_samples_and_what_is_not_known_has_no_part():
    task = Multilabel(DATA, network(CLASSES), loss("bce"), lambda params: None, lambda *args: None).eval()
    batches = [batch_of(30), batch_of(8, 1, [True] * 5 + [False] * 3)]
    with torch.no_grad():
        for batch in batches:
            task.validation_step(batch, 0)
        scores = torch.cat([task(batch["image"])[batch["valid"]] for batch in batches])
    labels = torch.cat([batch["labels"][batch["valid"]] for batch in batches])
    ours = average_precision(*task._validated.gathered()).numpy()
    for column in range(CLASSES):
        known = labels[:, column] != VOID
        expected = average_precision_score(labels[known, column], scores[known, column])
        assert ours[column] == pytest.approx(expected, abs=1e-9)
    values = functional.binary_cross_entropy_with_logits(scores, labels.clamp(max=1).float(), reduction="none")
    expected_loss = values.masked_fill(labels == VOID, 0).sum(1).mean()
    assert task.measured(task._epoch_means.total())["loss"].item() == pytest.approx(expected_loss.item(), rel=1e-5)
    scores = torch.zeros(1, CLASSES, requires_grad=True)
    unknown = torch.full((1, CLASSES), VOID, dtype=torch.uint8)
    lone = Multilabel(DATA, nn.Identity(), loss("bce"), lambda params: None, lambda *args: None)
    lone.forward = lambda image: scores
    lone.training_loss({"image": None, "labels": unknown, "valid": torch.ones(1, dtype=torch.bool)})[0].backward()
    assert not scores.grad.any()


@pytest.mark.parametrize("name", ["squared", "l1", "smooth_l1"])
def test_regression_measures_errors_over_valid_samples(name):
    task = Regression(DATA, network(2), loss(name), lambda params: None, lambda *args: None).eval()
    batches = [batch_of(7), batch_of(4, 1, [True, False, True, True])]
    with torch.no_grad():
        for batch in batches:
            task.validation_step(batch, 0)
        given = torch.cat([task(batch["image"])[batch["valid"]] for batch in batches])
    errors = given - torch.cat([batch["target"][batch["valid"]] for batch in batches])
    measured = {metric: value.item() for metric, value in task.measured(task._epoch_means.total()).items()}
    assert measured["rmse"] == pytest.approx(errors.square().mean().sqrt().item(), rel=1e-5)
    assert measured["mae"] == pytest.approx(errors.abs().mean().item(), rel=1e-5)
    sums = {
        "squared": errors.square(),
        "l1": errors.abs(),
        "smooth_l1": functional.huber_loss(errors, 0 * errors, "none"),
    }
    assert measured["loss"] == pytest.approx(sums[name].sum(1).mean().item(), rel=1e-5)


def multitask(**weights):
    spec = TASKS.spec("multitask")(name="multitask", weights=weights)
    model_spec = MODELS.spec("multi_head")(name="multi_head", backbone="linear")
    torch.manual_seed(0)
    made = build_multitask(
        spec,
        DATA,
        model=build(model_spec, DATA),
        optimizer=lambda params: None,
        schedule=lambda *args: None,
    )
    assert isinstance(made, Multitask)
    return made


def test_multitask_minimises_the_sum_of_the_losses_by_weight():
    batch = batch_of(6)
    single = {
        field: multitask(**{other: float(other == field) for other in ("label", "labels", "target")})
        for field in ("label", "labels", "target")
    }
    losses = {field: task.training_loss(batch)[0].item() for field, task in single.items()}
    both = multitask(label=2.0, target=0.5, labels=0.0)
    assert both.training_loss(batch)[0].item() == pytest.approx(2 * losses["label"] + 0.5 * losses["target"], rel=1e-5)
    metrics = both.measured(both._epoch_means.total())
    assert metrics.keys() == {"loss", "top1", "rmse", "mae"}
    every = multitask()
    assert every.training_loss(batch)[0].item() == pytest.approx(sum(losses.values()), rel=1e-5)


def test_a_network_that_gives_something_else_is_refused_by_what_it_gives():
    task = Multitask(DATA, network(2), lambda params: None, lambda *args: None, {"target": 1.0})
    with pytest.raises(UserError, match="needs a network that gives a mapping with target; it gives a Tensor"):
        task.training_loss(batch_of(2))
    task = Regression(DATA, network(3), loss("l1"), lambda params: None, lambda *args: None)
    with pytest.raises(UserError, match=r"expected a tensor of shape \(2, 2\), the numbers that it predicts"):
        task.training_loss(batch_of(2))


def test_a_weight_of_a_field_that_the_data_lack_is_refused():
    data = DataSpec({"image": DATA.fields["image"], "label": DATA.fields["label"]}, DATA.classes)
    spec = TASKS.spec("multitask")(name="multitask", weights={"target": 1.0})
    with pytest.raises(UserError, match=r"task\.weights names target, which these data do not have"):
        build_multitask(spec, data, model=nn.Identity(), optimizer=None, schedule=None)
