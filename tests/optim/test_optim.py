"""Optimizers against one hand-worked step, schedules against their formula and torch's own."""

import math

import pytest
import torch
from pydantic import ValidationError
from torch.optim.lr_scheduler import CyclicLR, LinearLR, OneCycleLR, PolynomialLR, ReduceLROnPlateau

from expflow.config.spec import UserComponent
from expflow.errors import UserError
from expflow.optim import build_optimizer, build_schedule
from expflow.optim.specs import (
    AdamSpec,
    AdamWSpec,
    ConstantSpec,
    CosineSpec,
    LAMBSpec,
    LARSSpec,
    MultiStepSpec,
    OneCycleSpec,
    PlateauSpec,
    PolynomialSpec,
    RMSpropSpec,
    SGDSpec,
    StepSpec,
    TriangularSpec,
)


def after(spec, gradients, start=1.0):
    """The weight after steps with these gradients."""
    weight = torch.nn.Parameter(torch.tensor(start, dtype=torch.float64))
    optimizer = build_optimizer(spec)([weight])
    for gradient in gradients:
        weight.grad = torch.tensor(gradient, dtype=torch.float64)
        optimizer.step()
    return weight.item()


def rates(spec, epochs=5, steps_per_epoch=4, lr=0.5):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    schedule = build_schedule(spec)(optimizer, epochs * steps_per_epoch, steps_per_epoch)
    seen = []
    for _ in range(epochs * steps_per_epoch):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return seen


def test_sgd_keeps_a_share_of_the_last_step_and_adds_the_penalty():
    spec = SGDSpec(name="sgd", lr=0.1, momentum=0.5, weight_decay=0.2)
    first = 1 - 0.1 * (2 + 0.2)
    second = first - 0.1 * (0.5 * 2.2 + 1 + 0.2 * first)
    assert after(spec, [2.0, 1.0]) == pytest.approx(second)


def test_nesterov_looks_ahead():
    assert after(SGDSpec(name="sgd", lr=0.1, momentum=0.5, nesterov=True), [2.0]) == pytest.approx(
        1 - 0.1 * (2 + 0.5 * 2)
    )


def test_nesterov_without_momentum_is_refused():
    with pytest.raises(ValidationError, match="nesterov needs momentum"):
        SGDSpec(name="sgd", nesterov=True)


def test_adams_first_step_has_the_length_of_the_rate():
    assert after(AdamSpec(name="adam", lr=0.1), [3.0]) == pytest.approx(0.9)


def test_adam_penalises_the_gradient_and_adamw_the_weight():
    assert after(AdamSpec(name="adam", lr=0.1, weight_decay=0.5), [3.0]) == pytest.approx(0.9)
    assert after(AdamWSpec(name="adamw", lr=0.1, weight_decay=0.5), [3.0]) == pytest.approx(1 - 0.1 * 0.5 - 0.1)


def test_rmsprop_divides_by_the_root_of_the_mean_square():
    spec = RMSpropSpec(name="rmsprop", lr=0.1, alpha=0.75, weight_decay=0.5)
    first = 1 - 0.1 * 2.5 / math.sqrt(0.25 * 2.5**2)
    gradient = 1 + 0.5 * first
    mean = 0.75 * 0.25 * 2.5**2 + 0.25 * gradient**2
    assert after(spec, [2.0, 1.0]) == pytest.approx(first - 0.1 * gradient / math.sqrt(mean))


def test_centred_rmsprop_subtracts_the_mean_and_momentum_keeps_a_share():
    centred = RMSpropSpec(name="rmsprop", lr=0.1, alpha=0.75, centered=True)
    assert after(centred, [2.0]) == pytest.approx(1 - 0.1 * 2 / math.sqrt(0.25 * 4 - (0.25 * 2) ** 2))
    kept = RMSpropSpec(name="rmsprop", lr=0.1, alpha=0.75, momentum=0.5)
    second = 1 / math.sqrt(0.75 * 1 + 0.25 * 1)
    assert after(kept, [2.0, 1.0]) == pytest.approx(1 - 0.1 * 2 - 0.1 * (0.5 * 2 + second))


