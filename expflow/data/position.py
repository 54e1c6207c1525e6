"""Where a loader stands in its epochs."""

from __future__ import annotations


class Position:
    """Where a loader stands: the epoch, and the batches of it that were handed out.

    Lightning finds this as the loader's ``sampler`` and calls :meth:`set_epoch` before each epoch's first batch.
    """

    def __init__(self) -> None:
        self.epoch, self.batch = 0, 0
        self._restored = False

    def set_epoch(self, epoch: int) -> None:
        """The next pass is ``epoch``, from its start; or from where it was restored, if that was in this epoch."""
        if not (self._restored and epoch == self.epoch):
            self.epoch, self.batch, self._restored = epoch, 0, False

    def restore(self, epoch: int, batch: int) -> None:
        """The next pass goes on behind ``batch`` batches of ``epoch``."""
        self.epoch, self.batch, self._restored = epoch, batch, True

    def begin(self, batches: int) -> int:
        """A pass over ``batches`` batches begins: returns the first to hand out.

        A pass that was complete is followed by the next epoch; one that was left early is begun again.
        """
        if self.batch >= batches:
            self.epoch, self.batch = self.epoch + 1, 0
        elif not self._restored:
            self.batch = 0
        self._restored = False
        return self.batch
