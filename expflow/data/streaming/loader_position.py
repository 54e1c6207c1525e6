"""Where a loader stands in its epochs."""

from __future__ import annotations


class LoaderPosition:
    """Where a loader stands: the epoch, and the batches of it that were handed out.

    Lightning takes this for the loader's ``sampler`` and calls :meth:`set_epoch` before each epoch's first batch.
    """

    def __init__(self) -> None:
        self.epoch, self.batch = 0, 0
        self._restored = False

    def set_epoch(self, epoch: int) -> None:
        """Begin the next pass at the start of an epoch; or where it was restored, if that was in this epoch.

        Args:
            epoch: The epoch's number, from 0.
        """
        if not (self._restored and epoch == self.epoch):
            self.epoch, self.batch, self._restored = epoch, 0, False

    def restore(self, epoch: int, batch: int) -> None:
        """Begin the next pass inside an epoch.

        Args:
            epoch: The epoch's number, from 0.
            batch: How many of its batches were handed out before.
        """
        self.epoch, self.batch, self._restored = epoch, batch, True

    def begin(self, batches: int) -> int:
        """Begin a pass. One that was complete is followed by the next epoch; one that was left early begins again.

        Args:
            batches: How many batches an epoch has.

        Returns:
            The number of the first batch to hand out.
        """
        if self.batch >= batches:
            self.epoch, self.batch = self.epoch + 1, 0
        elif not self._restored:
            self.batch = 0
        self._restored = False
        return self.batch