def vector_after(spec, gradients, start):
    weight = torch.nn.Parameter(torch.tensor(start, dtype=torch.float64))
    optimizer = build_optimizer(spec)([weight])
    for gradient in gradients:
        weight.grad = torch.tensor(gradient, dtype=torch.float64)
        optimizer.step()
    return weight.tolist()


def test_lars_takes_steps_as_long_as_trust_times_the_weights():
    spec = LARSSpec(name="lars", lr=0.5, momentum=0.9, trust=0.1, decay_norm_and_bias=True)
    # |w| = 5, |g| = 10: ratio 0.05, so the first step is 0.5 * 0.05 * g
    first = [3 - 0.5 * 0.05 * 6, 4 - 0.5 * 0.05 * 8]
    assert vector_after(spec, [[6.0, 8.0]], [3.0, 4.0]) == pytest.approx(first)
    decayed = LARSSpec(name="lars", lr=0.5, momentum=0.9, trust=0.1, weight_decay=0.2, decay_norm_and_bias=True)
    ratio = 0.1 * 5 / (10 + 0.2 * 5)
    wanted = [3 - 0.5 * ratio * (6 + 0.2 * 3), 4 - 0.5 * ratio * (8 + 0.2 * 4)]
    assert vector_after(decayed, [[6.0, 8.0]], [3.0, 4.0]) == pytest.approx(wanted)


def test_lars_keeps_a_share_of_its_scaled_step():
    spec = LARSSpec(name="lars", lr=0.5, momentum=0.9, trust=0.1, decay_norm_and_bias=True)
    once = vector_after(spec, [[6.0, 8.0]], [3.0, 4.0])
    ratio = 0.1 * math.hypot(*once) / 10
    step = [0.9 * 0.05 * g + ratio * g for g in (6.0, 8.0)]
    twice = [w - 0.5 * s for w, s in zip(once, step, strict=True)]
    assert vector_after(spec, [[6.0, 8.0]] * 2, [3.0, 4.0]) == pytest.approx(twice)


def test_lamb_takes_adams_step_with_the_length_of_the_weights():
    spec = LAMBSpec(name="lamb", lr=0.1, eps=1e-12, weight_decay=0.5, decay_norm_and_bias=True)
    # Adam's first step is the gradient's sign, here (1, -1); the decay adds half of the weights
    update = [1 + 0.5 * 3, -1 + 0.5 * 4]
    ratio = 5 / math.hypot(*update)
    wanted = [3 - 0.1 * ratio * update[0], 4 - 0.1 * ratio * update[1]]
    assert vector_after(spec, [[60.0, -80.0]], [3.0, 4.0]) == pytest.approx(wanted)


def small_net():
    net = torch.nn.Sequential()
    net.add_module("stem", torch.nn.Conv2d(1, 2, 3))
    net.add_module("norm", torch.nn.BatchNorm2d(2))
    net.add_module("body", torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2, bias=False)))
    net.add_module("head", torch.nn.Linear(2, 3))
    return net


def listed(optimizer, net):
    """Group name -> (rate, decay, names of its parameters)."""
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    return {
        group.get("name", ""): (
            group["lr"],
            group["weight_decay"],
            [names[id(parameter)] for parameter in group["params"]],
        )
        for group in optimizer.param_groups
    }


def test_without_exceptions_there_is_one_group():
    net = small_net()
    groups = listed(build_optimizer(SGDSpec(name="sgd", lr=0.5, weight_decay=0.1))(net), net)
    assert groups == {"": (0.5, 0.1, [name for name, _ in net.named_parameters()])}
    spared = SGDSpec(name="sgd", lr=0.5, decay_norm_and_bias=False)  # there is no decay to be spared from
    assert list(listed(build_optimizer(spared)(net), net)) == [""]


def test_norms_and_biases_are_spared_the_decay():
    net = small_net()
    spec = AdamWSpec(name="adamw", lr=0.5, weight_decay=0.1, decay_norm_and_bias=False)
    plain = ["stem.bias", "norm.weight", "norm.bias", "body.0.bias", "head.bias"]
    assert listed(build_optimizer(spec)(net), net) == {
        "other": (0.5, 0.1, ["stem.weight", "body.0.weight", "body.1.weight", "head.weight"]),
        "other, no decay": (0.5, 0.0, plain),
    }
    assert len(build_optimizer(spec)(net.parameters()).param_groups) == 2


