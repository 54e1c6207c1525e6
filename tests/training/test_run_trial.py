"""One trial through the public door: what it reports, how it stops, and that it can be repeated bit for bit."""

import math
import warnings

import pytest
import torch

from expflow.architectures.specs.linear import LinearSpec
from expflow.architectures.specs.mlp import MLPSpec
from expflow.config.schema import Recipe, Trainer
from expflow.config.spec import UserComponent
from expflow.data.prepare.build import prepare
from expflow.data.specs import DigitsSpec
from expflow.errors import Diverged, UserError
from expflow.losses.specs import CrossEntropySpec
from expflow.optim.specs import AdamSpec, OneCycleSpec, SGDSpec
from expflow.tasks.specs import ClassificationSpec
from expflow.training import Attempt, Outcome, World, run_trial
from tests.training import user_code
from tests.training.comparing import MEASURED, comparable

USER = user_code.__name__


def recipe(epochs=2, trainer=None, **changes):
    usual = {
        "data": UserComponent(name=f"{USER}:Blobs"),
        "model": MLPSpec(name="mlp", hidden=8),
        "task": ClassificationSpec(name="classification"),
        "loss": CrossEntropySpec(name="cross_entropy"),
        "optimizer": SGDSpec(name="sgd", lr=0.1, momentum=0.9),
        "schedule": OneCycleSpec(name="one_cycle"),
    }
    filled = {key: value for key, value in (usual | changes).items() if value is not None}
    return Recipe(**filled, trainer=Trainer(epochs=epochs, **(trainer or {})))


def plain(epochs=2, task="Plain", **arguments):
    none = {"model": None, "loss": None, "optimizer": None, "schedule": None}
    return recipe(epochs, task=UserComponent(name=f"{USER}:{task}", **arguments), **none)


def train(recipe, seed=0, answer=lambda report: True, world=None, **attempt):
    """The outcome and the reports."""
    reports = []
    outcome = run_trial(
        Attempt(recipe, seed, **attempt), world or World(), lambda report: reports.append(report) or answer(report)
    )
    return outcome, reports


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return prepare(DigitsSpec(name="digits"), cache=tmp_path_factory.mktemp("cache"))


def on_digits(epochs=3):
    return recipe(epochs, data=DigitsSpec(name="digits", batch_size=100), model=MLPSpec(name="mlp", hidden=64))


def test_a_trial_on_prepared_shards_learns_and_reports_each_epoch(digits):
    outcome, reports = train(on_digits(), data_root=digits.root)
    epoch = math.ceil(digits.spec.samples["train"] / 100)
    assert [report.step for report in reports] == [epoch, 2 * epoch, 3 * epoch]
    assert [report.metrics["progress/epoch"] for report in reports] == [1, 2, 3]
    assert [report.progress for report in reports] == [pytest.approx(1 / 3), pytest.approx(2 / 3), 1]
    each_epoch = {"train/loss", "train/top1", "val/loss", "val/top1", "val/top5", "progress/epoch"}
    assert [set(report.metrics) for report in reports[:2]] == [each_epoch, each_epoch]
    last = reports[-1].metrics
    assert set(last) - each_epoch == {"fit/loss", "fit/top1", "fit/top5", "cost/params", "cost/macs"} | MEASURED
    assert last["cost/params"] == 64 * 64 + 64 + 64 * 10 + 10
    assert last["cost/macs"] == 64 * 64 + 64 * 10
    assert last["val/top1"] > 0.85
    assert last["fit/top1"] > 0.9
    assert outcome.step == 3 * epoch
    assert not outcome.stopped
    assert len(outcome.weights) == 64


def test_metrics_are_exact_shares_of_the_split(digits):
    _, reports = train(on_digits(1), data_root=digits.root)
    for name, split in (("val/top1", "val"), ("fit/top1", "train"), ("train/top1", "train")):
        hits = reports[-1].metrics[name] * digits.spec.samples[split]
        assert hits == pytest.approx(round(hits), abs=1e-3)


def test_two_runs_of_one_trial_give_equal_weights_and_reports_and_another_seed_does_not(digits):
    def run(seed):
        outcome, reports = train(on_digits(1), seed, data_root=digits.root)
        return outcome.weights, [comparable(report.metrics) for report in reports]

    assert run(0) == run(0)
    assert run(0)[0] != run(1)[0]


def test_a_limit_is_what_is_trained_on(digits):
    data = DigitsSpec(name="digits", batch_size=50, limit=120)
    outcome, _ = train(recipe(1, data=data), data_root=digits.root)
    assert outcome.step == 3


