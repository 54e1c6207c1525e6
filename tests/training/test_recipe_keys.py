"""What the keys under ``trainer`` do to a training, seen through its reports."""

import itertools

import pytest
import torch
from torch import nn

from expflow.architectures.specs.mlp import MLPSpec
from expflow.config.schema import EarlyStopping
from expflow.config.spec import UserComponent
from expflow.data.prepare.build import prepare
from expflow.data.specs import DigitsSpec
from expflow.data.streaming.loader import loader_for
from expflow.errors import Diverged, OutOfMemory, UserError
from expflow.optim.specs import AdamSpec, ConstantSpec, PlateauSpec, SGDSpec
from expflow.tasks.specs import ClassificationSpec
from expflow.training import World
from expflow.training.trainer_arguments import trainer_arguments
from tests.training import recipe_code
from tests.training.test_run_trial import recipe, train
from tests.training.user_code import CLASSES, blobs

CODE = recipe_code.__name__
NOTHING = {"model": None, "loss": None, "optimizer": None, "schedule": None}


def in_order(**arguments):
    return UserComponent(name=f"{CODE}:InOrder", **arguments)


def scored(epochs, trainer=None, **arguments):
    """A trial of the task that scores by script."""
    slots = {key: arguments.pop(key) for key in ("optimizer", "schedule") if key in arguments}
    task = UserComponent(name=f"{CODE}:Scored", **arguments)
    return recipe(epochs, trainer, task=task, data=in_order(), **{**NOTHING, **slots})


# accumulation and clipping, beside a loop written by hand


