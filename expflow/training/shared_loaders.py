"""How the ranks of a trial share the loaders of a user's LightningDataModule.

Lightning's own sampler for several processes (``use_distributed_sampler``) is not used: it repeats samples, so that
validation counts some of them twice, draws the order of a sampler of the user's on each rank by itself, and leaves
iterable data to all ranks whole without a word. Here rank 0 draws each epoch's order from the user's own sampler, and
each rank takes its part of it; what cannot be shared that way is refused.

- Training: ``batch_size`` is a rank's, as in Lightning. All ranks take as many batches of equal sizes; for that up to
  ``ranks - 1`` samples of an epoch are repeated, or, with ``drop_last``, what does not fill a batch of each rank is
  left out.
- Validation: each sample once. Where a module or callback computes something of its own when a validation ends
  (``on_validation_epoch_end``), or the samples cannot be split into as many batches for each rank, every rank validates
  all samples instead, and the values are those of one rank by themselves.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.utilities import CombinedLoader
from torch.utils.data import BatchSampler, DataLoader, DistributedSampler, IterableDataset

from expflow.errors import UserError
from expflow.training.contract import World
from expflow.training.ranks import broadcast_object, max_over_ranks

VALIDATION_END_HOOKS = ("on_validation_epoch_end", "on_validation_end")
"""Hooks in which a module or callback may compute something from all samples of a validation."""

_NOT_OF_USERS = ("expflow", "pytorch_lightning", "lightning")

Split = Callable[[list[Any]], list[Any]]


class LoaderSharing:
    """Shares the loaders of one data module among the ranks of a trial.

    Args:
        name: The data module's name, for messages.
        world: This rank's place among the trial's ranks.
        always: Whether validation is shared even where a hook computes something of its own when it ends.
    """

    def __init__(self, name: str, world: World, *, always: bool = False) -> None:
        self._name, self._world, self._always = name, world, always
        self.whole_validation = False
        """Whether every rank validates all samples, in the newest validation."""

    def training(self, loaders: Any) -> Any:
        """This rank's part of training loaders.

        Args:
            loaders: What ``train_dataloader`` returned: a loader, or several in a mapping, a list or a CombinedLoader.

        Raises:
            UserError: One of them cannot be shared; the message says why, and what to do.
        """
        return _each(loaders, lambda loader: self._shared(loader, training=True))

    def validation(self, loaders: Any, trainer: Trainer | None) -> Any:
        """This rank's part of validation loaders, or all of them (see ``whole_validation``).

        Args:
            loaders: What ``val_dataloader`` returned.
            trainer: The data module's Trainer, whose module and callbacks are looked at.

        Raises:
            UserError: One of them cannot be shared.
        """
        watched = trainer is not None and not self._always and watches_validation(trainer)
        wholes: list[bool] = []

        def share(loader: Any) -> Any:
            mine = None if watched and not _shared_by_its_user(loader) else self._shared(loader, training=False)
            wholes.append(mine is None)
            return mine

        result = _each(loaders, share)
        self.whole_validation = any(wholes)
        return loaders if self.whole_validation else result

    def _shared(self, loader: Any, *, training: bool) -> Any:
        """The part of one loader; None where the samples of a validation cannot be split evenly."""
        if _shared_by_its_user(loader):
            return loader
        _check_loader(loader, self._name, self._world.ranks)
        units, name = _units_of(loader)
        self._check_lengths(len(_order_of(units)))
        split = self._split(units, training=training)
        if split is None:
            return None
        mine = copy.copy(loader)
        mine.__dict__[name] = RankBatches(units, self._world, split)  # torch forbids to set it by its name
        return mine

    def _check_lengths(self, length: int) -> None:
        most, least = max_over_ranks([float(length), -float(length)], self._world)
        if most != -least:
            raise UserError(
                f"data {self._name} has {-least:.0f} samples on one rank and {most:.0f} on another: all ranks must see"
                " the same data set, of which each then takes its part; where each rank has its own part already, say"
                " so with trainer.lightning: {use_distributed_sampler: false}"
            )

    def _split(self, units: Any, *, training: bool) -> Split | None:
        """How the order of an epoch becomes this rank's batches; None where that is not possible evenly."""
        world, length = self._world, len(_order_of(units))
        if type(units) is not BatchSampler:
            if not training and length % world.ranks:
                return None
            return lambda batches: _padded(batches, world.ranks)[world.rank :: world.ranks]
        size, ranks = units.batch_size, world.ranks
        whole = size * ranks if training else size
        used = length // whole * whole if units.drop_last else length
        if training and not used:
            raise UserError(
                f"data {self._name} has {length} samples, and drop_last leaves them all out: {ranks} ranks need"
                f" {ranks} x {size} samples for one step; lower the batch size or resources.ranks"
            )
        if training:
            return lambda order: _batches(_padded(order[:used], ranks)[world.rank :: ranks], size)
        count = math.ceil(math.ceil(used / ranks) / size)
        if used // ranks < count:
            return None
        return lambda order: _batches(order[:used][world.rank :: ranks], size, count)


