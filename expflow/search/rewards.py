"""The reward of a child: what became of it as one number, of which more is better."""

from __future__ import annotations

import math
from collections.abc import Iterable

from expflow.sweep.searchers import Learned


def reward_of(learned: Learned, mode: str, others: Iterable[float]) -> float | None:
    """The reward of a child; None where nothing can be learned.

    A child that cannot be trained (it diverges, needs more memory than there is, is beyond a limit) counts as the worst
    one that was: a searcher has to learn to avoid it, and a made-up number would depend on the metric's scale.

    Args:
        learned: What became of it.
        mode: Whether more (``max``) or less (``min``) of the metric is better.
        others: Rewards of the other children.
    """
    if learned.kind in ("complete", "stopped") and learned.score is not None and math.isfinite(learned.score):
        return learned.score if mode == "max" else -learned.score
    return min(others, default=None) if learned.kind != "failed" else None
