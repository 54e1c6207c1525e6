"""Binary cross-entropy: each class is a yes-or-no question of its own."""

from __future__ import annotations

from torch import Tensor, nn

from expflow.data.dataspec import DataSpec
from expflow.losses.specs import BCESpec
from expflow.losses.targets import one_hot


class BinaryCrossEntropy(nn.Module):
    """L = -sum_c [y_c log p_c + (1 - y_c) log(1 - p_c)] with p_c = 1 / (1 + exp(-s_c)).

    The sum is the negative log-likelihood of independent answers; torch's loss of this name divides it by their
    number. Scores 0, 0 with either label: 2 log 2 = 1.38629. With smoothing e the target is (1 - e) y_c + e / 2.

    Args:
        label_smoothing: The share e of each answer that moves to one half.

    Source:
        Bishop 2006, "Pattern Recognition and Machine Learning", equation 4.90.
    """

    def __init__(self, label_smoothing: float) -> None:
        super().__init__()
        self.smoothing = label_smoothing

    def forward(self, scores_bc: Tensor, target: Tensor) -> Tensor:
        """(b, classes) scores and (b,) labels, or (b, classes) targets, -> (b,) values."""
        target_bc = one_hot(target, scores_bc) * (1 - self.smoothing) + self.smoothing / 2
        values_bc = nn.functional.binary_cross_entropy_with_logits(scores_bc, target_bc, reduction="none")
        return values_bc.sum(1)


def build(spec: BCESpec, data_spec: DataSpec) -> BinaryCrossEntropy:
    """Binary cross-entropy: (b, classes) scores and (b,) labels -> (b,) values.

    Args:
        spec: What the user chose.
        data_spec: Not used; every loss is built from the same arguments.
    """
    return BinaryCrossEntropy(spec.label_smoothing)