class RankBatches:
    """A batch sampler: one rank's batches of each epoch, whose order rank 0 draws. All ranks iterate it together.

    Args:
        units: The user's batch sampler, or a sampler of whole batches.
        world: This rank's place among the trial's ranks.
        split: From an epoch's order to this rank's batches.
    """

    def __init__(self, units: Any, world: World, split: Split) -> None:
        self.sampler = _order_of(units)
        """The user's own sampler, whose ``set_epoch`` Lightning calls."""
        self._world, self._split = world, split
        self._length = len(split(list(range(len(self.sampler)))))

    def __iter__(self) -> Iterator[Any]:
        order = list(self.sampler) if self._world.rank == 0 else None
        yield from self._split(broadcast_object(order, self._world))

    def __len__(self) -> int:
        return self._length


def watches_validation(trainer: Trainer) -> bool:
    """Whether the module or a callback of the user's computes something of its own when a validation ends.

    Args:
        trainer: Holds the module and all callbacks.
    """
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]  # Lightning does not annotate it
    return any(watches_validation_end(type(part)) for part in (trainer.lightning_module, *callbacks))


def watches_validation_end(cls: object) -> bool:
    """Whether a class of the user's has a hook for the end of a validation.

    Args:
        cls: The class of a LightningModule or a Callback; nothing else has such hooks.
    """
    if not (isinstance(cls, type) and issubclass(cls, LightningModule | Callback)):
        return False  # a function that makes one: what it makes is known when it has been called
    hooks = [getattr(cls, name) for name in VALIDATION_END_HOOKS]
    return any(hook.__module__.partition(".")[0] not in _NOT_OF_USERS for hook in hooks)


def check_loaders(loaders: Any, name: str, ranks: int) -> None:
    """Require that loaders can be shared, as :class:`LoaderSharing` will do it, from a process without other ranks.

    Args:
        loaders: What ``train_dataloader`` or ``val_dataloader`` returned.
        name: The data module's name.
        ranks: How many ranks a trial will have.

    Raises:
        UserError: One of them cannot be shared; the message says why, and what to do.
    """
    if ranks > 1:
        _each(loaders, lambda loader: _check_loader(loader, name, ranks))


def _check_loader(loader: Any, name: str, ranks: int) -> None:
    if not _shared_by_its_user(loader) and (reason := _not_shared_because(loader)):
        raise UserError(
            f"data {name} gives {reason}: {ranks} ranks cannot share it from outside. Give a torch DataLoader over a"
            " map-style dataset; or, where each rank reads its own part already (by torch.distributed.get_rank()), say"
            " so with trainer.lightning: {use_distributed_sampler: false}; or set resources.ranks: 1"
        )


def _each(loaders: Any, share: Callable[[Any], Any]) -> Any:
    """``share`` of each loader in what a data module returned."""
    if isinstance(loaders, Mapping):
        return {name: _each(loader, share) for name, loader in loaders.items()}
    if isinstance(loaders, CombinedLoader):
        mine = copy.copy(loaders)
        mine.flattened = [share(loader) for loader in loaders.flattened]
        return mine
    if isinstance(loaders, Sequence) and not isinstance(loaders, str):
        return [_each(loader, share) for loader in loaders]
    return share(loaders)


def _not_shared_because(loader: Any) -> str:
    """What a loader is that cannot be shared; "" where it can."""
    if not isinstance(loader, DataLoader):
        return f"a {type(loader).__name__}, which is no torch DataLoader"
    if isinstance(loader.dataset, IterableDataset):
        return f"a loader over an iterable dataset ({type(loader.dataset).__name__})"
    sampler = _order_of(_units_of(loader)[0])
    if not hasattr(sampler, "__len__"):
        return f"a loader whose sampler ({type(sampler).__name__}) has no length"
    return ""


def _shared_by_its_user(loader: Any) -> bool:
    if not isinstance(loader, DataLoader):
        return False
    samplers = loader.sampler, getattr(loader.batch_sampler, "sampler", None)
    return any(isinstance(sampler, DistributedSampler) for sampler in samplers)


def _units_of(loader: DataLoader[Any]) -> tuple[Any, str]:
    """What a loader iterates, and the attribute that holds it."""
    if loader.batch_sampler is not None:
        return loader.batch_sampler, "batch_sampler"
    return loader.sampler, "sampler"


def _order_of(units: Any) -> Any:
    """What is put in order by rank 0: the samples of torch's own batch sampler, the batches of another one."""
    return units.sampler if type(units) is BatchSampler else units


def _padded(order: list[Any], ranks: int) -> list[Any]:
    """``order`` with as many of its first entries again as make it divisible by ``ranks``."""
    missing = -len(order) % ranks
    return order + (order * missing)[:missing]


def _batches(samples: list[Any], size: int, count: int = 0) -> list[list[Any]]:
    """``samples`` in batches of ``size``, or in ``count`` batches that differ by one where those would be fewer."""
    count = count or math.ceil(len(samples) / size)
    if math.ceil(len(samples) / size) == count:
        return [samples[first : first + size] for first in range(0, len(samples), size)]
    bounds = [len(samples) * number // count for number in range(count + 1)]
    return [samples[first:last] for first, last in itertools.pairwise(bounds)]