def by_hand(epochs, batch, accumulate, lr=0.1, momentum=0.0, clip=None, samples=30):
    """Val loss of a linear classifier in float64, each step on all samples of a group at once."""

    def normalised(image):  # the data's mean and std are kept in single precision
        mean, std = ((torch.tensor(share) * 255.0).double() for share in (0.4, 0.3))
        return ((image - mean) / std).flatten(1)

    image, label = blobs(samples, 0)
    inputs = normalised(image)
    weight = torch.zeros(CLASSES, 64, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(CLASSES, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([weight, bias], lr=lr, momentum=momentum)
    for _ in range(epochs):
        for start in range(0, samples, batch * accumulate):
            chosen = slice(start, start + batch * accumulate)
            loss = nn.functional.cross_entropy(inputs[chosen] @ weight.T + bias, label[chosen])
            optimizer.zero_grad()
            loss.backward()
            if clip and clip[0] == "norm":
                length = torch.cat([weight.grad.flatten(), bias.grad]).norm()
                for parameter in (weight, bias):
                    parameter.grad *= min(1.0, clip[1] / (length.item() + 1e-6))
            elif clip:
                for parameter in (weight, bias):
                    parameter.grad.clamp_(-clip[1], clip[1])
            optimizer.step()
    image, label = blobs(13, 1)
    inputs = normalised(image)
    return nn.functional.cross_entropy(inputs @ weight.T + bias, label).item()


def in_double(trainer, epochs=3, momentum=0.0, **data):
    """Val loss and steps of the same in a trial."""
    double = {"lightning": {"precision": "64-true"}}
    spec = recipe(
        epochs,
        {**double, **trainer},
        data=in_order(**data),
        model=UserComponent(name=f"{CODE}:Zero"),
        optimizer=SGDSpec(name="sgd", lr=0.1, momentum=momentum),
        schedule=ConstantSpec(name="constant"),
    )
    outcome, reports = train(spec)
    return outcome.step, reports[-1].metrics["val/loss"]


@pytest.mark.parametrize("accumulate", [1, 2, 3, 4, 7])
def test_accumulated_batches_make_the_step_of_one_batch_also_at_the_end_of_an_epoch(accumulate):
    # 30 samples in batches of 8: the last batch is short, and for 3 and 7 so is the last group
    steps, loss = in_double({"accumulate": accumulate}, momentum=0.9)
    assert steps == 3 * -(-4 // accumulate)
    assert loss == pytest.approx(by_hand(3, 8, accumulate, momentum=0.9), rel=1e-12)


@pytest.mark.parametrize("clip", [("norm", 0.5), ("value", 0.05)])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_gradients_are_clipped_after_they_are_accumulated(clip, accumulate):
    key, most = f"clip_{clip[0]}", clip[1]
    _, loss = in_double({"accumulate": accumulate, key: most})
    assert loss == pytest.approx(by_hand(3, 8, accumulate, clip=clip), rel=1e-12)
    assert loss != pytest.approx(by_hand(3, 8, accumulate), rel=1e-3)


def test_a_penalty_is_counted_once_for_each_step_however_many_batches_it_has():
    def loss(batch_size, trainer):
        task = ClassificationSpec(name="classification", penalty="l2", penalty_strength=0.3)
        data = in_order(batch_size=batch_size)
        spec = recipe(2, trainer, data=data, task=task, model=UserComponent(name=f"{CODE}:Zero"))
        return train(spec)[1][-1].metrics["val/loss"]

    assert loss(8, {"accumulate": 3}) == pytest.approx(loss(24, {}), rel=1e-5)


def test_the_last_batches_of_an_epoch_count_fully_for_a_users_own_task_too():
    task = UserComponent(name=f"{CODE}:Measured", lr=0.1)
    # three batches of 8, two to a step: the last group is one batch, with a mean loss of its own
    _, reports = train(recipe(2, {"accumulate": 2}, task=task, data=in_order(samples=24), **NOTHING))
    image, label = blobs(24, 0)
    inputs = image.flatten(1).double() / 255
    weight = torch.zeros(CLASSES, 64, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(CLASSES, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([weight, bias], lr=0.1)
    for _, chosen in itertools.product(range(2), [slice(0, 16), slice(16, 24)]):
        optimizer.zero_grad()
        nn.functional.cross_entropy(inputs[chosen] @ weight.T + bias, label[chosen]).backward()
        optimizer.step()
    image, label = blobs(13, 1)
    wanted = nn.functional.cross_entropy(image.flatten(1).double() / 255 @ weight.T + bias, label).item()
    assert reports[-1].metrics["val/loss"] == pytest.approx(wanted, rel=1e-12)


# averaged weights


def test_val_is_measured_on_the_mean_of_the_weights_and_training_goes_on_with_themselves():
    decay, steps = 0.7, 12
    _, reports = train(scored(3, {"ema": decay}))  # after step i the weight is -i
    for report in reports:
        t = report.step
        wanted = sum((1 - decay) * decay ** (t - i) * -i for i in range(1, t + 1)) / (1 - decay**t)
        assert report.metrics["val/weight"] == pytest.approx(wanted, rel=1e-12)
        assert report.metrics["train/weight"] == -t
    assert reports[-1].step == steps


def test_the_mean_is_over_optimizer_steps_not_batches():
    _, reports = train(scored(1, {"ema": 0.5, "accumulate": 4}))
    assert (reports[-1].step, reports[-1].metrics["val/weight"]) == (1, -1)


def test_both_the_mean_and_its_age_are_in_the_state():
    from expflow.training.ema import ExponentialMovingAverage, averaged_weights

    first = ExponentialMovingAverage(0.9)
    module = nn.BatchNorm1d(2)
    trainer = type("Trainer", (), {"global_step": 0})()
    first.on_train_start(trainer, module)
    for step in range(1, 4):
        with torch.no_grad():
            module.weight += 1
        trainer.global_step = step
        first.on_train_batch_end(trainer)
    kept = averaged_weights({first.state_key: first.state_dict()})
    assert set(kept) == {"weight", "bias", "running_mean", "running_var"}  # a count is no weight
    second = ExponentialMovingAverage(0.9)
    second.load_state_dict(first.state_dict())
    second.on_train_start(trainer, module)
    trainer.global_step = 4
    first.on_train_batch_end(trainer)
    second.on_train_batch_end(trainer)
    assert torch.equal(
        averaged_weights({"averaging": second.state_dict()})["weight"], first.state_dict()["means"]["weight"]
    )
    assert averaged_weights({}) == {}


# early stopping and plateaus


def stopping(**keys):
    return {"early_stopping": EarlyStopping(metric="val/score", mode="max", **keys)}


def test_a_trial_that_stands_still_ends_early_and_says_why():
    outcome, reports = train(scored(9, stopping(patience=1), scores=[1, 3, 2, 3, 5, 5, 5]))
    assert [report.metrics["progress/epoch"] for report in reports] == [1, 2, 3, 4]
    assert not outcome.stopped
    assert outcome.reason == "stopped early after epoch 4 of 9: val/score was best, 3, in epoch 2"
    assert outcome.step == 16
    assert "cost/seconds" in reports[-1].metrics  # it is a whole trial, with what is measured at the end


def test_small_gains_do_not_count_and_a_trial_that_gets_better_goes_on():
    outcome, reports = train(scored(5, stopping(patience=0, min_delta=0.5), scores=[1, 2, 2.4, 9]))
    assert (len(reports), outcome.step) == (3, 12)
    outcome, reports = train(scored(4, stopping(patience=0), scores=[1, 2, 3, 4]))
    assert (len(reports), outcome.reason) == (4, "")


def test_patience_that_ends_with_the_last_epoch_stops_nothing():
    outcome, _ = train(scored(2, stopping(patience=0), scores=[2, 1]))
    assert outcome.reason == ""


def test_epochs_that_are_not_validated_do_not_count():
    _, reports = train(scored(9, {"validate_every": 2, **stopping(patience=0)}, scores=[0, 2, 0, 1, 0]))
    assert [report.metrics["progress/epoch"] for report in reports] == [2, 4]


def test_a_metric_that_nobody_logs_is_named_with_those_there_are():
    with pytest.raises(UserError, match=r"early_stopping\.metric: .* val/score; .* val/other.*val/pixels"):
        train(scored(2, stopping(), scores=[1], metric="val/other"))


def test_a_plateau_lowers_the_rate_of_the_training():
    schedule = PlateauSpec(name="plateau", metric="val/score", mode="max", patience=0, factor=0.1)
    slots = {"optimizer": SGDSpec(name="sgd", lr=1.0), "schedule": schedule}
    _, reports = train(scored(4, scores=[1, 0.5, 2, 1], **slots))
    assert [report.metrics["train/rate"] for report in reports] == pytest.approx([1, 1, 0.1, 0.1])
    assert reports[-1].metrics["train/weight"] == pytest.approx(-(8 + 0.8))


# image sizes


def test_training_images_grow_and_validation_keeps_the_datas_size():
    _, reports = train(scored(4, {"image_sizes": [(1, 4), (3, 12)]}))
    assert [report.metrics["train/pixels"] for report in reports] == [8, 4, 4, 12]
    assert {report.metrics["val/pixels"] for report in reports} == {8}


def test_a_network_of_one_size_is_refused_by_name():
    with pytest.raises(UserError, match=r"trainer\.image_sizes: the network takes no images of 4x4: .*shapes"):
        train(recipe(2, {"image_sizes": [(0, 4)]}, data=in_order()))


# precision and compilation


def test_half_precision_keeps_the_weights_in_full():
    spec = recipe(2, {"precision": "bf16-mixed"}, data=in_order(), model=UserComponent(name=f"{CODE}:Kinds"))
    _, reports = train(spec)
    assert reports[-1].metrics["val/top1"] > 0.5


@pytest.mark.parametrize("precision", ["tf32", "16-mixed"])
def test_precisions_of_gpus_are_refused_without_one(precision):
    with pytest.raises(UserError, match=f"trainer.precision {precision} needs a GPU"):
        train(recipe(1, {"precision": precision}, data=in_order()))


@pytest.mark.parametrize(("compiling", "mode"), [(True, "default"), ("max-autotune", "max-autotune")])
def test_the_network_is_compiled_in_its_mode_and_learns_the_same(compiling, mode, monkeypatch):
    real, modes, graphs = torch.compile, [], []

    def traced(graph, inputs):  # generating code takes a minute on a cold machine: the graphs run as they are
        graphs.append(graph)
        return graph.forward

    def compile_quickly(function, *, mode):
        modes.append(mode)
        return real(function, backend=traced)

    monkeypatch.setattr(torch, "compile", compile_quickly)
    plain = recipe(2, data=in_order(batch_size=10), model=MLPSpec(name="mlp", hidden=8))
    compiled = plain.model_copy(update={"trainer": plain.trainer.model_copy(update={"compile": compiling})})
    one, other = (train(made)[0].weights for made in (plain, compiled))
    assert modes == [mode]
    assert graphs
    assert one == other


def test_there_is_nothing_to_compile_without_a_model_slot():
    with pytest.raises(UserError, match="slot `model`"):
        train(scored(1, {"compile": True}))


def test_convolutions_are_chosen_by_speed_on_gpus_unless_one_says_otherwise():
    def said(gpus, **lightning):
        spec = recipe(1, {"lightning": lightning}, data=in_order())
        return trainer_arguments(spec, World(gpus=gpus)).get("benchmark")

    assert (said(0), said(1)) == (None, True)
    assert (said(1, benchmark=False), said(1, deterministic=True)) == (None, None)


# memory


@pytest.mark.parametrize("how", ["torch", "python"])
def test_out_of_memory_is_named_with_batch_size_and_peak(how, tmp_path):
    task = UserComponent(name=f"{CODE}:Hungry", how=how)
    with pytest.raises(OutOfMemory, match=r"data\.batch_size 5, at a peak of \d+\.\d\d GiB in this process"):
        train(recipe(1, task=task, data=in_order(batch_size=5), **NOTHING))


def test_another_runtime_error_stays_what_it_is():
    with pytest.raises(RuntimeError, match="allocator is fine"):
        train(recipe(1, task=UserComponent(name=f"{CODE}:Hungry", how="not"), data=in_order(), **NOTHING))


# the whole training set at once


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return prepare(DigitsSpec(name="digits"), cache=tmp_path_factory.mktemp("cache"))


def test_a_batch_of_all_is_one_step_an_epoch(digits):
    for limit, samples in ((None, 1300), (50, 50)):
        data = DigitsSpec(name="digits", batch_size="all", limit=limit)
        assert len(next(iter(loader_for(data, digits.root, "train", seed=0, shuffle=True)))["label"]) == samples
        outcome, _ = train(recipe(3, data=data, optimizer=AdamSpec(name="adam")), data_root=digits.root)
        assert outcome.step == 3


def test_a_batch_of_all_is_shared_among_ranks(digits):
    data = DigitsSpec(name="digits", batch_size="all", limit=7)
    loaders = [loader_for(data, digits.root, "train", seed=0, shuffle=True, rank=rank, ranks=2) for rank in (0, 1)]
    batches = [list(loader) for loader in loaders]
    assert [len(part) for part in batches] == [1, 1]
    assert [part[0]["valid"].sum().item() for part in batches] == [4, 3]


def test_two_ways_to_say_the_same_are_refused():
    with pytest.raises(UserError, match=r"trainer\.lightning\.accumulate_grad_batches cannot be set"):
        train(recipe(1, {"accumulate": 2, "lightning": {"accumulate_grad_batches": 2}}), world=World())


def test_divergence_while_accumulating_names_the_optimizer_step():
    task = UserComponent(name="tests.training.user_code:NanAt", step=3)
    with pytest.raises(Diverged, match="nan at step 3;"):
        train(recipe(2, {"accumulate": 2}, task=task, data=in_order(), **NOTHING))