def test_layerwise_optimizers_take_plain_steps_on_norms_and_biases():
    weight, bias = torch.nn.Parameter(torch.full((1, 2), 2.0)), torch.nn.Parameter(torch.full((2,), 2.0))
    optimizer = build_optimizer(LARSSpec(name="lars", lr=0.5, momentum=0.0, weight_decay=0.1))([weight, bias])
    weight.grad, bias.grad = torch.ones(1, 2), torch.ones(2)
    optimizer.step()
    assert bias.tolist() == [1.5, 1.5]
    assert 1.99 < weight[0, 0].item() < 2


def test_rates_are_scaled_by_the_longest_path_that_fits():
    net = small_net()
    spec = SGDSpec(name="sgd", lr=0.5, lr_scale={"backbone": 0.1, "body": 0.4, "body.1": 0.2})
    assert listed(build_optimizer(spec)(net), net) == {
        "backbone": (0.05, 0.0, ["stem.weight", "stem.bias", "norm.weight", "norm.bias"]),
        "body": (0.2, 0.0, ["body.0.weight", "body.0.bias"]),
        "body.1": (0.1, 0.0, ["body.1.weight"]),
        "other": (0.5, 0.0, ["head.weight", "head.bias"]),
    }


def test_a_schedule_keeps_the_scales():
    net = small_net()
    optimizer = build_optimizer(SGDSpec(name="sgd", lr=0.5, lr_scale={"stem": 0.1}))(net)
    build_schedule(CosineSpec(name="cosine", warmup_steps=2, warmup_from=0.5))(optimizer, 10, 5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.025, 0.25]


@pytest.mark.parametrize(
    ("scale", "message"),
    [
        ({"stm": 0.1}, r"optimizer\.lr_scale\.stm: no module .* nearest: stem"),
        ({"zzz": 0.1}, "there are stem, norm, body, head"),
    ],
)
def test_a_path_that_leads_nowhere_is_refused(scale, message):
    with pytest.raises(UserError, match=message):
        build_optimizer(SGDSpec(name="sgd", lr_scale=scale))(small_net())


def test_scaled_rates_need_a_module():
    with pytest.raises(UserError, match="hand over the module"):
        build_optimizer(SGDSpec(name="sgd", lr_scale={"stem": 0.1}))(small_net().parameters())


def test_the_backbone_of_a_net_without_a_head_is_all_but_its_last_linear_layer():
    net = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU(), torch.nn.Linear(2, 2, bias=False))
    spec = SGDSpec(name="sgd", lr=1.0, lr_scale={"backbone": 0.1})
    assert [group["lr"] for group in build_optimizer(spec)(net).param_groups] == [0.1, 1.0]
    with pytest.raises(UserError, match="no linear layer"):
        build_optimizer(spec)(torch.nn.Conv2d(1, 1, 1))


def test_constant_stays():
    assert rates(ConstantSpec(name="constant")) == [0.5] * 20


def test_step_multiplies_every_so_many_epochs():
    seen = rates(StepSpec(name="step", every=2, factor=0.1))
    assert seen == pytest.approx([0.5] * 8 + [0.05] * 8 + [0.005] * 4)


def test_cosine_runs_from_the_full_rate_to_the_final_share():
    seen = rates(CosineSpec(name="cosine", final=0.1))
    assert seen[0] == 0.5
    assert seen[10] == pytest.approx(0.5 * 0.55)
    assert seen[19] == pytest.approx(0.5 * (0.1 + 0.9 * (1 + math.cos(math.pi * 19 / 20)) / 2))


