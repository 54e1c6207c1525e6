"""Where a trial's batches come from: prepared shards, or the user's own LightningDataModule."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from expflow.config.spec import Foreign
from expflow.data.dataspec import DataSpec
from expflow.data.specs import Source
from expflow.errors import UserError
from expflow.registry import construct
from expflow.training.contract import Attempt, World

Batches = Iterable[Any]


@dataclass(frozen=True)
class Feed:
    """The loaders of one trial. ``fit`` is the training set in a fixed order, for ``fit/*``; None where it is unknown.

    ``module`` is the user's LightningDataModule, which then gives ``train`` and ``val`` itself.
    """

    spec: DataSpec
    train: Batches | None = None
    val: Batches | None = None
    fit: Batches | None = None
    module: Any = None

    @property
    def for_fit(self) -> dict[str, Any]:
        """What Lightning's ``Trainer.fit`` is called with."""
        if self.module is not None:
            return {"datamodule": self.module}
        return {"train_dataloaders": self.train, "val_dataloaders": self.val}

    def watched(self, watch: Callable[[Any], Any]) -> Feed:
        """The same feed with ``watch(loader)`` in the place of its training loader."""
        if self.module is None:
            return replace(self, train=watch(self.train))
        made = self.module.train_dataloader

        @functools.wraps(made)  # Lightning looks behind it for whether the user wrote one
        def train_dataloader() -> Any:
            return watch(made())

        self.module.train_dataloader = train_dataloader
        return self

    @property
    def for_validation(self) -> Any:
        """What Lightning's ``Trainer.validate`` is called with; None where there is nothing to validate on."""
        from pytorch_lightning import LightningDataModule

        if self.module is None:
            return self.val
        has_val = type(self.module).val_dataloader is not LightningDataModule.val_dataloader
        return self.module if has_val else None


def open_feed(attempt: Attempt, world: World) -> Feed:
    """The feed of ``attempt`` for one rank. Raises :class:`UserError` where the recipe's data cannot be opened."""
    spec = attempt.recipe.data
    if isinstance(spec, Mapping):
        raise UserError(f"a recipe trains on one data source, and this one names {len(spec)}: {', '.join(spec)}")
    fit_on = attempt.recipe.trainer.fit_on
    if isinstance(spec, Foreign):
        if fit_on != "train":
            raise UserError(
                f"trainer.fit_on: {fit_on} joins splits of prepared shards; {spec.name} has its own loaders"
            )
        return _own_module(spec, attempt.seed)
    if spec is None or attempt.data_root is None:
        raise UserError("there is nothing to train on: the recipe names no data, or they were not prepared")
    return _from_shards(cast(Source, spec), attempt.data_root, attempt.seed, world, fit_on)


def split_of(attempt: Attempt, world: World, feed: Feed, split: str) -> Any:
    """``feed``'s batches of ``split`` for evaluation, in a fixed order: what Lightning's ``Trainer.validate`` takes.

    ``train`` are batches as they are trained on. Raises :class:`UserError` where the data have no such split.
    """
    spec = attempt.recipe.data
    if feed.module is None:
        from expflow.data.loader import loader_for
        from expflow.data.manifest import read_manifest

        if attempt.data_root is None:
            raise UserError("there is nothing to evaluate on: the data were not prepared")
        if split == "val" and attempt.recipe.trainer.fit_on != "train":
            raise UserError("val was trained on (trainer.fit_on: train+val): what it gave would say nothing")
        if not read_manifest(attempt.data_root).splits.get(split):
            raise UserError(f"the data have no split {split!r}")
        options = {"rank": world.rank, "ranks": world.ranks, "threads": world.threads}
        shuffle = split == "train"
        split = attempt.recipe.trainer.fit_on if shuffle else split
        return loader_for(cast(Source, spec), attempt.data_root, split, seed=attempt.seed, shuffle=shuffle, **options)
    return _own_split(feed.module, split)


def _own_split(module: Any, split: str) -> Any:
    """A split of the user's own LightningDataModule."""
    from pytorch_lightning import LightningDataModule

    name = f"{split}_dataloader"
    if getattr(type(module), name) is getattr(LightningDataModule, name):
        raise UserError(f"data {type(module).__name__} has no {name}: there is nothing to evaluate on")
    module.prepare_data()
    module.setup({"train": "fit", "val": "validate"}.get(split, split))
    return getattr(module, name)()


def _from_shards(spec: Source, root: Path, seed: int, world: World, fit_on: str) -> Feed:
    """The splits under ``root``; the order of what is trained on follows from ``seed`` and epoch, the others are fixed.

    ``fit_on`` is ``train`` or ``train+val``, which leaves nothing to validate on.
    """
    from expflow.data.build import data_spec
    from expflow.data.loader import Loader, loader_for
    from expflow.data.manifest import read_manifest

    def loader(split: str, *, shuffle: bool = False) -> Loader:
        options = {"rank": world.rank, "ranks": world.ranks, "threads": world.threads}
        return loader_for(spec, root, split, seed=seed, shuffle=shuffle, **options)

    manifest = read_manifest(root)
    val = loader("val") if manifest.splits.get("val") and fit_on == "train" else None
    return Feed(data_spec(manifest, spec), loader(fit_on, shuffle=True), val, fit=loader(fit_on))


def _own_module(spec: Foreign, seed: int) -> Feed:
    """The user's LightningDataModule; its DataSpec, where it has one, is its attribute ``data_spec``."""
    from pytorch_lightning import LightningDataModule

    module = construct(spec.name, spec.arguments, {"seed": seed})
    if not isinstance(module, LightningDataModule):
        raise UserError(f"data {spec.name} is a {type(module).__name__}; a LightningDataModule is needed")
    return Feed(getattr(module, "data_spec", None) or DataSpec(fields={}), module=module)
