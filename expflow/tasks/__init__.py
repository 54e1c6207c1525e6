"""Tasks: what is learned and measured, as LightningModules.

Importing this package imports neither torch nor Lightning.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from expflow.architectures import NetworkCost, supplied_by
from expflow.config.component_specs import task_spec
from expflow.config.schema import Recipe
from expflow.config.spec import Spec, UserComponent
from expflow.data.dataspec import DataSpec
from expflow.errors import ExpflowError, UserError
from expflow.lightning_alias import two_lightnings
from expflow.registry import construct, load_dotted

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule

__all__ = ["build_task", "cost"]

BUILT_SLOTS = ("model", "loss", "optimizer", "schedule")
"""The slots whose components a task receives; ``data`` reaches it as batches and as a DataSpec."""


def _filled(slot: Spec | Mapping[str, Spec], make: Callable[[Spec], Any]) -> Any:
    """The component of a slot, or a dict of components under the user's names."""
    return {name: make(spec) for name, spec in slot.items()} if isinstance(slot, Mapping) else make(slot)


def _build_slots(recipe: Recipe, data_spec: DataSpec) -> dict[str, Any]:
    """The recipe's slots, built: networks, losses, and factories of optimizers and schedules."""
    from torch import nn

    from expflow import architectures, losses, optim

    half = recipe.trainer.precision == "16-mixed"
    clipped = recipe.trainer.clip_norm is not None or recipe.trainer.clip_value is not None
    later = recipe.init.frozen if recipe.init is not None and recipe.init.unfreeze_after is not None else ()
    named = not isinstance(recipe.task, UserComponent)  # what a user's task hands to its optimizer may have other names
    fused = not (half and clipped) and (named or not later)
    makers: dict[str, Callable[[Spec], Any]] = {
        "model": lambda spec: architectures.build(spec, data_spec),
        "loss": lambda spec: losses.build(spec, data_spec),
        "optimizer": lambda spec: optim.build_optimizer(
            _scaled(spec, recipe), fused=fused, later=later if named else ()
        ),
        "schedule": optim.build_schedule,
    }
    slots = {
        name: _filled(getattr(recipe, name), makers[name]) for name in BUILT_SLOTS if getattr(recipe, name) is not None
    }
    for name, slot in slots.items():
        if isinstance(slot, dict) and all(isinstance(component, nn.Module) for component in slot.values()):
            slots[name] = nn.ModuleDict(slot)  # so that a task that keeps it owns the weights
    return slots


def _scaled(spec: Spec, recipe: Recipe) -> Spec:
    """The optimizer with the rates that ``init`` gives to parts of the network; the schema allows one of the two."""
    scales = recipe.init.lr_scale if recipe.init is not None else {}
    return spec.model_copy(update={"lr_scale": scales}) if scales else spec


def _build_registered(spec: Spec, slots: Mapping[str, Any], data_spec: DataSpec) -> Any:
    """A registered task; it receives exactly the slots that its spec declares."""
    declared = frozenset(BUILT_SLOTS) & task_spec(spec).slots
    missing, unused = sorted(declared - set(slots)), sorted(set(slots) - declared)
    if missing:
        raise UserError(f"task {spec.name} needs {', '.join(missing)}: say which in the recipe")
    if unused:
        raise UserError(f"task {spec.name} takes no {', '.join(unused)}: remove it from the recipe")
    return load_dotted(spec.build)(spec, data_spec, **slots)


def _build_user_task(spec: UserComponent, slots: Mapping[str, Any], data_spec: DataSpec) -> Any:
    """The user's own task; a slot that the recipe fills and its constructor does not take is an error."""
    import inspect

    parameters = inspect.signature(load_dotted(spec.name)).parameters
    unused = [name for name in slots if name not in parameters]
    if unused:
        takes = ", ".join(name for name in BUILT_SLOTS if name in parameters) or "no slots"
        raise UserError(
            f"task {spec.name} has no parameter {unused[0]!r}; it takes {takes}: remove {', '.join(unused)}"
        )
    return construct(spec.name, spec.arguments, supplied_by(data_spec) | dict(slots))


def build_task(recipe: Recipe, data_spec: DataSpec) -> LightningModule:
    """The recipe's task with its networks, losses, optimizers and schedules.

    The user's own task is any LightningModule. A slot that its constructor names is passed to it built: ``model`` a
    module (a ``ModuleDict`` where the recipe names several), ``loss`` a callable (output, target), ``optimizer`` a
    factory (params) and ``schedule`` a factory (optimizer, total_steps, steps_per_epoch), or dicts of these; likewise
    ``data_spec``, ``num_classes``, ``in_channels`` and ``image_size``.

    Args:
        recipe: What trains one model.
        data_spec: The images and classes that it is trained on.

    Raises:
        UserError: It cannot be built; the message has the reason.
    """
    from pytorch_lightning import LightningModule

    spec = recipe.task
    if isinstance(spec, Mapping):
        raise UserError(f"a recipe has one task, and this one names {len(spec)}: {', '.join(spec)}")
    slots = _build_slots(recipe, data_spec)
    try:
        if isinstance(spec, UserComponent):
            task = _build_user_task(spec, slots, data_spec)
        else:
            task = _build_registered(spec, slots, data_spec)
    except ExpflowError:
        raise
    except Exception as error:  # a constructor of the user's may raise anything: it is their reason
        raise UserError(f"task {spec.name} cannot be built: {type(error).__name__}: {error}") from error
    if not isinstance(task, LightningModule):
        raise UserError(f"task {spec.name} is a {type(task).__name__}; a LightningModule is needed{two_lightnings()}")
    if recipe.trainer.channels_last:  # images follow the weights they meet first
        import torch

        task.to(memory_format=torch.channels_last)
    return task


_COUNTS: dict[str, NetworkCost] = {}
_MOST_COUNTS = 256
"""Counts that a process keeps; then it begins anew."""


def cost(recipe: Recipe, data_spec: DataSpec) -> NetworkCost:
    """Parameters and multiply-adds of what the recipe trains, built on the meta device.

    Counted once in a process for each network and data: trials of many rates or seeds share it.

    Only a task of ours fixes what enters its network; for the user's own the multiply-adds are None where the network
    does not take an image, and a task without a model slot counts with its own parameters.

    Args:
        recipe: What trains one model.
        data_spec: The images and classes that it is trained on.

    Raises:
        UserError: A network cannot be built; the message has the reason.
    """
    if not isinstance(recipe.model, Spec) or isinstance(recipe.model, UserComponent):
        return _count(recipe, data_spec)  # a name of the user's may stand for other code later
    key = repr((recipe.model, isinstance(recipe.task, UserComponent), data_spec))
    if key not in _COUNTS:
        if len(_COUNTS) >= _MOST_COUNTS:
            _COUNTS.clear()
        _COUNTS[key] = _count(recipe, data_spec)
    return _COUNTS[key]


def _count(recipe: Recipe, data_spec: DataSpec) -> NetworkCost:
    from expflow.architectures import count
    from expflow.architectures.accounting import count_network, count_task

    if recipe.model is None:
        return count_task(lambda: build_task(recipe, data_spec))
    if isinstance(recipe.model, Mapping) or not isinstance(recipe.task, UserComponent):
        return count(recipe.model, data_spec)
    try:
        return count(recipe.model, data_spec)
    except UserError:  # it may take something else than the image; that it cannot be built is still an error
        return count_network(recipe.model, data_spec, forward=False)
