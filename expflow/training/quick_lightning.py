"""Shorter code in the place of what Lightning does around every step, with the same effects.

Lightning calls some twenty-five hooks in a training step. Around each it formats two texts for a log and a profiler
that are off, and stores the hook's name in the module twice through torch's checks for parameters; before each step and
in each ``self.log`` it reads the signature of ``training_step``; each ``self.log`` moves the whole metric to the device
that it is on; and it asks some fifteen times for the Trainer's stage, each time by the lower-case texts of two members
of an enumeration. Of a step of a few milliseconds in a module of the user's that is some percent.

The functions are Lightning's private ones. Each is replaced only where its source is the one that the replacement was
written for, so another version of Lightning runs as it is, only slower; ``tests/training/test_quick_lightning.py``
notices that. Where the profiler of a Trainer measures or Lightning's log is at DEBUG, Lightning's own functions run.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from lightning_utilities.core.enums import StrEnum
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.core import module as core_module
from pytorch_lightning.loops import training_epoch_loop
from pytorch_lightning.trainer import call
from pytorch_lightning.trainer.connectors.logger_connector import result
from pytorch_lightning.utilities import signature_utils

from expflow.training.trainer_arguments import NoOpProfiler

_lightning_module_hook: Callable[..., Any] = call._call_lightning_module_hook
_callback_hooks: Callable[..., Any] = call._call_callback_hooks
_strategy_hook: Callable[..., Any] = call._call_strategy_hook
_takes: Callable[..., bool] = signature_utils.is_param_in_hook_signature
_move_metric: Callable[..., Any] = result._ResultMetric.to
_same_text: Callable[..., bool] = StrEnum.__eq__
_NAME = "_current_fx_name"
"""Where a module holds the name of the hook that runs, which ``self.log`` asks for."""


def _call_module_hook(
    trainer: Trainer, hook_name: str, *args: Any, pl_module: LightningModule | None = None, **kwargs: Any
) -> Any:
    """Call a hook of the module, or of a module that is given."""
    module = pl_module or trainer.lightning_module
    if module is None:  # Lightning raises
        return _lightning_module_hook(trainer, hook_name, *args, pl_module=pl_module, **kwargs)
    hook = getattr(module, hook_name)
    if not callable(hook):
        return None
    attributes = module.__dict__
    before, attributes[_NAME] = attributes[_NAME], hook_name
    output = hook(*args, **kwargs)
    attributes[_NAME] = before
    return output


def _call_callback_hooks(trainer: Trainer, hook_name: str, *args: Any, **kwargs: Any) -> None:
    """Call a hook of all callbacks."""
    if "monitoring_callbacks" in kwargs:
        _callback_hooks(trainer, hook_name, *args, **kwargs)
        return
    module = trainer.lightning_module
    attributes: dict[str, Any] = module.__dict__ if module else {_NAME: None}
    before, attributes[_NAME] = attributes[_NAME], hook_name
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]  # Lightning does not annotate it
    for callback in callbacks:
        hook = getattr(callback, hook_name)
        if callable(hook):
            hook(trainer, trainer.lightning_module, *args, **kwargs)
    attributes[_NAME] = before


def _call_strategy_hook(trainer: Trainer, hook_name: str, *args: Any, **kwargs: Any) -> Any:
    """Call a hook of the strategy."""
    attributes = trainer.lightning_module.__dict__
    before, attributes[_NAME] = attributes[_NAME], hook_name
    hook = getattr(trainer.strategy, hook_name)
    if not callable(hook):
        return None  # the name stays, as with Lightning
    output = hook(*args, **kwargs)
    attributes[_NAME] = before
    return output


def _takes_parameter(hook_fx: Any, param: str, explicit: bool = False, min_args: int | None = None) -> bool:
    """Whether a hook takes a parameter; each function is looked at once."""
    function = getattr(hook_fx, "__func__", None)
    if function is None or hasattr(hook_fx, "__wrapped__"):
        return _takes(hook_fx, param, explicit=explicit, min_args=min_args)
    return _function_takes(function, param, explicit, min_args)


@functools.lru_cache(maxsize=64)
def _function_takes(function: Any, param: str, explicit: bool, min_args: int | None) -> bool:
    return _takes(function, param, explicit=explicit, min_args=min_args)


def _moved_metric(metric: Any, *where: Any, **named: Any) -> Any:
    """Move a logged metric to a device, unless it was moved there before and its value is still there."""
    attributes = metric.__dict__
    if not metric.is_tensor or named or len(where) != 1:
        return _move_metric(metric, *where, **named)
    if attributes.get("_moved_to") != where[0] or metric.value.device != where[0]:
        _move_metric(metric, *where)
        attributes["_moved_to"] = where[0]
    return metric


def _same_member(member: StrEnum, other: object) -> bool:
    """Whether two members have the same text in lower case."""
    return member is other or _same_text(member, other)


@dataclass(frozen=True)
class Replacement:
    """A function of Lightning's, and what does the same.

    Attributes:
        owner: The module or class in which Lightning looks it up.
        name: Its name there.
        original: Lightning's.
        shorter: Ours.
        source: The first digits of the SHA-256 of Lightning's source, as ours was written for it.
    """

    owner: Any
    name: str
    original: Callable[..., Any]
    shorter: Callable[..., Any]
    source: str

    @functools.cached_property
    def fits(self) -> bool:
        """Whether this Lightning's function is the one that ours was written for."""
        try:
            source = inspect.getsource(self.original)
        except OSError:  # installed without sources
            return False
        return hashlib.sha256(source.encode()).hexdigest().startswith(self.source)


REPLACEMENTS = (
    Replacement(call, "_call_lightning_module_hook", _lightning_module_hook, _call_module_hook, "558a87d04c4680e1"),
    Replacement(call, "_call_callback_hooks", _callback_hooks, _call_callback_hooks, "c413fb9a6a9ce1a3"),
    Replacement(call, "_call_strategy_hook", _strategy_hook, _call_strategy_hook, "ff429e3ac60d2a80"),
    Replacement(training_epoch_loop, "is_param_in_hook_signature", _takes, _takes_parameter, "6bd4f22c778d7ccc"),
    Replacement(core_module, "is_param_in_hook_signature", _takes, _takes_parameter, "6bd4f22c778d7ccc"),
    Replacement(StrEnum, "__eq__", _same_text, _same_member, "725f281057c839f6"),
    Replacement(result._ResultMetric, "to", _move_metric, _moved_metric, "f45ccd7696961427"),
)
"""All of them."""


@contextmanager
def quick_steps(trainer: Trainer) -> Iterator[None]:
    """In the body Lightning runs the shorter code, unless its profiler measures or its log is at DEBUG.

    Args:
        trainer: Whose steps run in the body.
    """
    profiler: Any = trainer.profiler  # type: ignore[attr-defined]  # Lightning does not annotate it
    observed = not isinstance(profiler, NoOpProfiler) or call.log.isEnabledFor(logging.DEBUG)
    replaced = () if observed else tuple(replacement for replacement in REPLACEMENTS if replacement.fits)
    for replacement in replaced:
        setattr(replacement.owner, replacement.name, replacement.shorter)
    try:
        yield
    finally:
        for replacement in replaced:
            setattr(replacement.owner, replacement.name, replacement.original)
