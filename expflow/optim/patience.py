"""When a metric has stopped getting better. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Patience:
    """Counts the values since the best one. ``mode``: whether ``max`` or ``min`` is better, by more than ``min_delta``.

    ``best`` and ``bad`` (values since then) are its whole state.
    """

    mode: str
    patience: int
    min_delta: float = 0.0
    best: float | None = None
    bad: int = 0

    def exhausted(self, value: float) -> bool:
        """Take in the next value; whether it is one more without improvement than there is patience for."""
        gain = 0.0 if self.best is None else (value - self.best) * (1 if self.mode == "max" else -1)
        if self.best is None or gain > self.min_delta:
            self.best, self.bad = value, 0
        else:
            self.bad += 1
        return self.bad > self.patience