@pytest.mark.parametrize("warmup", [0.3, 0.5, 0.1])
def test_one_cycle_is_torchs(warmup):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
    torchs = OneCycleLR(optimizer, 0.5, total_steps=20, pct_start=warmup, cycle_momentum=False)
    wanted = []
    for step in range(20):
        wanted.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if step < 19:
            torchs.step()
    assert rates(OneCycleSpec(name="one_cycle", warmup=warmup)) == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("optimizer", "key"), [(SGDSpec(name="sgd", momentum=0.9), "momentum"), (AdamSpec(name="adam"), "betas")]
)
def test_one_cycle_moves_the_momentum_against_the_rate_as_torchs_does(optimizer, key):
    def seen(make):
        built = build_optimizer(optimizer)([torch.nn.Parameter(torch.zeros(1))])
        schedule, values = make(built), []
        for _ in range(19):
            values.append(built.param_groups[0][key])
            built.step()
            schedule.step()
        return torch.tensor(values)

    ours = seen(lambda built: build_schedule(OneCycleSpec(name="one_cycle"))(built, 20, 4))
    assert torch.allclose(ours, seen(lambda built: OneCycleLR(built, 0.5, total_steps=20)))


@pytest.mark.parametrize("spec", [SGDSpec(name="sgd"), SGDSpec(name="sgd", momentum=0.5)])
def test_one_cycle_leaves_the_momentum_where_there_is_none_or_none_is_wanted(spec):
    optimizer = build_optimizer(spec)([torch.nn.Parameter(torch.zeros(1))])
    build_schedule(OneCycleSpec(name="one_cycle", cycle_momentum=not spec.momentum))(optimizer, 20, 4)
    assert optimizer.param_groups[0]["momentum"] == spec.momentum


def test_one_cycle_may_begin_at_its_peak():
    seen = rates(OneCycleSpec(name="one_cycle", warmup=0.05))  # where torch's own divides by zero
    assert seen[0] == 0.5
    assert seen == sorted(seen, reverse=True)


@pytest.mark.parametrize("total", [1, 2, 3])
def test_one_cycle_survives_the_shortest_trials(total):
    assert all(0 < rate <= 0.5 for rate in rates(OneCycleSpec(name="one_cycle", warmup=0.5), total, 1))


def test_the_users_own_schedule_is_given_what_its_signature_names():
    seen = rates(UserComponent(name="torch.optim.lr_scheduler:OneCycleLR", max_lr=0.5, cycle_momentum=False))
    assert seen == pytest.approx(rates(OneCycleSpec(name="one_cycle")))


def test_the_users_own_optimizer_is_given_the_parameters():
    assert after(UserComponent(name="torch.optim:RMSprop", lr=0.1), [1.0]) == pytest.approx(1 - 0.1 / 0.1, abs=1e-6)


def torchs(make, steps, lr=0.5, **arguments):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    schedule, seen = make(optimizer, **arguments), []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return seen


def test_multi_step_changes_at_its_epochs():
    seen = rates(MultiStepSpec(name="multi_step", at=[1, 3], factor=0.1))
    assert seen == pytest.approx([0.5] * 4 + [0.05] * 8 + [0.005] * 8)


def test_multi_step_wants_rising_epochs():
    with pytest.raises(ValidationError, match="rising epochs, found 3, 1"):
        MultiStepSpec(name="multi_step", at=[3, 1])


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_polynomial_is_torchs(power):
    wanted = torchs(PolynomialLR, 20, total_iters=20, power=power)
    assert rates(PolynomialSpec(name="polynomial", power=power)) == pytest.approx(wanted)


def test_polynomial_ends_at_its_final_share():
    seen = rates(PolynomialSpec(name="polynomial", final=0.2))
    assert seen[19] == pytest.approx(0.5 * (0.2 + 0.8 / 20))


@pytest.mark.parametrize(("shrink", "mode"), [(1.0, "triangular"), (0.5, "triangular2")])
def test_triangular_is_torchs(shrink, mode):
    torchs_own = torchs(CyclicLR, 20, base_lr=0.05, max_lr=0.5, step_size_up=3, mode=mode, cycle_momentum=False)
    seen = rates(TriangularSpec(name="triangular", half_cycle=0.75, low=0.1, shrink=shrink))
    assert seen == pytest.approx(torchs_own)


def test_the_warm_up_is_torchs_straight_line():
    wanted = torchs(LinearLR, 20, start_factor=0.1, total_iters=6)
    assert rates(ConstantSpec(name="constant", warmup_steps=6, warmup_from=0.1)) == pytest.approx(wanted)
    assert rates(ConstantSpec(name="constant", warmup_epochs=1.5, warmup_from=0.1)) == pytest.approx(wanted)


