"""What every optimizer that has a name must do, whoever wrote it."""

import copy
from collections import OrderedDict

import pytest
import torch
from torch import nn

from expflow.optim import build_optimizer
from expflow.registry import OPTIMIZERS

VARIANTS = {
    # name -> arguments with which it is built, beside those of its defaults
    "adam": [{"beta1": 0.5, "weight_decay": 0.01}],
    "adamw": [{"weight_decay": 0.1}],
    "lamb": [{"weight_decay": 0.0}, {"decay_norm_and_bias": True}],
    "lars": [{"nesterov": True}, {"weight_decay": 0.01, "decay_norm_and_bias": True}],
    "rmsprop": [{"momentum": 0.9, "centered": True}],
    "sgd": [{"momentum": 0.9}, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01}],
}
CASES = [(name, arguments) for name, variants in VARIANTS.items() for arguments in ({}, *variants)]


def test_every_optimizer_has_a_case():
    assert set(VARIANTS) == set(OPTIMIZERS.names())


def factory(name, arguments, **options):
    return build_optimizer(OPTIMIZERS.spec(name)(name=name, **arguments), **options)


def network():
    """Two equal layers, ``body`` and ``head``, neither of which is at the minimum of :func:`step`'s loss."""
    net = nn.Sequential(OrderedDict(body=nn.Linear(3, 3), head=nn.Linear(3, 3)))
    with torch.no_grad():
        for layer in net:
            layer.weight.copy_(torch.tensor([[1.0, -2.0, 0.5], [0.3, 1.0, -1.0], [2.0, 0.1, 1.0]]))
            layer.bias.copy_(torch.tensor([0.5, -0.5, 1.0]))
    return net


def quadratic(net):
    return sum((parameter - 0.2).square().sum() for parameter in net.parameters()) / 2


def steps(net, optimizer, number):
    for _ in range(number):
        optimizer.zero_grad()
        quadratic(net).backward()
        optimizer.step()


@pytest.mark.parametrize(("name", "arguments"), CASES)
@pytest.mark.parametrize("fused", [True, False])
def test_its_steps_reduce_a_quadratic(name, arguments, fused):
    net = network()
    optimizer = factory(name, arguments, fused=fused)(net)
    assert isinstance(optimizer, torch.optim.Optimizer)
    before = quadratic(net).item()
    steps(net, optimizer, 20)
    after = quadratic(net).item()
    assert after < before
    steps(net, optimizer, 20)
    assert quadratic(net).item() < after


@pytest.mark.parametrize(("name", "arguments"), CASES)
def test_a_part_with_a_rate_of_its_own_takes_steps_of_that_length(name, arguments):
    net, start = network(), network()
    optimizer = factory(name, {**arguments, "lr": 1e-3, "lr_scale": {"head": 0.25}})(net)
    steps(net, optimizer, 1)
    for kind in ("weight", "bias"):
        body, head = (getattr(getattr(net, part), kind) - getattr(getattr(start, part), kind) for part in net._modules)
        assert body.abs().min() > 0
        assert torch.allclose(head, body / 4, rtol=1e-2, atol=1e-7)  # differences of numbers near 1 in single precision


@pytest.mark.parametrize(("name", "arguments"), CASES)
def test_norms_and_biases_are_in_a_group_without_decay_where_that_is_asked_for(name, arguments):
    spec = {**arguments, "weight_decay": 0.5, "decay_norm_and_bias": False}
    net = network()
    groups = factory(name, spec)(net).param_groups
    decays = {id(parameter): group["weight_decay"] for group in groups for parameter in group["params"]}
    expected = {id(parameter): 0.5 if parameter.ndim > 1 else 0.0 for parameter in net.parameters()}
    assert decays == expected


@pytest.mark.parametrize(("name", "arguments"), CASES)
def test_every_parameter_is_in_one_group_whatever_is_frozen_at_first(name, arguments):
    net = network()
    groups = factory(name, {**arguments, "lr_scale": {"backbone": 0.5}}, later=("body",))(net).param_groups
    given = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(given) == sorted(id(parameter) for parameter in net.parameters())


@pytest.mark.parametrize(("name", "arguments"), CASES)
def test_it_goes_on_from_its_state_bit_for_bit(name, arguments):
    straight = network()
    optimizer = factory(name, arguments)(straight)
    steps(straight, optimizer, 3)
    resumed = copy.deepcopy(straight)
    again = factory(name, arguments)(resumed)
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for net, own in ((straight, optimizer), (resumed, again)):
        steps(net, own, 3)
    for expected, actual in zip(straight.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(expected, actual)
