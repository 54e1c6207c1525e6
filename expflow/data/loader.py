"""Batches of named fields from shards, in an order that is a pure function of (seed, epoch)."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch

from expflow.data.augment import pipeline_for
from expflow.data.dataspec import DataSpec
from expflow.data.manifest import Manifest, read_manifest
from expflow.data.memory import MEMORY_BYTES, Whole, decoded_bytes, open_whole
from expflow.data.order import EpochOrder, Ids, global_batches, rank_share
from expflow.data.position import Position
from expflow.data.specs import Source
from expflow.data.stores import ShardCache
from expflow.data.streaming.batches import Decoded, Made, Planned, Samples, Streamed
from expflow.data.streaming.reading import Shards
from expflow.errors import ShardCorrupt, UserError

Batch = dict[str, torch.Tensor]
"""``image`` uint8 (batch, channels, height, width), ``label`` int64, ``index`` int64 (position of the sample in its
split), ``valid`` bool (false for padding and for what could not be read, which no loss and no metric may count)."""

Last = Literal["keep", "pad", "drop"]
"""What becomes of a last, short batch: kept, and padded only as far as ranks need equal shares; padded to the size of
the others; dropped."""

EVALUATED_AT_ONCE = 1024
"""Samples of a batch that is only evaluated, where the recipe names no batch size."""

SKIP_LIMIT = 0.001
"""Largest share of a rank's samples in an epoch that may be skipped."""


class Loader:
    """Iterates over one split's batches on one rank.

    Every sample comes exactly once per epoch over all ranks. ``batch_size`` is global and divides by ``ranks``; global
    batches do not depend on ``ranks``. Without ``shuffle`` the order is that of the shards. ``limit`` takes the first
    samples, which shards hold in an order shuffled by the split's seed. ``workers`` threads decode ahead of the
    consumer; a split that takes at most ``memory_bytes`` is decoded once per node instead.

    ``transform`` is the source's spec, whose ``train`` (with ``training``) or ``eval`` is done to samples. With
    ``skip_bad``, a sample that cannot be read comes as not ``valid``, and ``bad_samples`` counts them in this rank's
    current epoch; above the share ``skip_limit`` of what the rank reads in an epoch, the pass fails. ``cache`` is the
    node's folder for shards from elsewhere, by default the one in which the prepared data lie.

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
        last: Last = "keep",
        limit: int | None = None,
        workers: int = 1,
        memory_bytes: int = MEMORY_BYTES,
        transform: object = None,
        training: bool = False,
        skip_bad: bool = False,
        skip_limit: float = SKIP_LIMIT,
        cache: ShardCache | None = None,
    ) -> None:
        if batch_size % ranks:
            raise UserError(
                f"data.batch_size {batch_size} does not divide by {ranks} ranks; it is the batch of all together"
            )
        manifest = _manifest(root, split)
        self.split, self.batch_size, self.seed, self.shuffle = split, batch_size, seed, shuffle
        self.rank, self.ranks, self.last = rank, ranks, last
        self.samples = min(manifest.samples(split), limit or manifest.samples(split))
        self.sampler = Position()
        self.bad_samples = self._bad_before = 0
        self._skip = skip_bad
        self._most_bad = math.ceil(skip_limit * self.samples / ranks)
        shards = Shards(root, manifest, split, self.samples, cache or ShardCache(root.parent))
        self._sizes = shards.sizes
        pipeline = pipeline_for(manifest.fields, manifest.spec, transform, training=training, seed=seed)
        self._data: Samples = Streamed(shards, pipeline, threads=workers, skip=skip_bad)
        size = decoded_bytes(manifest, sum(shard.samples for shard in shards.shards))
        if size is not None and size <= memory_bytes:
            whole = open_whole(shards, workers, skip=skip_bad)
            self._data = Decoded(whole.arrays, whole.bad, pipeline, threads=workers)

    def drawing_from(self, whole: Whole) -> Loader:
        """A loader of the same batches with the fields of ``whole``, by id, in the place of the stored ones."""
        other = copy.copy(self)
        other.sampler = Position()
        unchanged = pipeline_for({}, DataSpec({}), None, training=False, seed=0)
        other._data = Decoded(whole.arrays, whole.bad, unchanged, threads=1)
        return other

    def __len__(self) -> int:
        """Batches of one epoch, the same on every rank."""
        return global_batches(self.samples, self.batch_size, drop_last=self.last == "drop")

    def order(self, epoch: int) -> Ids:
        """Ids of the samples (their positions in the split) in the order of ``epoch``, over all ranks."""
        return self._order(epoch).ids(0, self.samples)

    def __iter__(self) -> Iterator[Batch]:
        """One pass, from where the position says.

        Nothing is settled before the first batch is asked for, because Lightning sets the epoch after ``iter()``.
        """
        first = self.sampler.begin(len(self))
        epoch = self.sampler.epoch
        self.bad_samples, self._bad_before = self._bad_before if first else 0, 0
        order = self._order(epoch)
        planned = map(partial(self._planned, order), range(first, len(self)))
        for number, made in enumerate(self._data.batches(order, epoch, planned), start=first):
            valid = self._valid(made)
            self.sampler.batch = number + 1
            yield {
                **made.tensors,
                "index": torch.from_numpy(made.planned.ids),
                "valid": valid,
            }

    def _order(self, epoch: int) -> EpochOrder:
        return EpochOrder(self._sizes, self.seed, epoch, shuffle=self.shuffle)

    def _planned(self, order: EpochOrder, batch: int) -> Planned:
        first, stop = batch * self.batch_size, min((batch + 1) * self.batch_size, self.samples)
        size = self.batch_size if self.last == "pad" else 0
        ids, valid = rank_share(order.ids(first, stop), self.rank, self.ranks, size=size)
        return Planned(first, stop, ids, valid)

    def _valid(self, made: Made) -> torch.Tensor:
        """Which samples of a batch count. Raises ShardCorrupt where too many were bad, or none may be."""
        valid = made.planned.valid
        if made.bad:
            valid = valid.copy()
            valid[list(made.bad)] = False
            self.bad_samples += len(made.bad)
            if self.bad_samples > self._most_bad:
                raise ShardCorrupt(
                    f"{self.bad_samples} samples of {self.split} could not be read in this epoch, and data.skip_limit"
                    f" allows {self._most_bad} of this rank's {self.samples // self.ranks}; the last one:"
                    f" {list(made.bad.values())[-1]}"
                )
        return torch.from_numpy(valid)

    def state_dict(self) -> dict[str, int]:
        """Where this loader stands, in integers that hold for any number of ranks and workers.

        ``bad_samples``, which is there only where they are skipped, is this rank's own.
        """
        state = {
            "epoch": self.sampler.epoch,
            "batch": self.sampler.batch,
            "batch_size": self.batch_size,
            "samples": self.samples,
            "seed": self.seed,
        }
        return state | {"bad_samples": self.bad_samples} if self._skip else state

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on behind the batches that ``state`` counts. Raises UserError where it counts another loader's batches."""
        for name in ("batch_size", "samples", "seed"):
            if state[name] != getattr(self, name):
                raise UserError(
                    f"cannot go on inside epoch {state['epoch']}: {name} was {state[name]}, is {getattr(self, name)}"
                )
        self.sampler.restore(state["epoch"], state["batch"])
        self._bad_before = state.get("bad_samples", 0)