@pytest.mark.parametrize(
    "spec",
    [
        CosineSpec(name="cosine", warmup_steps=4, warmup_from=0.2),
        PolynomialSpec(name="polynomial", warmup_steps=4, warmup_from=0.2),
        TriangularSpec(name="triangular", half_cycle=1, warmup_steps=4, warmup_from=0.2),
    ],
)
def test_after_a_warm_up_the_schedule_begins_at_its_beginning(spec):
    cold = spec.model_copy(update={"warmup_steps": 0})
    seen, wanted = rates(spec), rates(cold, epochs=4)
    start = wanted[0]
    assert seen[:5] == pytest.approx([start * share for share in (0.2, 0.4, 0.6, 0.8, 1.0)])
    assert seen[4:] == pytest.approx(wanted)


def test_steps_at_epochs_count_those_of_the_warm_up():
    warm = rates(MultiStepSpec(name="multi_step", at=[2], warmup_epochs=1, warmup_from=0.5))
    assert warm[:4] == pytest.approx([0.25, 0.3125, 0.375, 0.4375])
    assert warm[4:] == pytest.approx([0.5] * 4 + [0.05] * 12)
    assert rates(StepSpec(name="step", every=2, warmup_epochs=1))[8] == pytest.approx(0.05)


def test_one_way_to_say_the_warm_up():
    with pytest.raises(ValidationError, match="not both"):
        ConstantSpec(name="constant", warmup_steps=3, warmup_epochs=1)


LOSSES = [1.0, 0.9, 0.95, 0.9, 0.85, 0.86, 0.87, 0.88, 0.8, 0.9, 0.9, 0.9]


@pytest.mark.parametrize(("patience", "min_delta"), [(0, 0.0), (1, 0.0), (2, 0.04)])
def test_a_plateau_is_torchs(patience, min_delta):
    def seen(make, tell):
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)
        schedule, values = make(optimizer), []
        for loss in LOSSES:
            optimizer.step()
            tell(schedule, loss)
            values.append(optimizer.param_groups[0]["lr"])
        return values

    def tell(schedule, loss):
        schedule.step()
        schedule.observe(loss)

    spec = PlateauSpec(name="plateau", factor=0.5, patience=patience, min_delta=min_delta, final=0.1)
    torchs_own = {"factor": 0.5, "patience": patience, "threshold": min_delta, "threshold_mode": "abs", "min_lr": 0.05}
    wanted = seen(
        lambda optimizer: ReduceLROnPlateau(optimizer, **torchs_own), lambda schedule, loss: schedule.step(loss)
    )
    assert seen(lambda optimizer: build_schedule(spec)(optimizer, 100, 1), tell) == pytest.approx(wanted)
    assert wanted[-1] < 0.5


def test_a_plateau_warms_up_by_steps_and_goes_on_from_its_state():
    spec = PlateauSpec(
        name="plateau", mode="max", metric="val/own", patience=0, factor=0.1, warmup_steps=2, warmup_from=0.5
    )
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = build_schedule(spec)(optimizer, 100, 4)
    seen = [optimizer.param_groups[0]["lr"]]
    for value in (0.5, 0.4, 0.3):
        optimizer.step()
        schedule.step()
        schedule.observe(value)
        seen.append(optimizer.param_groups[0]["lr"])
    assert seen == pytest.approx([0.5, 0.75, 0.1, 0.01])
    again = build_schedule(spec)(torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0), 100, 4)
    again.load_state_dict(schedule.state_dict())
    again.observe(0.6)
    assert (again.scale, again.best, again.bad) == (pytest.approx(0.01), 0.6, 0)


def test_a_plateau_needs_to_know_which_way_is_better():
    with pytest.raises(ValidationError, match="nearest: val/loss"):
        PlateauSpec(name="plateau", metric="val/los")


@pytest.mark.parametrize(
    "spec", [OneCycleSpec(name="one_cycle"), PlateauSpec(name="plateau"), CosineSpec(name="cosine")]
)
def test_the_state_of_a_schedule_holds_no_code(spec, tmp_path):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0, momentum=0.9)
    torch.save(build_schedule(spec)(optimizer, 10, 5).state_dict(), tmp_path / "state")
    torch.load(tmp_path / "state", weights_only=True)
