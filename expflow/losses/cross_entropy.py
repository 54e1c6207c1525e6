"""Cross-entropy over classes, and negative log-likelihood, which is its second half."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from expflow.data.dataspec import DataSpec
from expflow.errors import UserError
from expflow.losses.specs import CrossEntropySpec, NLLSpec
from expflow.losses.targets import check_target


def weights_of_classes(class_weights: Sequence[float] | None, data_spec: DataSpec) -> Tensor | None:
    """One factor for each class of the data.

    Args:
        class_weights: What the user chose; None for none.
        data_spec: The data.

    Raises:
        UserError: There are not as many as classes.
    """
    if class_weights is None:
        return None
    given, classes = len(class_weights), data_spec.num_classes
    if classes and given != classes:
        raise UserError(f"loss.class_weights has {given} values; the data have {classes} classes, one value for each")
    return torch.tensor(class_weights)


def build(spec: CrossEntropySpec, data_spec: DataSpec) -> nn.Module:
    """(b, classes) scores s and (b,) labels y -> (b,) values w_y (-s_y + log sum_j exp(s_j)) = -w_y log softmax(s)_y.

    With smoothing e the target is (1 - e) on the label plus e / classes everywhere, and each class's part has its own
    weight w. Scores 5, 4, 2 with the first label: p = 0.70538, loss 0.34901.

    Args:
        spec: What the user chose.
        data_spec: The data, whose number of classes the weights must have.

    Raises:
        UserError: There are not as many class weights as classes.

    Source:
        Bridle 1990, "Probabilistic interpretation of feedforward classification network outputs"; Szegedy et al. 2016,
        section 7, for label smoothing.
    """
    return nn.CrossEntropyLoss(
        weights_of_classes(spec.class_weights, data_spec), label_smoothing=spec.label_smoothing, reduction="none"
    )


class NegativeLogLikelihood(nn.NLLLoss):
    """Torch's negative log-likelihood, which here also takes (b, classes) shares of labels."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """(b, classes) log-probabilities and (b,) labels, or (b, classes) shares of labels, -> (b,) values."""
        check_target(target, input)
        if target.ndim < input.ndim:
            return super().forward(input, target)
        weighted_bc = input if self.weight is None else input * self.weight
        return -(weighted_bc * target).sum(1)


def build_nll(spec: NLLSpec, data_spec: DataSpec) -> nn.Module:
    """(b, classes) log-probabilities q and (b,) labels y -> (b,) values -w_y q_y.

    After a log-softmax it is the cross-entropy. The networks here give scores instead: this loss is for the user's
    own that end in a log-softmax, and would be without a lower bound on scores.

    Args:
        spec: What the user chose.
        data_spec: The data, whose number of classes the weights must have.

    Raises:
        UserError: There are not as many class weights as classes.
    """
    return NegativeLogLikelihood(weights_of_classes(spec.class_weights, data_spec), reduction="none")
