"""Batches of named fields from shards, in an order that is a pure function of (seed, epoch)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from expflow.data.manifest import read_manifest
from expflow.data.memory import MEMORY_BYTES, covering, open_samples
from expflow.data.order import Ids, epoch_order, global_batches, rank_batch
from expflow.data.specs import Source
from expflow.errors import UserError

Batch = dict[str, torch.Tensor]
"""``image`` uint8 (batch, channels, height, width), ``label`` int64, ``index`` int64 (position of the sample in its
split), ``valid`` bool (false for padding, which no loss and no metric may count)."""


EVALUATED_AT_ONCE = 1024
"""Samples of a batch that is only evaluated, where the recipe names no batch size."""


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


class Loader:
    """Iterates over one split's batches on one rank.

    Every sample comes exactly once per epoch over all ranks. ``batch_size`` is global and divides by ``ranks``; global
    batches do not depend on ``ranks``. A short last batch is kept, padded only as far as ranks need equal shares, or
    dropped with ``drop_last``. Without ``shuffle`` the order is that of the shards. ``limit`` takes the first samples,
    which shards hold in an order shuffled by the split's seed. ``workers`` threads decode.

    Raises DataMissing without shards at ``root``, ShardCorrupt where they differ from their manifest, UserError for a
    batch size that does not divide.
    """

    batch_sampler = None  # Lightning asks for it wherever there is a ``sampler``

    def __init__(
        self,
        root: Path,
        split: str,
        *,
        batch_size: int,
        seed: int,
        shuffle: bool,
        rank: int = 0,
        ranks: int = 1,
        drop_last: bool = False,
        limit: int | None = None,
        workers: int = 1,
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        if batch_size % ranks:
            raise UserError(
                f"data.batch_size {batch_size} does not divide by {ranks} ranks; it is the batch of all together"
            )
        manifest = read_manifest(root)
        self.split, self.batch_size, self.seed, self.shuffle = split, batch_size, seed, shuffle
        self.rank, self.ranks, self.drop_last = rank, ranks, drop_last
        self.samples = min(manifest.samples(split), limit or manifest.samples(split))
        self.sampler = Position()
        self._sizes = [shard.samples for shard in covering(manifest.shards(split), self.samples)]
        self._sizes[-1:] = [self.samples - sum(self._sizes[:-1])]
        self._data = open_samples(root, manifest, split, self.samples, workers=workers, memory_bytes=memory_bytes)

    def __len__(self) -> int:
        """Batches of one epoch, the same on every rank."""
        return global_batches(self.samples, self.batch_size, drop_last=self.drop_last)

    def order(self, epoch: int) -> Ids:
        """Ids of the samples (their positions in the split) in the order of ``epoch``, over all ranks."""
        if not self.shuffle:
            return np.arange(self.samples, dtype=np.int64)
        return epoch_order(self._sizes, self.seed, epoch)

    def __iter__(self) -> Iterator[Batch]:
        """One pass, from where the position says.

        Nothing is settled before the first batch is asked for, because Lightning sets the epoch after ``iter()``.
        """
        first = self.sampler.begin(len(self))
        order = self.order(self.sampler.epoch)
        for batch in range(first, len(self)):
            ids, valid = rank_batch(order, batch, self.batch_size, self.rank, self.ranks)
            arrays = self._data.take(ids)
            self.sampler.batch = batch + 1
            yield {
                **{name: torch.from_numpy(values) for name, values in arrays.items()},
                "index": torch.from_numpy(ids),
                "valid": torch.from_numpy(valid),
            }

    def state_dict(self) -> dict[str, int]:
        """Where this loader stands, in integers that hold for any number of ranks and workers."""
        return {
            "epoch": self.sampler.epoch,
            "batch": self.sampler.batch,
            "batch_size": self.batch_size,
            "samples": self.samples,
            "seed": self.seed,
        }

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on behind the batches that ``state`` counts. Raises UserError where it counts another loader's batches."""
        for name in ("batch_size", "samples", "seed"):
            if state[name] != getattr(self, name):
                raise UserError(
                    f"cannot go on inside epoch {state['epoch']}: {name} was {state[name]}, is {getattr(self, name)}"
                )
        self.sampler.restore(state["epoch"], state["batch"])


def loader_for(
    spec: Source, root: Path, split: str, *, seed: int, shuffle: bool, rank: int = 0, ranks: int = 1, threads: int = 1
) -> Loader:
    """The loader that a recipe's data asks for; ``threads`` is what the rank computes with (``workers: auto``).

    ``batch_size: all`` makes one batch of the training samples, padded to equal shares; what is only evaluated comes in
    batches of at most :data:`EVALUATED_AT_ONCE`, which changes no metric.
    """
    batch_size = spec.batch_size
    if batch_size == "all":
        samples = read_manifest(root).samples(split)
        samples = min(samples, spec.limit or samples) if shuffle else min(samples, EVALUATED_AT_ONCE)
        batch_size = max(1, -(-samples // ranks)) * ranks
    return Loader(
        root,
        split,
        batch_size=batch_size,
        seed=seed,
        shuffle=shuffle,
        rank=rank,
        ranks=ranks,
        limit=spec.limit if split == "train" else None,
        workers=threads if spec.workers == "auto" else spec.workers,
    )
