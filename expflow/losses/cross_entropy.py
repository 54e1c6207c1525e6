"""Cross-entropy over classes."""

from __future__ import annotations

from torch import nn

from expflow.losses import specs


def build(spec: specs.CrossEntropy) -> nn.Module:
    """(b, classes) scores s and (b,) labels y -> (b,) values -s_y + log sum_j exp(s_j).

    With smoothing e the target is (1 - e) on the label plus e / classes everywhere (Szegedy et al. 2016, section 7).
    """
    return nn.CrossEntropyLoss(label_smoothing=spec.label_smoothing, reduction="none")
