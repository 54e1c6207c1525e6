"""Shorter code in the place of what Lightning does around every step, with the same effects.

Lightning calls some twenty-five hooks in a training step. Around each it formats two texts for a log and a profiler
that are off, and stores the hook's name in the module twice through torch's checks for parameters; before each step and
in each ``self.log`` it reads the signature of ``training_step``; each ``self.log`` moves the whole metric to the device
that it is on; three times a batch it compares the code of both modules' hooks with its own; and it asks some fifteen
times for the Trainer's stage, each time by the lower-case texts of two members of an enumeration. Between the loop and
the optimizer's step lie ten methods of module, strategy, precision and the optimizer's wrapper that only call the next
one, a division of the loss by one, and a clipping of gradients to any size. Of a step of a few milliseconds that is
some percent.

The functions are Lightning's private ones. Each is replaced only where its source is the one that the replacement was
written for, so another version of Lightning runs as it is, only slower; ``tests/training/test_quick_lightning.py``
notices that. Where the profiler of a Trainer measures or Lightning's log is at DEBUG, Lightning's own functions run.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from lightning_utilities.core.enums import StrEnum
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.core import module as core_module
from pytorch_lightning.core.optimizer import LightningOptimizer, do_nothing_closure
from pytorch_lightning.loops import training_epoch_loop
from pytorch_lightning.loops.optimization.automatic import Closure, ClosureResult, _AutomaticOptimization
from pytorch_lightning.loops.training_epoch_loop import _TrainingEpochLoop
from pytorch_lightning.plugins import Precision
from pytorch_lightning.strategies import SingleDeviceStrategy, Strategy
from pytorch_lightning.trainer import call
from pytorch_lightning.trainer.connectors.data_connector import _DataHookSelector
from pytorch_lightning.trainer.connectors.logger_connector import result
from pytorch_lightning.utilities import signature_utils
from torch import Tensor
from torch.optim import Optimizer

from expflow.training.trainer_arguments import NoOpProfiler

_lightning_module_hook: Callable[..., Any] = call._call_lightning_module_hook
_callback_hooks: Callable[..., Any] = call._call_callback_hooks
_strategy_hook: Callable[..., Any] = call._call_strategy_hook
_takes: Callable[..., bool] = signature_utils.is_param_in_hook_signature
_move_metric: Callable[..., Any] = result._ResultMetric.to
_same_text: Callable[..., bool] = StrEnum.__eq__
_optimize: Callable[..., dict[str, Any]] = _AutomaticOptimization.run
_accumulates: Callable[..., bool] = _TrainingEpochLoop._should_accumulate
_owner_of_hook: Callable[..., Any] = _DataHookSelector.get_instance
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
            hook(trainer, module, *args, **kwargs)
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


def _hook_owner(selector: _DataHookSelector, hook_name: str) -> Any:
    """Whose hook for batches is called, the data module's or the module's; each pair of classes is looked at once."""
    module, data = selector.model, selector.datamodule
    if data is None or hook_name in module.__dict__ or hook_name in data.__dict__:
        return _owner_of_hook(selector, hook_name)
    known, classes = selector.__dict__.setdefault("_known_owners", {}), (hook_name, type(module), type(data))
    if classes not in known:
        known[classes] = _owner_of_hook(selector, hook_name) is data
    return data if known[classes] else module


def _should_accumulate(loop: Any) -> bool:
    """Whether the gradients of this batch wait for those of the next."""
    return loop.trainer.accumulate_grad_batches != 1 and _accumulates(loop)


_PASSED_THROUGH = ("backward", "optimizer_step", "optimizer_zero_grad", "configure_gradient_clipping", "clip_gradients")
"""Methods of a module that a step of the optimizer passes through; unless overridden they only call the next one."""


@functools.lru_cache(maxsize=64)
def _overrides_none(module: type[LightningModule]) -> bool:
    return all(getattr(module, name) is getattr(LightningModule, name) for name in _PASSED_THROUGH)


def _is_plain(loop: _AutomaticOptimization, trainer: Any, module: LightningModule, optimizer: Optimizer) -> bool:
    """Whether forward, backward and the optimizer's step are torch's alone."""
    strategy, kind = trainer.strategy, cast(Any, type(module))  # to mypy a class of modules is not hashable
    wrapper = strategy._lightning_optimizers[0]
    return (
        type(strategy) is SingleDeviceStrategy
        and type(strategy.precision_plugin) is Precision
        and strategy.model is module
        and trainer.accumulate_grad_batches == 1
        and not trainer.gradient_clip_val
        and not loop._skip_backward
        and wrapper._optimizer is optimizer
        and wrapper._on_before_step is do_nothing_closure
        and wrapper._on_after_step is do_nothing_closure
        and _overrides_none(kind)
        and module.__dict__.keys().isdisjoint(_PASSED_THROUGH)
    )


def _run_optimization(
    loop: _AutomaticOptimization, optimizer: Optimizer, batch_idx: int, kwargs: OrderedDict[str, Any]
) -> dict[str, Any]:
    """A step of the optimizer, in whose closure are forward and backward."""
    trainer: Any = loop.trainer
    module = trainer.lightning_module
    if not _is_plain(loop, trainer, module, optimizer):
        return _optimize(loop, optimizer, batch_idx, kwargs)
    forward, backward = partial(_training_step, trainer, kwargs), partial(_backward, trainer, module)
    closure = Closure(forward, backward, loop._make_zero_grad_fn(batch_idx, optimizer))

    def forward_and_backward() -> Tensor | None:
        loss = closure()
        _call_callback_hooks(trainer, "on_before_optimizer_step", optimizer)
        _call_module_hook(trainer, "on_before_optimizer_step", optimizer)
        return loss

    progress, attributes = loop.optim_progress.optimizer.step, module.__dict__
    progress.increment_ready()
    before, attributes[_NAME] = attributes[_NAME], "optimizer_step"
    optimizer.step(closure=forward_and_backward)  # type: ignore[arg-type]  # the loss is None where a module gave none
    attributes[_NAME] = before
    progress.increment_completed()
    outcome = closure.consume_result()
    return {} if outcome.loss is None else outcome.asdict()


def _training_step(trainer: Trainer, kwargs: OrderedDict[str, Any]) -> ClosureResult:
    output = _call_module_hook(trainer, "training_step", *kwargs.values())
    return ClosureResult(output) if isinstance(output, Tensor) else ClosureResult.from_training_step_output(output)


def _backward(trainer: Trainer, module: LightningModule, loss: Tensor) -> None:
    attributes = module.__dict__
    before, attributes[_NAME] = attributes[_NAME], "backward"
    _call_callback_hooks(trainer, "on_before_backward", loss)
    _call_module_hook(trainer, "on_before_backward", loss)
    loss.backward()
    _call_callback_hooks(trainer, "on_after_backward")
    _call_module_hook(trainer, "on_after_backward")
    attributes[_NAME] = before


@dataclass(frozen=True)
class Replacement:
    """A function of Lightning's, and what does the same.

    Attributes:
        owner: The module or class in which Lightning looks it up.
        name: Its name there.
        original: Lightning's.
        shorter: Ours.
        source: The first digits of the SHA-256 of Lightning's source, as ours was written for it.
        passed_over: What Lightning's calls and ours does not; their source follows in the digest.
    """

    owner: Any
    name: str
    original: Callable[..., Any]
    shorter: Callable[..., Any]
    source: str
    passed_over: tuple[Callable[..., Any], ...] = ()

    @functools.cached_property
    def fits(self) -> bool:
        """Whether this Lightning's function is the one that ours was written for."""
        try:
            source = "".join(map(inspect.getsource, (self.original, *self.passed_over)))
        except OSError:  # installed without sources
            return False
        return hashlib.sha256(source.encode()).hexdigest().startswith(self.source)