def loader_for(
    spec: Source, root: Path, split: str, *, seed: int, shuffle: bool, rank: int = 0, ranks: int = 1, threads: int = 1
) -> Loader:
    """The loader that a recipe's data asks for. ``split`` is one of the data's, or ``train+val`` for both together.

    ``threads`` is what the rank computes with (``workers: auto``).

    With ``shuffle`` it is the one that is trained on; no other changes its samples by chance, or drops any.
    ``batch_size: all`` makes one batch of the training samples, padded to equal shares; what is only evaluated comes in
    batches of at most :data:`EVALUATED_AT_ONCE`, which changes no metric.
    """
    batch_size = spec.batch_size
    if batch_size == "all":
        samples = _manifest(root, split).samples(split)
        samples = min(samples, _limit(spec, root, split) or samples) if shuffle else min(samples, EVALUATED_AT_ONCE)
        batch_size = max(1, -(-samples // ranks)) * ranks
    return Loader(
        root,
        split,
        batch_size=batch_size,
        seed=seed,
        shuffle=shuffle,
        rank=rank,
        ranks=ranks,
        last="keep" if spec.last == "drop" and not shuffle else spec.last,
        limit=_limit(spec, root, split),
        workers=threads if spec.workers == "auto" else spec.workers,
        memory_bytes=spec.memory,
        transform=spec,
        training=shuffle,
        skip_bad=spec.on_bad_sample == "skip",
        skip_limit=spec.skip_limit,
    )


BOTH = "train+val"
"""Two splits as one, for a final model that is trained on all that is no test."""


def _manifest(root: Path, split: str) -> Manifest:
    """The manifest in ``root``; for :data:`BOTH` with that split in it.

    Val stands first, so that a limit cuts off training samples. Raises DataMissing where one of the two is not there.
    """
    manifest = read_manifest(root)
    if split != BOTH:
        return manifest
    shards = (*manifest.shards("val"), *manifest.shards("train"))
    return replace(manifest, splits={**manifest.splits, BOTH: shards})


def _limit(spec: Source, root: Path, split: str) -> int | None:
    """How many samples of ``split`` are used, where the recipe limits those of train."""
    if spec.limit is None or split not in ("train", BOTH):
        return None
    return spec.limit if split == "train" else spec.limit + read_manifest(root).samples("val")
