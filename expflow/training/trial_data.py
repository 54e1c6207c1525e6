"""Where a trial's batches come from: prepared shards, the user's own LightningDataModule, or their LightningModule."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from pytorch_lightning import LightningDataModule, LightningModule

from expflow.config.component_specs import task_spec
from expflow.config.schema import Recipe
from expflow.config.spec import UserComponent
from expflow.data.dataspec import DataSpec
from expflow.data.source_spec import ShardedSourceSpec
from expflow.errors import UserError
from expflow.lightning_alias import two_lightnings
from expflow.registry import construct, load_dotted
from expflow.tasks import build_task
from expflow.training.contract import Attempt, World
from expflow.training.data_preparation import prepare_once
from expflow.training.shared_loaders import LoaderSharing, check_loaders, watches_validation_end
from expflow.training.slot_loaders import SlotLoaders
from expflow.training.task_loaders import TaskLoaders, overrides, task_loaders
from expflow.training.transfer.pseudo_labels import PseudoLabels, pseudo_labels

Batches = Iterable[Any]


@dataclass(frozen=True)
class TrialData:
    """The loaders of one trial.

    Attributes:
        spec: What the network knows of the data.
        train: The training set, in a new order each epoch.
        val: The val split in a fixed order; None where there is none.
        train_in_order: The training set in a fixed order, which ``fit/*`` is measured on; None where it is unknown.
        module: The user's LightningDataModule, which then gives ``train`` and ``val`` itself; where the file names no
            data, a :class:`TaskLoaders` of the user's task.
        sharing: How the ranks share the loaders of ``module``; None where each rank reads them as they are.
        whole_val: Whether ``val`` has all samples on each rank.
        pseudo_labels: What a classifier gives the training set as labels; None where they are its own.
    """

    spec: DataSpec
    train: Batches | None = None
    val: Batches | None = None
    train_in_order: Batches | None = None
    module: Any = None
    sharing: LoaderSharing | None = None
    whole_val: bool = False
    pseudo_labels: PseudoLabels | None = None

    @property
    def validates_whole(self) -> bool:
        """Whether every rank validates all samples, in the newest validation."""
        return self.whole_val or (self.sharing is not None and self.sharing.whole_validation)

    @property
    def fit_arguments(self) -> dict[str, Any]:
        """What Lightning's ``Trainer.fit`` is called with."""
        if self.module is not None:
            return {"datamodule": self.module}
        return {"train_dataloaders": self.train, "val_dataloaders": self.val}

    def wrap_train_loader(self, wrap: Callable[[Any], Any]) -> TrialData:
        """The data with something in the place of the training loader.

        A module of the user's is changed for it, and then is that of these data and of the result alike: it was made
        for this trial.

        Args:
            wrap: Called with the training loader; returns what takes its place.
        """
        if self.module is None:
            return replace(self, train=wrap(self.train))
        _wrap_result(self.module, "train_dataloader", wrap)
        return self

    @property
    def validation_argument(self) -> Any:
        """What Lightning's ``Trainer.validate`` is called with; None where there is nothing to validate on."""
        if self.module is None:
            return self.val
        return self.module if overrides(self.module, "val_dataloader") else None


def open_trial_data(attempt: Attempt, world: World) -> TrialData:
    """The data of a trial for one rank, as far as they do not come from its task: see :func:`with_task`.

    Args:
        attempt: The trial.
        world: The rank's place among the trial's ranks.

    Raises:
        UserError: The recipe's data cannot be opened.
    """
    spec = attempt.recipe.data
    fit_on = attempt.recipe.trainer.fit_on
    source = attempt.recipe.task if spec is None else spec
    if isinstance(source, UserComponent):
        if fit_on != "train":
            raise UserError(
                f"trainer.fit_on: {fit_on} joins splits of prepared shards; {source.name} has its own loaders"
            )
        return _from_user_module(source, attempt, world) if spec is not None else TrialData(DataSpec(fields={}))
    if isinstance(spec, Mapping) and not _sources_of(attempt.recipe.task):
        raise UserError(f"the task takes one data source, and the recipe names {len(spec)}: {', '.join(spec)}")
    if spec is None or attempt.data_root is None:
        raise UserError("there is nothing to train on: the recipe names no data, or they were not prepared")
    if isinstance(spec, Mapping):
        slots = SlotLoaders(attempt, world)
        return TrialData(slots.spec, slots.train, slots.val, slots.train_in_order)
    return _from_shards(cast(ShardedSourceSpec, spec), attempt.data_root, attempt, world)


def _sources_of(task: Any) -> tuple[str, ...]:
    """The slots for data of a recipe's task; none where it takes one source."""
    return () if isinstance(task, UserComponent) else task_spec(task).sources


def with_task(data: TrialData, task: LightningModule, attempt: Attempt, world: World) -> TrialData:
    """The data with the loaders of the trial's task, where the recipe names no data.

    A task's ``prepare_data`` runs once on each machine, with any data.

    Args:
        data: What :func:`open_trial_data` gave.
        task: The task that was built from them.
        attempt: The trial.
        world: The rank's place among the trial's ranks. All ranks have to call this.

    Raises:
        UserError: The task has no loader of training batches, and there are no other data.
    """
    spec = attempt.recipe.task
    if not isinstance(spec, UserComponent):
        return data
    prepare_once(task, spec.name, None, world)
    if attempt.recipe.data is not None:
        if data.module is None and data.val is None:  # Lightning would take the task's own in their place
            task.val_dataloader = types.MethodType(LightningModule.val_dataloader, task)  # type: ignore[method-assign]
        return data
    if not overrides(task, "train_dataloader"):
        raise UserError(f"there is nothing to train on: the recipe names no data, and {spec.name} has no loaders")
    module = task_loaders(task)
    sharing = _share(module, f"of {spec.name}", attempt.recipe, world)
    return replace(data, module=module, sharing=sharing)


def split_loader(attempt: Attempt, world: World, data: TrialData, split: str) -> Any:
    """The batches of a split for evaluation: what Lightning's ``Trainer.validate`` takes.

    The order of val and test is that of the shards. Train comes as it is trained on, shuffled by the trial's seed.

    Args:
        attempt: The trial.
        world: The rank's place among the trial's ranks.
        data: The trial's data.
        split: Name of the split.

    Raises:
        UserError: The data have no such split, were not prepared, or val was trained on.
    """
    spec = attempt.recipe.data
    if data.module is not None:
        return _split_of_user_module(data.module, split)
    from expflow.data.shards.manifest import read_manifest
    from expflow.data.streaming.loader import loader_for

    if attempt.data_root is None:
        raise UserError("there is nothing to evaluate on: the data were not prepared")
    if isinstance(spec, Mapping):
        return SlotLoaders(attempt, world).of(split)
    if split == "val" and attempt.recipe.trainer.fit_on != "train":
        raise UserError("val was trained on (trainer.fit_on: train+val): what it gave would say nothing")
    if not read_manifest(attempt.data_root).splits.get(split):
        raise UserError(f"the data have no split {split!r}")
    options = {"rank": world.rank, "ranks": world.ranks, "threads": world.threads}
    shuffle = split == "train"
    split = attempt.recipe.trainer.fit_on if shuffle else split
    source = cast(ShardedSourceSpec, spec)
    loader = loader_for(source, attempt.data_root, split, seed=attempt.seed, shuffle=shuffle, **options)
    given = data.pseudo_labels if shuffle else None
    return given.in_place_of_own(loader) if given is not None else loader


def check_shareable(attempt: Attempt, ranks: int) -> None:
    """Require that the ranks of a trial can share the loaders of the user's data module, before there are ranks.

    Args:
        attempt: The trial.
        ranks: How many it will have.

    Raises:
        UserError: A loader cannot be shared; the message says why, and what to do.
    """
    recipe, world = attempt.recipe, World()
    wanted = recipe.trainer.lightning.get("use_distributed_sampler")
    source = recipe.task if recipe.data is None else recipe.data
    if ranks == 1 or wanted is False or not isinstance(source, UserComponent):
        return
    data = open_trial_data(attempt, world)
    name = source.name
    if recipe.data is None:
        data, name = with_task(data, build_task(recipe, data.spec), attempt, world), f"of {name}"
    check_loaders(_split_of_user_module(data.module, "train"), name, ranks)
    if data.validation_argument is not None and not _watches_validation(recipe):
        check_loaders(_split_of_user_module(data.module, "val"), name, ranks)


def _split_of_user_module(module: Any, split: str) -> Any:
    owner, name = module.task if isinstance(module, TaskLoaders) else module, f"{split}_dataloader"
    if not overrides(module, name):
        what = "task" if owner is not module else "data"
        raise UserError(f"{what} {type(owner).__name__} has no {name}: there is nothing to evaluate on")
    owner.prepare_data()
    owner.setup({"train": "fit", "val": "validate"}.get(split, split))
    return getattr(module, name)()


def _from_shards(spec: ShardedSourceSpec, root: Path, attempt: Attempt, world: World) -> TrialData:
    """The splits under ``root``; the order of what is trained on follows from seed and epoch, the others are fixed.

    With ``trainer.fit_on: train+val`` nothing is left to validate on.
    """
    from expflow.data.prepare.prepared import data_spec
    from expflow.data.shards.manifest import read_manifest
    from expflow.data.streaming.loader import Loader, loader_for

    def loader(split: str, *, shuffle: bool = False, whole: bool = False) -> Loader:
        place = {"rank": 0, "ranks": 1} if whole else {"rank": world.rank, "ranks": world.ranks}
        loader = loader_for(spec, root, split, seed=attempt.seed, shuffle=shuffle, threads=world.threads, **place)
        return given.in_place_of_own(loader) if given is not None and split != "val" else loader

    given = pseudo_labels(attempt, world)
    manifest, fit_on = read_manifest(root), attempt.recipe.trainer.fit_on
    whole = world.ranks > 1 and _watches_validation(attempt.recipe)
    val = loader("val", whole=whole) if manifest.splits.get("val") and fit_on == "train" else None
    return TrialData(
        data_spec(manifest, spec),
        loader(fit_on, shuffle=True),
        val,
        train_in_order=loader(fit_on, whole=whole),
        whole_val=whole,
        pseudo_labels=given,
    )


def _watches_validation(recipe: Recipe) -> bool:
    """Whether the user's task or a callback of theirs computes something of its own when a validation ends."""
    if recipe.trainer.lightning.get("use_distributed_sampler") is True:
        return False
    named = [recipe.task] if isinstance(recipe.task, UserComponent) else []
    return any(watches_validation_end(load_dotted(spec.name)) for spec in (*named, *recipe.trainer.callbacks))


def _from_user_module(spec: UserComponent, attempt: Attempt, world: World) -> TrialData:
    """The user's LightningDataModule; its DataSpec, where it has one, is its attribute ``data_spec``."""
    module = construct(spec.name, spec.arguments, {"seed": attempt.seed})
    if not isinstance(module, LightningDataModule):
        raise UserError(
            f"data {spec.name} is a {type(module).__name__}; a LightningDataModule is needed{two_lightnings()}"
        )
    prepare_once(module, spec.name, spec.arguments, world)
    return TrialData(
        getattr(module, "data_spec", None) or DataSpec(fields={}),
        module=module,
        sharing=_share(module, spec.name, attempt.recipe, world),
    )


def _share(module: Any, name: str, recipe: Recipe, world: World) -> LoaderSharing | None:
    """Have the loaders of the user's module give this rank's part, unless the recipe says that they do already."""
    wanted = recipe.trainer.lightning.get("use_distributed_sampler")
    if world.ranks == 1 or wanted is False:
        return None
    sharing = LoaderSharing(name, world, always=wanted is True)
    _wrap_result(module, "train_dataloader", sharing.training)
    _wrap_result(module, "val_dataloader", lambda loaders: sharing.validation(loaders, module.trainer))
    return sharing


def _wrap_result(module: Any, method: str, wrap: Callable[[Any], Any]) -> None:
    """Pass what a method of the user's module returns through ``wrap``."""
    original = getattr(module, method)

    @functools.wraps(original)  # Lightning looks behind it for whether the user wrote one
    def wrapped() -> Any:
        return wrap(original())

    wrapped.__wrapped__ = getattr(original, "__wrapped__", original)  # it looks behind one wrapper alone
    setattr(module, method, wrapped)
