"""The controller: its gradient is torch's, it learns, and it copes with rewards that are none."""

import math
import random
import statistics

import numpy as np
import pytest
import torch

from expflow.config.child_space import child_dimensions
from expflow.search.controller import ControllerSearch
from expflow.search.recurrent_policy import Adam, RecurrentPolicy
from expflow.search.specs import ControllerSpec
from expflow.sweep.searchers import Learned

SPACE = child_dimensions(
    "model.layers", "layers", {"count": [2, 3], "height": [1, 3, 5], "width": [1, 3, 5], "filters": [4, 8, 16]}
)
CHILDREN = [[(0, 1), (1, 2), (3, 0)], [(0, 0), (2, 3)], [(3, 1)]]
COUNTS = [2, 3, 4, 2]


def loss_of_torch(parameters, children, advantages, entropy):
    """The same loss, written with torch's operations."""
    total = torch.zeros((), dtype=torch.float64)
    for choices, advantage in zip(children, advantages, strict=True):
        entering = parameters["start"]
        hidden = memory = torch.zeros(5, dtype=torch.float64)
        for place, option in choices:
            sums = torch.cat([entering, hidden]) @ parameters["weight"] + parameters["bias"]
            entry, forget, exit_, candidate = sums.chunk(4)
            memory = torch.sigmoid(forget) * memory + torch.sigmoid(entry) * torch.tanh(candidate)
            hidden = torch.sigmoid(exit_) * torch.tanh(memory)
            logs = torch.log_softmax(hidden @ parameters[f"head{place}"] + parameters[f"shift{place}"], 0)
            total = total - advantage * logs[option] + entropy * (logs.exp() * logs).sum()
            entering = parameters[f"read{place}"][option]
    return total / len(children)


def test_its_gradient_is_that_of_torch():
    policy = RecurrentPolicy(COUNTS, hidden=5, seed=3)
    advantages = [0.7, -1.3, 0.2]
    ours = policy.loss(CHILDREN, advantages, entropy=0.3)
    theirs = {name: torch.tensor(value, requires_grad=True) for name, value in policy.parameters.items()}
    loss = loss_of_torch(theirs, CHILDREN, advantages, 0.3)
    loss.backward()
    assert ours.loss == pytest.approx(loss.item(), abs=1e-12)
    for name, parameter in theirs.items():
        wanted = np.zeros_like(ours.gradient[name]) if parameter.grad is None else parameter.grad.numpy()
        np.testing.assert_allclose(ours.gradient[name], wanted, atol=1e-12, err_msg=name)


def test_its_adam_is_that_of_torch():
    generator = random.Random(0)
    value = np.array([generator.gauss(0, 1) for _ in range(6)])
    theirs = torch.tensor(value.copy(), requires_grad=True)
    ours, optimizer, adam = {"a": value}, torch.optim.Adam([theirs], lr=0.1), Adam(0.1)
    for _ in range(4):
        slope = np.array([generator.gauss(0, 1) for _ in range(6)])
        theirs.grad = torch.tensor(slope)
        optimizer.step()
        adam.step(ours, {"a": slope})
    np.testing.assert_allclose(ours["a"], theirs.detach().numpy(), rtol=1e-12)


def controller(seed=0, mode="max", **arguments):
    return ControllerSearch(ControllerSpec(trials=200, seed=seed, **arguments), SPACE, mode)


def reward(values):
    layers = range(1, values["model.layers.count"] + 1)
    return sum(
        math.log2(values[f"model.layers.{n}.filters"]) + (values[f"model.layers.{n}.height"] == 3) for n in layers
    )


def rewards_of(searcher, children, sign=1.0):
    rewards = []
    while len(rewards) < children and (values := searcher.suggest()) is not None:
        rewards.append(reward(values))
        searcher.complete(values, Learned("complete", sign * rewards[-1]))
    return rewards


@pytest.mark.parametrize(("mode", "sign"), [("max", 1.0), ("min", -1.0)])
def test_it_learns_to_write_better_children(mode, sign):
    for seed in range(2):
        rewards = rewards_of(controller(seed, mode), 120, sign)
        assert statistics.mean(rewards[-30:]) > statistics.mean(rewards[:30]) + 1


def test_no_child_is_written_twice_and_a_space_that_is_all_trained_ends_the_search():
    space = child_dimensions("model.layers", "layers", {"count": 1, "height": [1, 3], "width": [1, 3], "filters": [4]})
    searcher = ControllerSearch(ControllerSpec(trials=50, batch=2, lr=0.5), space, "max")
    written = []
    while (values := searcher.suggest()) is not None:
        written.append(tuple(values.items()))
        searcher.complete(values, Learned("complete", float(values["model.layers.1.height"])))
    assert len(set(written)) == len(written) == 4


@pytest.mark.parametrize(
    "learned",
    [
        Learned("complete", math.nan),
        Learned("complete", math.inf),
        Learned("complete", None),
        Learned("infeasible"),
        Learned("failed"),
    ],
)
def test_a_reward_that_is_none_spoils_no_weight(learned):
    searcher = controller(batch=2)
    for number in range(12):
        values = searcher.suggest()
        searcher.complete(values, learned if number % 2 else Learned("complete", 0.1 * number))
    assert all(np.isfinite(value).all() for value in searcher.policy.parameters.values())
    fresh = controller(batch=2)
    changed = any((fresh.policy.parameters[name] != value).any() for name, value in searcher.policy.parameters.items())
    assert changed


def test_a_child_of_another_space_is_no_lesson():
    searcher = controller(batch=1)
    searcher.complete({"model.layers.count": 7}, Learned("complete", 1.0))
    fresh = controller(batch=1)
    assert all((fresh.policy.parameters[name] == value).all() for name, value in searcher.policy.parameters.items())
