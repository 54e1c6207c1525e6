"""What every schedule that has a name must do, whoever wrote it."""

import copy
import json

import pytest
import torch

from expflow.optim import build_schedule
from expflow.optim.schedules import PlateauLR
from expflow.registry import SCHEDULES

RATE, PER_EPOCH = 0.5, 3

VARIANTS = {
    # name -> arguments with which it is built; the first are those that have no default
    "constant": [{}, {"warmup_steps": 4}],
    "cosine": [{}, {"warmup_epochs": 1, "final": 0.1}],
    "multi_step": [{"at": (1, 2)}, {"at": (2,), "warmup_steps": 5, "factor": 0.5}],
    "one_cycle": [{}, {"warmup": 0.5, "initial": 1.0}, {"cycle_momentum": False}],
    "plateau": [{}, {"patience": 0, "factor": 0.5, "warmup_steps": 4, "final": 0.2}],
    "polynomial": [{}, {"power": 2.0, "final": 0.3, "warmup_epochs": 0.5}],
    "step": [{"every": 1}, {"every": 2, "factor": 0.5, "warmup_epochs": 1}],
    "triangular": [{"half_cycle": 1}, {"half_cycle": 0.5, "shrink": 0.5, "warmup_steps": 2}],
}
CASES = [(name, arguments) for name, variants in VARIANTS.items() for arguments in variants]
TOTALS = (1, 2, 3, 10, 30)


def test_every_schedule_has_a_case():
    assert set(VARIANTS) == set(SCHEDULES.names())


class Run:
    """An optimizer under a schedule; each epoch a metric is observed that gets no better after the first."""

    def __init__(self, name, arguments, total):
        weight = torch.nn.Parameter(torch.ones(2))
        self.optimizer = torch.optim.SGD([weight], lr=RATE, momentum=0.9)
        spec = SCHEDULES.spec(name).model_validate_json(json.dumps({"name": name, **arguments}))
        self.schedule = build_schedule(spec)(self.optimizer, total, PER_EPOCH)
        self.done = 0

    def settings(self):
        (group,) = self.optimizer.param_groups
        return group["lr"], group["momentum"]

    def step(self):
        self.optimizer.step()
        self.schedule.step()
        self.done += 1
        if self.done % PER_EPOCH == 0 and isinstance(self.schedule, PlateauLR):
            self.schedule.observe(1.0)

    def state(self):
        return copy.deepcopy((self.optimizer.state_dict(), self.schedule.state_dict(), self.done))

    def load(self, state):
        optimizer, schedule, self.done = copy.deepcopy(state)
        self.optimizer.load_state_dict(optimizer)
        self.schedule.load_state_dict(schedule)


@pytest.mark.parametrize(("name", "arguments"), CASES)
@pytest.mark.parametrize("total", TOTALS)
def test_its_rate_is_a_share_of_the_full_rate_at_every_step(name, arguments, total):
    run = Run(name, arguments, total)
    shares = []
    for _ in range(total):
        shares.append(run.settings()[0] / RATE)
        run.step()
    assert all(0 <= share <= 1 + 1e-12 for share in shares)
    assert max(shares) > 0


@pytest.mark.parametrize(("name", "arguments"), CASES)
@pytest.mark.parametrize("total", TOTALS)
def test_going_on_from_any_step_is_going_straight_on(name, arguments, total):
    straight, settings, states = Run(name, arguments, total), [], []
    for _ in range(total):
        settings.append(straight.settings())
        states.append(straight.state())
        straight.step()
    for done, state in enumerate(states):
        resumed = Run(name, arguments, total)
        resumed.load(state)
        for expected in settings[done:]:
            assert resumed.settings() == expected
            resumed.step()


@pytest.mark.parametrize(("name", "arguments"), CASES)
def test_two_groups_keep_the_ratio_of_their_rates(name, arguments):
    weights = [torch.nn.Parameter(torch.ones(1)) for _ in range(2)]
    groups = [{"params": [weights[0]]}, {"params": [weights[1]], "lr": RATE / 10}]
    optimizer = torch.optim.SGD(groups, lr=RATE)
    spec = SCHEDULES.spec(name).model_validate_json(json.dumps({"name": name, **arguments}))
    schedule = build_schedule(spec)(optimizer, 10, PER_EPOCH)
    for _ in range(10):
        full, scaled = (group["lr"] for group in optimizer.param_groups)
        assert scaled == pytest.approx(full / 10)
        optimizer.step()
        schedule.step()
