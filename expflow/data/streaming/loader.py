"""Batches of named fields from shards, in an order that is a pure function of (seed, epoch)."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from expflow.data.augment import pipeline_for
from expflow.data.dataspec import DataSpec
from expflow.data.shards.manifest import ShardManifest, read_manifest
from expflow.data.source_spec import ShardedSourceSpec
from expflow.data.stores import ShardCache
from expflow.data.streaming.balanced_sampling import LABEL, labels_of
from expflow.data.streaming.batch_source import BatchSource, FinishedBatch, PlannedBatch
from expflow.data.streaming.decoded_batches import DecodedBatches
from expflow.data.streaming.decoded_cache import MAX_DECODED_BYTES, DecodedSplit, decoded_bytes, open_decoded_split
from expflow.data.streaming.epoch_order import EpochOrder, global_batches, rank_share
from expflow.data.streaming.loader_position import LoaderPosition
from expflow.data.streaming.sample_reader import SplitShards
from expflow.data.streaming.streamed_batches import StreamedBatches
from expflow.errors import ShardCorrupt, UserError

Batch = dict[str, torch.Tensor]
"""``image`` uint8 (batch, channels, height, width), ``label`` int64, ``index`` int64 (position of the sample in its
split), ``valid`` bool (false for padding and for what could not be read, which no loss and no metric may count)."""

LastBatch = Literal["keep", "pad", "drop"]
"""What becomes of a last, short batch: kept, and padded only as far as ranks need equal shares; padded to the size of
the others; dropped."""

EVALUATION_BATCH_SAMPLES = 1024
"""Samples of a batch that is only evaluated, where the recipe names no batch size."""

SKIP_LIMIT = 0.001
"""Largest share of a rank's samples in an epoch that may be skipped."""


@dataclass(frozen=True)
class LoaderConfig:
    """What a :class:`Loader` reads, and how.

    Attributes:
        root: The prepared data's folder, in which the manifest lies.
        split: The split's name, or ``train+val`` for both together.
        batch_size: Samples of a batch over all ranks; divides by ``ranks``.
        seed: Decides the order, with the epoch, and what the transform draws.
        shuffle: False leaves the samples in the order of the shards.
        rank: This rank's number, from 0.
        ranks: How many ranks share each batch.
        last: What becomes of a last, short batch.
        limit: Takes the first samples only, which shards hold in an order shuffled by the split's seed; None takes all.
        workers: Threads that decode ahead of the consumer.
        memory_bytes: A split that takes at most so many bytes when decoded is decoded once per node and kept in memory.
        transform: The source's spec, whose ``train`` or ``eval`` is done to samples; None leaves them as stored.
        training: Whether ``train`` rather than ``eval`` is done.
        skip_bad: Whether a sample that cannot be read comes as not ``valid`` instead of failing the pass.
        skip_limit: The share of what the rank reads in an epoch above which skipped samples fail the pass.
        cache: The node's folder for shards from elsewhere; by default the one in which the prepared data lie.
        balanced: Whether classes come equally often rather than samples.
        epoch_samples: Samples of an epoch where it is another number than the split has: some are left out, or come
            again in another order.
    """

    root: Path
    split: str
    batch_size: int
    seed: int
    shuffle: bool
    rank: int = 0
    ranks: int = 1
    last: LastBatch = "keep"
    limit: int | None = None
    workers: int = 1
    memory_bytes: int = MAX_DECODED_BYTES
    transform: object = None
    training: bool = False
    skip_bad: bool = False
    skip_limit: float = SKIP_LIMIT
    cache: ShardCache | None = None
    balanced: bool = False
    epoch_samples: int | None = None