def test_it_says_nothing_and_leaves_no_file(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        train(recipe())
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_it_stops_when_it_is_told_to():
    outcome, reports = train(recipe(5), answer=lambda report: report.metrics["progress/epoch"] < 2)
    assert (outcome.step, outcome.stopped) == (8, True)
    assert len(reports) == 2
    assert not any(name.startswith(("fit/", "cost/")) for name in reports[-1].metrics)


def test_a_no_to_the_last_report_stops_nothing():
    outcome, _ = train(recipe(1), answer=lambda report: False)
    assert not outcome.stopped


def test_validation_may_be_rarer_but_the_last_epoch_always_has_one():
    _, reports = train(recipe(5, {"validate_every": 2}))
    assert [report.metrics["progress/epoch"] for report in reports] == [2, 4, 5]
    assert all("val/top1" in report.metrics for report in reports)
    _, every = train(recipe(5))
    assert reports[-1].metrics["val/loss"] == every[-1].metrics["val/loss"]


def test_divergence_is_named_with_its_step():
    with pytest.raises(Diverged, match=r"the loss became (nan|inf) at step \d+"):
        train(recipe(optimizer=SGDSpec(name="sgd", lr=1e30)))
    with pytest.raises(Diverged, match="nan at step 6;"):
        train(plain(task="NanAt", step=6))


def test_a_metric_that_is_not_finite_is_a_divergence_where_the_trial_is_judged_by_it():
    with pytest.raises(Diverged, match="val/score became inf by step 4"):
        train(plain(task="BadScore"), judged_by="val/score")


def test_another_metric_that_is_not_finite_is_left_out():
    outcome, reports = train(plain(task="BadScore"))
    assert (outcome.step, outcome.stopped) == (8, False)
    assert [tuple(report.missing) for report in reports] == [("val/score",), ("val/score",)]
    assert not any("score" in name for report in reports for name in report.metrics)


def test_what_the_task_raises_comes_out_as_it_is():
    with pytest.raises(ZeroDivisionError):
        train(plain(task="Broken"))


def test_ctrl_c_is_a_keyboard_interrupt():
    with pytest.raises(KeyboardInterrupt):
        train(plain(task="Interrupted"))


def test_lightnings_own_arguments_pass_through():
    outcome, _ = train(recipe(2, {"lightning": {"accumulate_grad_batches": 2}}))
    assert outcome.step == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"trainer": {"lightning": {"max_epochs": 3}}},
            r"lightning\.max_epochs: it cannot be set here: trainer\.epochs",
        ),
        ({"trainer": {"lightning": {"no_such": 3}}}, "no_such"),
        ({"data": None}, "nothing to train on"),
        ({"data": DigitsSpec(name="digits")}, "not prepared"),
        ({"data": UserComponent(name=f"{USER}:Net", in_channels=1, num_classes=2)}, "LightningDataModule is needed"),
        ({"data": {"a": DigitsSpec(name="digits"), "b": DigitsSpec(name="digits")}}, "one data source"),
        ({"data": UserComponent(name=f"{USER}:Blobs", sample=3)}, "sample"),
    ],
)
def test_a_recipe_that_cannot_be_trained_is_refused_with_the_reason(changes, message):
    with pytest.raises(UserError, match=message):
        train(recipe(**changes))


def test_a_plain_lightning_module_and_data_module_work():
    outcome, reports = train(plain(3))
    assert [set(report.metrics) for report in reports[:2]] == [{"train/loss", "val/top1", "progress/epoch"}] * 2
    assert reports[-1].metrics["cost/params"] == 64 * 8 + 8 + 8 * 3 + 3
    assert outcome.step == 12
    assert train(plain(3))[0] == outcome


def test_an_argument_of_the_users_task_may_have_any_name():
    outcome, _ = train(plain(1, task="Odd", runner="nobody"))
    assert isinstance(outcome, Outcome)


def test_a_users_network_and_loss_train_in_our_task():
    own = recipe(model=UserComponent(name=f"{USER}:Net"), loss=UserComponent(name=f"{USER}:average_loss"))
    _, reports = train(own)
    assert reports[-1].metrics["val/top1"] > 0.5


def test_two_networks_two_optimizers_and_two_fields_train_together():
    two = recipe(
        data=UserComponent(name=f"{USER}:Pairs"),
        task=UserComponent(name=f"{USER}:TwoPlayers"),
        model={"coder": UserComponent(name=f"{USER}:Coder"), "judge": UserComponent(name=f"{USER}:Judge", width=7)},
        loss={
            "coder": UserComponent(name="torch.nn:MSELoss"),
            "judge": UserComponent(name="torch.nn:BCEWithLogitsLoss"),
        },
        optimizer={"coder": AdamSpec(name="adam", lr=0.05), "judge": SGDSpec(name="sgd", lr=0.1)},
        schedule=None,
        epochs=8,
    )
    outcome, reports = train(two)
    assert outcome.step == 8 * 3  # three batches an epoch, in each of which both optimizers step
    assert reports[-1].metrics["train/coder"] < reports[0].metrics["train/coder"]
    assert train(two)[0].weights == outcome.weights


def test_weights_are_told_apart_by_value_name_and_shape():
    from expflow.training.weights_digest import weights_digest

    torch.manual_seed(0)
    one = torch.nn.Linear(2, 3)
    same = torch.nn.Linear(2, 3)
    same.load_state_dict(one.state_dict())
    assert weights_digest(one) == weights_digest(same)
    with torch.no_grad():
        same.weight[0, 0] += 1e-6
    assert weights_digest(one) != weights_digest(same)
    assert weights_digest(torch.nn.Sequential(one)) != weights_digest(one)


def test_the_time_of_a_step_is_measured_even_on_the_smallest_data(digits):
    from expflow.training.step_timing import measure_steps

    spec = DigitsSpec(name="digits", batch_size=2000)
    one_batch = recipe(data=spec, model=LinearSpec(name="linear"))
    measured = measure_steps(one_batch, digits.root)
    assert measured.train > 0
    assert measured.trial_seconds(one_batch, digits.spec.samples) > 0
