"""Builders of the optimizers: a spec becomes a function of parameters or groups of them.

Torch's are the fused kind, one pass over all weights, on CPU as on GPU, except where gradients that were scaled for
half precision are clipped (``fused`` is false): a fused optimizer undoes the scale inside of its step, too late.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from expflow.optim import OptimizerConstructor
from expflow.optim.specs import AdamSpec, AdamWSpec, LAMBSpec, LARSSpec, RMSpropSpec, SGDSpec


def sgd(spec: SGDSpec, fused: bool) -> OptimizerConstructor:
    """Stochastic gradient descent: v <- momentum v + (g + weight_decay w); w <- w - lr v.

    Args:
        spec: What the user chose.
        fused: Whether torch's fused kind is used.
    """
    return partial(
        torch.optim.SGD,
        lr=spec.lr,
        momentum=spec.momentum,
        nesterov=spec.nesterov,
        weight_decay=spec.weight_decay,
        fused=fused,
    )


def _adams(spec: AdamSpec | AdamWSpec | LAMBSpec) -> dict[str, Any]:
    return {"lr": spec.lr, "betas": (spec.beta1, spec.beta2), "eps": spec.eps, "weight_decay": spec.weight_decay}


def adam(spec: AdamSpec, fused: bool) -> OptimizerConstructor:
    """Adam, with weight decay added to the gradient.

    Args:
        spec: What the user chose.
        fused: Whether torch's fused kind is used.

    Source:
        Kingma and Ba 2015, "Adam", algorithm 1.
    """
    return partial(torch.optim.Adam, **_adams(spec), fused=fused)


def adamw(spec: AdamWSpec, fused: bool) -> OptimizerConstructor:
    """Adam with decoupled weight decay; the decay per step is lr * weight_decay, as torch has it.

    Args:
        spec: What the user chose.
        fused: Whether torch's fused kind is used.

    Source:
        Loshchilov and Hutter 2019, "Decoupled Weight Decay Regularization", algorithm 2.
    """
    return partial(torch.optim.AdamW, **_adams(spec), fused=fused)


def rmsprop(spec: RMSpropSpec, fused: bool) -> OptimizerConstructor:
    """s <- alpha s + (1 - alpha) g^2; w <- w - lr g / (sqrt(s) + eps), through a momentum where there is one.

    Args:
        spec: What the user chose.
        fused: Not used: torch has no fused kind of it.

    Source:
        Hinton 2012, lecture 6e; Graves 2013 for the centered kind.
    """
    return partial(
        torch.optim.RMSprop,
        lr=spec.lr,
        alpha=spec.alpha,
        eps=spec.eps,
        momentum=spec.momentum,
        centered=spec.centered,
        weight_decay=spec.weight_decay,
    )


def lars(spec: LARSSpec, fused: bool) -> OptimizerConstructor:
    """v <- momentum v + r (g + weight_decay w) with r = trust |w| / (|g| + weight_decay |w|); w <- w - lr v.

    It is timm's, whose ``r`` would be 1 wherever nothing decays: here it is adapted also without weight decay.

    Args:
        spec: What the user chose.
        fused: Not used: there is no fused kind.

    Source:
        You, Gitman and Ginsburg 2017, "Large Batch Training of Convolutional Networks", algorithm 1.
    """
    from timm.optim.lars import Lars

    return partial(
        Lars,
        lr=spec.lr,
        momentum=spec.momentum,
        nesterov=spec.nesterov,
        weight_decay=spec.weight_decay,
        trust_coeff=spec.trust,
        eps=spec.eps,
        always_adapt=True,
    )


def lamb(spec: LAMBSpec, fused: bool) -> OptimizerConstructor:
    """w <- w - lr |w| / |u| u with u = m / (sqrt(v) + eps) + weight_decay w, m and v as in Adam, bias-corrected.

    It is timm's, without the clipping of gradients that timm's does by default.

    Args:
        spec: What the user chose.
        fused: Not used: there is no fused kind.

    Source:
        You et al. 2020, "Large Batch Optimization for Deep Learning", algorithm 2.
    """
    from timm.optim.lamb import Lamb

    return partial(Lamb, **_adams(spec), max_grad_norm=None, always_adapt=True)
