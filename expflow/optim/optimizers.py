"""Builders of the optimizers: a spec becomes a factory over parameters or groups of them.

Torch's are the fused kind, one pass over all weights, on CPU as on GPU, except where gradients that were scaled for
half precision are clipped (``fused`` is false): a fused optimizer undoes the scale inside of its step, too late.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from expflow.optim import Make, specs


def sgd(spec: specs.SGD, fused: bool) -> Make:
    """v <- momentum v + (g + weight_decay w); w <- w - lr v."""
    return partial(
        torch.optim.SGD,
        lr=spec.lr,
        momentum=spec.momentum,
        nesterov=spec.nesterov,
        weight_decay=spec.weight_decay,
        fused=fused,
    )


def _adams(spec: specs.Adam | specs.AdamW | specs.LAMB) -> dict[str, Any]:
    return {"lr": spec.lr, "betas": (spec.beta1, spec.beta2), "eps": spec.eps, "weight_decay": spec.weight_decay}


def adam(spec: specs.Adam, fused: bool) -> Make:
    """Kingma and Ba 2015, algorithm 1, with weight decay added to the gradient."""
    return partial(torch.optim.Adam, **_adams(spec), fused=fused)


def adamw(spec: specs.AdamW, fused: bool) -> Make:
    """Loshchilov and Hutter 2019, algorithm 2; the decay per step is lr * weight_decay, as torch has it."""
    return partial(torch.optim.AdamW, **_adams(spec), fused=fused)


def rmsprop(spec: specs.RMSprop, fused: bool) -> Make:
    """s <- alpha s + (1 - alpha) g^2; w <- w - lr g / (sqrt(s) + eps), through a momentum where there is one.

    Torch has no fused kind of it.
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


def lars(spec: specs.LARS, fused: bool) -> Make:
    """v <- momentum v + r (g + weight_decay w) with r = trust |w| / (|g| + weight_decay |w|); w <- w - lr v.

    You, Gitman and Ginsburg 2017, algorithm 1. It is timm's, whose ``r`` would be 1 wherever nothing decays: here it
    is adapted also without weight decay.
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


def lamb(spec: specs.LAMB, fused: bool) -> Make:
    """w <- w - lr |w| / |u| u with u = m / (sqrt(v) + eps) + weight_decay w, m and v as in Adam, bias-corrected.

    You et al. 2020, algorithm 2. It is timm's, without the clipping of gradients that it does unasked.
    """
    from timm.optim.lamb import Lamb

    return partial(Lamb, **_adams(spec), max_grad_norm=None, always_adapt=True)