_BETWEEN_LOOP_AND_OPTIMIZER = (
    _AutomaticOptimization._make_closure,
    _AutomaticOptimization._optimizer_step,
    _AutomaticOptimization._training_step,
    ClosureResult.from_training_step_output,
    *(getattr(LightningModule, name) for name in _PASSED_THROUGH),
    LightningOptimizer.step,
    *(getattr(Strategy, name) for name in ("optimizer_step", "training_step", "backward")),
    *(getattr(Strategy, name) for name in ("pre_backward", "post_backward", "post_training_step")),
    SingleDeviceStrategy,
    Precision,
    Precision.forward_context,
)

REPLACEMENTS = (
    Replacement(call, "_call_lightning_module_hook", _lightning_module_hook, _call_module_hook, "558a87d04c4680e1"),
    Replacement(call, "_call_callback_hooks", _callback_hooks, _call_callback_hooks, "c413fb9a6a9ce1a3"),
    Replacement(call, "_call_strategy_hook", _strategy_hook, _call_strategy_hook, "ff429e3ac60d2a80"),
    Replacement(training_epoch_loop, "is_param_in_hook_signature", _takes, _takes_parameter, "6bd4f22c778d7ccc"),
    Replacement(core_module, "is_param_in_hook_signature", _takes, _takes_parameter, "6bd4f22c778d7ccc"),
    Replacement(StrEnum, "__eq__", _same_text, _same_member, "725f281057c839f6"),
    Replacement(_DataHookSelector, "get_instance", _owner_of_hook, _hook_owner, "3abe90f0b162ec28"),
    Replacement(_TrainingEpochLoop, "_should_accumulate", _accumulates, _should_accumulate, "5482f0c6d473fd66"),
    Replacement(
        _AutomaticOptimization,
        "run",
        _optimize,
        _run_optimization,
        "882cad17a508fad6",
        passed_over=_BETWEEN_LOOP_AND_OPTIMIZER,
    ),
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