class Loader:
    """Iterates over one split's batches on one rank.

    Every sample comes exactly once per epoch over all ranks, unless classes are balanced. Global batches do not depend
    on the number of ranks.
    ``bad_samples`` counts the samples that this rank skipped in its current epoch.

    Args:
        config: What is read, and how.

    Raises:
        DataMissing: There are no shards, or no such split, at the config's root.
        ShardCorrupt: The shards differ from their manifest.
        UserError: The batch size does not divide by the ranks.
    """

    batch_sampler = None  # Lightning asks for it wherever there is a ``sampler``

    def __init__(self, config: LoaderConfig) -> None:
        if config.batch_size % config.ranks:
            raise UserError(
                f"data.batch_size {config.batch_size} does not divide by {config.ranks} ranks; it is the batch of all"
                " together"
            )
        self.config = config
        manifest = _manifest(config.root, config.split)
        self._own = min(manifest.samples(config.split), config.limit or manifest.samples(config.split))
        self.samples = self._own if config.epoch_samples is None else config.epoch_samples
        self.sampler = LoaderPosition()
        self.bad_samples = self._bad_before = 0
        self._most_bad = math.ceil(config.skip_limit * self.samples / config.ranks)
        cache = config.cache or ShardCache(config.root.parent)
        shards = SplitShards(config.root, manifest, config.split, self._own, cache)
        self._sizes = shards.sizes
        self._source = _batch_source(config, manifest, shards)
        self._labels: NDArray[np.int64] | None = None
        self._beside: dict[str, Loader] = {}
        self._given: Callable[[], NDArray[np.int64]] | None = None
        if config.balanced:
            in_memory = self._source.arrays if isinstance(self._source, DecodedBatches) else None
            self._labels = labels_of(in_memory, shards)

    def drawing_from(self, decoded: DecodedSplit) -> Loader:
        """A loader of the same batches with other fields in the place of the stored ones.

        Args:
            decoded: The fields by sample id, such as features in the place of images.
        """
        other = copy.copy(self)
        other.sampler = LoaderPosition()
        unchanged = pipeline_for({}, DataSpec({}), None, training=False, seed=0)
        other._source = DecodedBatches(decoded.arrays, decoded.bad, unchanged, threads=1)
        return other

    def with_labels(self, given: Callable[[], NDArray[np.int64]]) -> Loader:
        """A loader of the same samples with other labels, by which it balances classes as well.

        Args:
            given: Gives the label of each sample, (n,) by id; called when the first batch is asked for.
        """
        other = copy.copy(self)
        other.sampler, other._given = LoaderPosition(), given
        return other

    def beside(self, others: Mapping[str, Loader]) -> Loader:
        """A loader of the same batches with those of other loaders in them, their fields as ``name.field``.

        A sample is valid where all its parts are. Where this one stands, each of them stands: they have batches of the
        same sizes.

        Args:
            others: The other loaders by name, of as many samples in an epoch, and in equal batches.
        """
        other = copy.copy(self)
        other.sampler, other._beside = LoaderPosition(), dict(others)
        return other

    def __len__(self) -> int:
        """Batches of one epoch, the same on every rank."""
        return global_batches(self.samples, self.config.batch_size, drop_last=self.config.last == "drop")

    def __iter__(self) -> Iterator[Batch]:
        """One pass, from where the position says.

        Nothing is settled before the first batch is asked for, because Lightning sets the epoch after ``iter()``.
        """
        first = self.sampler.begin(len(self))
        epoch = self.sampler.epoch
        self.bad_samples, self._bad_before = self._bad_before if first else 0, 0
        streams = {name: other._batches(epoch, first) for name, other in self._beside.items()}
        for number, batch in enumerate(self._batches(epoch, first), start=first):
            for name, stream in streams.items():
                part = next(stream)
                batch["valid"] = batch["valid"] & part.pop("valid")
                batch |= {f"{name}.{field}": values for field, values in part.items()}
            self.sampler.batch = number + 1
            yield batch

    def _batches(self, epoch: int, first: int) -> Iterator[Batch]:
        """The loader's own part of the batches of an epoch, from the one with number ``first``."""
        given = self._given() if self._given is not None else None
        labels = given if self.config.balanced and given is not None else self._labels
        passes = -(-self.samples // max(self._own, 1))
        order = EpochOrder(
            self._sizes, self.config.seed, epoch, shuffle=self.config.shuffle, labels=labels, passes=max(passes, 1)
        )
        plans = map(partial(self._plan, order), range(first, len(self)))
        for batch in self._source.batches(order, epoch, plans):
            valid = self._valid(batch)
            yield {
                **batch.tensors,
                **({} if given is None else {LABEL: torch.from_numpy(given[batch.plan.ids])}),
                "index": torch.from_numpy(batch.plan.ids),
                "valid": valid,
            }

    def _plan(self, order: EpochOrder, number: int) -> PlannedBatch:
        config = self.config
        first, stop = number * config.batch_size, min((number + 1) * config.batch_size, self.samples)
        size = config.batch_size if config.last == "pad" else 0
        draws, valid = rank_share(order.draws(first, stop), config.rank, config.ranks, size=size)
        return PlannedBatch(first, stop, draws % max(self._own, 1), draws, valid)

    def _valid(self, batch: FinishedBatch) -> torch.Tensor:
        """Which samples of a batch count. Raises ShardCorrupt where too many were bad, or none may be."""
        valid = batch.plan.valid
        if batch.bad:
            valid = valid.copy()
            valid[list(batch.bad)] = False
            self.bad_samples += len(batch.bad)
            if self.bad_samples > self._most_bad:
                raise ShardCorrupt(
                    f"{self.bad_samples} samples of {self.config.split} could not be read in this epoch, and"
                    f" data.skip_limit allows {self._most_bad} of this rank's {self.samples // self.config.ranks};"
                    f" the last one: {list(batch.bad.values())[-1]}"
                )
        return torch.from_numpy(valid)

    def state_dict(self) -> dict[str, int]:
        """Where this loader stands, in integers that hold for any number of ranks and workers.

        ``bad_samples``, which is there only where they are skipped, is this rank's own.
        """
        state = {
            "epoch": self.sampler.epoch,
            "batch": self.sampler.batch,
            "batch_size": self.config.batch_size,
            "samples": self.samples,
            "seed": self.config.seed,
        }
        return state | {"bad_samples": self.bad_samples} if self.config.skip_bad else state

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on behind the batches that a state counts.

        Args:
            state: What :meth:`state_dict` returned.

        Raises:
            UserError: It counts batches of another size, of other samples or of another seed.
        """
        own = self.state_dict()
        for name in ("batch_size", "samples", "seed"):
            if state[name] != own[name]:
                raise UserError(f"cannot go on inside epoch {state['epoch']}: {name} was {state[name]}, is {own[name]}")
        self.sampler.restore(state["epoch"], state["batch"])
        self._bad_before = state.get("bad_samples", 0)


def _batch_source(config: LoaderConfig, manifest: ShardManifest, shards: SplitShards) -> BatchSource:
    """Decoded samples where they fit into the config's memory, else the shards, streamed."""
    pipeline = pipeline_for(
        manifest.fields, manifest.spec, config.transform, training=config.training, seed=config.seed
    )
    size = decoded_bytes(manifest, sum(shard.samples for shard in shards.shards))
    if size is not None and size <= config.memory_bytes:
        decoded = open_decoded_split(shards, config.workers, skip=config.skip_bad)
        return DecodedBatches(decoded.arrays, decoded.bad, pipeline, threads=config.workers)
    return StreamedBatches(shards, pipeline, threads=config.workers, skip=config.skip_bad)


def loader_for(
    spec: ShardedSourceSpec,
    root: Path,
    split: str,
    *,
    seed: int,
    shuffle: bool,
    rank: int = 0,
    ranks: int = 1,
    threads: int = 1,
    epoch_samples: int | None = None,
) -> Loader:
    """The loader that a recipe's data asks for.

    ``batch_size: all`` makes one batch of the training samples, padded to equal shares; what is only evaluated comes in
    batches of at most :data:`EVALUATION_BATCH_SAMPLES`, which changes no metric.

    Args:
        spec: The recipe's data.
        root: The prepared data's folder.
        split: One of the data's splits, or ``train+val`` for both together.
        seed: The trial's seed.
        shuffle: True for the loader that is trained on; no other changes its samples by chance, or drops any.
        rank: This rank's number, from 0.
        ranks: How many ranks the trial has.
        threads: The threads that the rank computes with (``workers: auto``).
        epoch_samples: Samples of an epoch, where it is not as many as the split has.

    Raises:
        DataMissing: There is no such split.
        UserError: The batch size does not divide by the ranks.
    """
    batch_size = _batch_size(spec, root, split, ranks, shuffle=shuffle)
    config = LoaderConfig(root, split, batch_size, seed, shuffle, rank, ranks, epoch_samples=epoch_samples)
    return Loader(_configured(config, spec, threads))


def _configured(config: LoaderConfig, spec: ShardedSourceSpec, threads: int) -> LoaderConfig:
    """``config`` with the recipe's choices."""
    shuffle = config.shuffle
    return replace(
        config,
        last="keep" if spec.last == "drop" and not shuffle else spec.last,
        limit=_limit(spec, config.root, config.split),
        workers=threads if spec.workers == "auto" else spec.workers,
        memory_bytes=spec.memory,
        transform=spec,
        training=shuffle,
        skip_bad=spec.on_bad_sample == "skip",
        skip_limit=spec.skip_limit,
        balanced=shuffle and spec.sampling == "balanced",
    )


def _batch_size(spec: ShardedSourceSpec, root: Path, split: str, ranks: int, *, shuffle: bool) -> int:
    """Samples of a batch over all ranks."""
    if spec.batch_size != "all":
        return spec.batch_size
    samples = _manifest(root, split).samples(split)
    limit = (_limit(spec, root, split) or samples) if shuffle else EVALUATION_BATCH_SAMPLES
    return max(1, -(-min(samples, limit) // ranks)) * ranks


TRAIN_AND_VAL = "train+val"
"""Two splits as one, for a final model that is trained on all that is not test."""


def _manifest(root: Path, split: str) -> ShardManifest:
    """The manifest in ``root``; for :data:`TRAIN_AND_VAL` with that split in it.

    Val stands first, so that a limit cuts off training samples. Raises DataMissing where one of the two is not there.
    """
    manifest = read_manifest(root)
    if split != TRAIN_AND_VAL:
        return manifest
    shards = (*manifest.shards("val"), *manifest.shards("train"))
    return replace(manifest, splits={**manifest.splits, TRAIN_AND_VAL: shards})


def _limit(spec: ShardedSourceSpec, root: Path, split: str) -> int | None:
    """How many samples of ``split`` are used, where the recipe limits those of train."""
    if spec.limit is None or split not in ("train", TRAIN_AND_VAL):
        return None
    return spec.limit if split == "train" else spec.limit + read_manifest(root).samples("val")
