"""Builders of torch's optimizers: a spec becomes a factory over parameters.

All are the fused kind, one pass over all weights, on CPU as on GPU.
"""

from __future__ import annotations

from functools import partial

import torch

from expflow.optim import OptimizerFactory, specs


def sgd(spec: specs.SGD) -> OptimizerFactory:
    """v <- momentum v + (g + weight_decay w); w <- w - lr v."""
    return partial(
        torch.optim.SGD,
        lr=spec.lr,
        momentum=spec.momentum,
        nesterov=spec.nesterov,
        weight_decay=spec.weight_decay,
        fused=True,
    )


def adam(spec: specs.Adam) -> OptimizerFactory:
    """Kingma and Ba 2015, algorithm 1, with weight decay added to the gradient."""
    betas = (spec.beta1, spec.beta2)
    return partial(torch.optim.Adam, lr=spec.lr, betas=betas, eps=spec.eps, weight_decay=spec.weight_decay, fused=True)


def adamw(spec: specs.AdamW) -> OptimizerFactory:
    """Loshchilov and Hutter 2019, algorithm 2; the decay per step is lr * weight_decay, as torch has it."""
    betas = (spec.beta1, spec.beta2)
    return partial(torch.optim.AdamW, lr=spec.lr, betas=betas, eps=spec.eps, weight_decay=spec.weight_decay, fused=True)
