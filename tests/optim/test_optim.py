"""Optimizers against one hand-worked step, schedules against their formula and torch's own."""

import math

import pytest
import torch
from pydantic import ValidationError
from torch.optim.lr_scheduler import OneCycleLR

from expflow.config.spec import Foreign
from expflow.optim import build_optimizer, build_schedule
from expflow.optim.specs import SGD, Adam, AdamW, Constant, Cosine, OneCycle, Step


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
    spec = SGD(name="sgd", lr=0.1, momentum=0.5, weight_decay=0.2)
    first = 1 - 0.1 * (2 + 0.2)
    second = first - 0.1 * (0.5 * 2.2 + 1 + 0.2 * first)
    assert after(spec, [2.0, 1.0]) == pytest.approx(second)


def test_nesterov_looks_ahead():
    assert after(SGD(name="sgd", lr=0.1, momentum=0.5, nesterov=True), [2.0]) == pytest.approx(1 - 0.1 * (2 + 0.5 * 2))


def test_nesterov_without_momentum_is_refused():
    with pytest.raises(ValidationError, match="nesterov needs momentum"):
        SGD(name="sgd", nesterov=True)


def test_adams_first_step_has_the_length_of_the_rate():
    assert after(Adam(name="adam", lr=0.1), [3.0]) == pytest.approx(0.9)


def test_adam_penalises_the_gradient_and_adamw_the_weight():
    assert after(Adam(name="adam", lr=0.1, weight_decay=0.5), [3.0]) == pytest.approx(0.9)
    assert after(AdamW(name="adamw", lr=0.1, weight_decay=0.5), [3.0]) == pytest.approx(1 - 0.1 * 0.5 - 0.1)


def test_constant_stays():
    assert rates(Constant(name="constant")) == [0.5] * 20


def test_step_multiplies_every_so_many_epochs():
    seen = rates(Step(name="step", every=2, factor=0.1))
    assert seen == pytest.approx([0.5] * 8 + [0.05] * 8 + [0.005] * 4)


def test_cosine_runs_from_the_full_rate_to_the_final_share():
    seen = rates(Cosine(name="cosine", final=0.1))
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
    assert rates(OneCycle(name="one_cycle", warmup=warmup)) == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("optimizer", "key"), [(SGD(name="sgd", momentum=0.9), "momentum"), (Adam(name="adam"), "betas")]
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

    ours = seen(lambda built: build_schedule(OneCycle(name="one_cycle"))(built, 20, 4))
    assert torch.allclose(ours, seen(lambda built: OneCycleLR(built, 0.5, total_steps=20)))


@pytest.mark.parametrize("spec", [SGD(name="sgd"), SGD(name="sgd", momentum=0.5)])
def test_one_cycle_leaves_the_momentum_where_there_is_none_or_none_is_wanted(spec):
    optimizer = build_optimizer(spec)([torch.nn.Parameter(torch.zeros(1))])
    build_schedule(OneCycle(name="one_cycle", cycle_momentum=not spec.momentum))(optimizer, 20, 4)
    assert optimizer.param_groups[0]["momentum"] == spec.momentum


def test_one_cycle_may_begin_at_its_peak():
    seen = rates(OneCycle(name="one_cycle", warmup=0.05))  # where torch's own divides by zero
    assert seen[0] == 0.5
    assert seen == sorted(seen, reverse=True)


@pytest.mark.parametrize("total", [1, 2, 3])
def test_one_cycle_survives_the_shortest_trials(total):
    assert all(0 < rate <= 0.5 for rate in rates(OneCycle(name="one_cycle", warmup=0.5), total, 1))


def test_the_users_own_schedule_is_given_what_its_signature_names():
    seen = rates(Foreign(name="torch.optim.lr_scheduler:OneCycleLR", max_lr=0.5, cycle_momentum=False))
    assert seen == pytest.approx(rates(OneCycle(name="one_cycle")))


def test_the_users_own_optimizer_is_given_the_parameters():
    assert after(Foreign(name="torch.optim:RMSprop", lr=0.1), [1.0]) == pytest.approx(1 - 0.1 / 0.1, abs=1e-6)
