"""The loaders of a recipe with several data sources: one batch holds as many samples of each slot."""

from __future__ import annotations

import zlib

from expflow.data.prepare.prepared import data_spec
from expflow.data.prepare.slots import slot_roots
from expflow.data.shards.manifest import read_manifest
from expflow.data.slots import TRAIN, epoch_samples, joined_spec, slot_sources
from expflow.data.streaming.loader import Loader, loader_for
from expflow.errors import UserError
from expflow.training.contract import Attempt, World


class SlotLoaders:
    """The splits of several sources.

    Each slot has an order of its own: a function of the trial's seed, the slot and the epoch. An epoch of training
    takes as many samples of each as the largest train split has, of smaller ones some again in further passes;
    evaluation takes as many as the smallest split has.

    Args:
        attempt: The trial, with the folder that says where the shards of each slot lie.
        world: This rank's place among the trial's ranks.

    Raises:
        DataMissing: The data were not prepared.
        UserError: Images of the slots differ in size or channels.
    """

    def __init__(self, attempt: Attempt, world: World) -> None:
        if attempt.data_root is None:
            raise UserError("there is nothing to train on: the data were not prepared")
        self._attempt, self._world = attempt, world
        self._sources, self._roots = slot_sources(attempt.recipe), slot_roots(attempt.data_root)
        self._specs = {slot: data_spec(read_manifest(self._roots[slot]), spec) for slot, spec in self._sources.items()}
        self.spec = joined_spec(self._specs)

    @property
    def train(self) -> Loader:
        """What is trained on, in a new order each epoch."""
        return self._loader(TRAIN, shuffle=True)

    @property
    def train_in_order(self) -> Loader:
        """The same in a fixed order."""
        return self._loader(TRAIN, shuffle=False)

    @property
    def val(self) -> Loader | None:
        """The val splits in a fixed order; None where a slot has none."""
        return self._loader("val", shuffle=False) if self.spec.samples.get("val") else None

    def of(self, split: str) -> Loader:
        """The batches of a split for evaluation; train comes as it is trained on.

        Args:
            split: Name of the split.

        Raises:
            UserError: A slot has no such split.
        """
        if not self.spec.samples.get(split):
            lacking = [slot for slot, spec in self._specs.items() if not spec.samples.get(split)]
            raise UserError(f"the data have no split {split!r} under {', '.join(lacking)}")
        return self._loader(split, shuffle=split == TRAIN)

    def _loader(self, split: str, *, shuffle: bool) -> Loader:
        samples, seed = epoch_samples(self._specs, split), self._attempt.seed
        loaders = {
            slot: loader_for(
                source,
                self._roots[slot],
                split,
                seed=zlib.crc32(f"{slot} {seed}".encode()) if number else seed,
                shuffle=shuffle,
                rank=self._world.rank,
                ranks=self._world.ranks,
                threads=self._world.threads,
                epoch_samples=samples,
            )
            for number, (slot, source) in enumerate(self._sources.items())
        }
        (_, first), *others = loaders.items()
        return first.beside(dict(others))
