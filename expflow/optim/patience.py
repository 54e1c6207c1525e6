"""When a metric has stopped getting better. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Patience:
    """Counts the values of a metric since the best one.

    Attributes:
        mode: ``max`` or ``min``: which direction is better.
        patience: Values without improvement that are tolerated.
        min_delta: A value must be better than the best by more than this to be an improvement.
        best: The best value so far. With ``bad`` it is the whole state.
        bad: Values since the best one.
    """

    mode: str
    patience: int
    min_delta: float = 0.0
    best: float | None = None
    bad: int = 0

    def exhausted(self, value: float) -> bool:
        """Records the next value; whether it is one more without improvement than is tolerated.

        Args:
            value: The metric's next value.
        """
        gain = 0.0 if self.best is None else (value - self.best) * (1 if self.mode == "max" else -1)
        if self.best is None or gain > self.min_delta:
            self.best, self.bad = value, 0
        else:
            self.bad += 1
        return self.bad > self.patience
