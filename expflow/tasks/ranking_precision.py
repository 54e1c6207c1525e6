"""Average precision of each class: how well scores rank the samples that are of it before the others."""

from __future__ import annotations

import torch
from torch import Tensor


def average_precision(scores_nc: Tensor, labels_nc: Tensor) -> Tensor:
    """(classes,) AP = sum_k (R_k - R_(k-1)) P_k over the distinct scores; nan for a class that no sample is of.

    Precision is not interpolated, as in scikit-learn; VOC's development kit of 2010 takes its envelope, which is a
    little higher.

    Args:
        scores_nc: (n, classes) scores of the samples.
        labels_nc: (n, classes) 1 where a sample is of the class, 0 where it is not; any other value counts for nothing.

    Source:
        Everingham et al. 2010, "The Pascal Visual Object Classes (VOC) Challenge", section 4.2.
    """
    return torch.stack([_of_class(*columns) for columns in zip(scores_nc.T.double(), labels_nc.T, strict=True)])


def _of_class(scores_n: Tensor, labels_n: Tensor) -> Tensor:
    known = (labels_n == 0) | (labels_n == 1)
    scores_n, order = scores_n[known].sort(descending=True, stable=True)
    hits_n = labels_n[known][order].double()
    if not hits_n.sum():
        return scores_n.new_tensor(float("nan"))
    last_of_tie = torch.ones_like(hits_n, dtype=torch.bool)
    last_of_tie[:-1] = scores_n[1:] != scores_n[:-1]
    taken = torch.arange(1, len(hits_n) + 1, device=hits_n.device)[last_of_tie]
    right = hits_n.cumsum(0)[last_of_tie]
    recall = right / hits_n.sum()
    gained = torch.diff(recall, prepend=recall.new_zeros(1))
    return (gained * right / taken).sum()
