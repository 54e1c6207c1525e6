"""How well frozen features tell classes apart: a linear probe, and nearest neighbours, on the features of one split.

Nothing is tuned and nothing is random: so numbers of two networks, or of one network at two times, can be compared.
"""

from __future__ import annotations

import torch
from torch import Tensor

RIDGE = 0.01
"""Strength of the penalty of the linear probe, in units of the features' mean variance."""

NEIGHBOURS = 5
FOLDS = 2


def linear_probe_top1(features_nf: Tensor, labels_n: Tensor, classes: int) -> Tensor:
    """Share of samples whose class a linear classifier names that was fitted to the others' half: ().

    Even places of the split are classified by what was fitted to odd ones and the other way round. The classifier is
    ridge regression on one-hot classes, of features that are centred and scaled by the half it is fitted to.

    Args:
        features_nf: (n, features), in the order of the split.
        labels_n: (n,) classes.
        classes: How many there are.
    """
    hits = labels_n.new_zeros((), dtype=torch.float64)
    fold_n = torch.arange(len(labels_n), device=labels_n.device) % FOLDS
    for fold in range(FOLDS):
        fitted, tested = fold_n != fold, fold_n == fold
        x, y = features_nf[fitted].double(), torch.nn.functional.one_hot(labels_n[fitted], classes).double()
        mean, scale = x.mean(0), x.std(0, unbiased=False).clamp(min=1e-6)
        x, offset = (x - mean) / scale, y.mean(0)
        ridge = RIDGE * len(x) * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
        weights = torch.linalg.solve(x.T @ x + ridge, x.T @ (y - offset))
        scores = (features_nf[tested].double() - mean) / scale @ weights + offset
        hits += (scores.argmax(1) == labels_n[tested]).sum()
    return hits / len(labels_n)


def neighbours_top1(features_nf: Tensor, labels_n: Tensor, classes: int) -> Tensor:
    """Share of samples whose class most of their nearest other samples have, by the cosine: ().

    Of as many of two classes the one with the nearer samples counts.

    Args:
        features_nf: (n, features).
        labels_n: (n,) classes.
        classes: How many there are.
    """
    unit = torch.nn.functional.normalize(features_nf.double() - features_nf.double().mean(0), dim=1)
    likeness = (unit @ unit.T).fill_diagonal_(-2)
    nearest = likeness.topk(min(NEIGHBOURS, len(labels_n) - 1), dim=1)
    votes = torch.nn.functional.one_hot(labels_n[nearest.indices], classes).double()
    scores = (votes * (1 + 1e-3 * nearest.values[..., None])).sum(1)
    return (scores.argmax(1) == labels_n).double().mean()
