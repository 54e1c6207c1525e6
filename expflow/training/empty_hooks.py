"""Hooks that do nothing are not called in a step: of a step of a few milliseconds they would take some percent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from pytorch_lightning import LightningModule
from pytorch_lightning.callbacks import Callback

STEP_HOOKS = (
    "on_train_batch_start",
    "on_train_batch_end",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
)
"""What Lightning calls in each training step, of the module and of each callback, whether or not it is overridden.
Hooks of validation are called as well, but asked for their signature before."""


@contextmanager
def without_empty_hooks(owners: Iterable[LightningModule | Callback]) -> Iterator[None]:
    """In the body the hooks of a step that nobody has overridden are None, which Lightning does not call.

    Args:
        owners: The module, and the callbacks.
    """
    hidden = [(owner, hook) for owner in owners for hook in STEP_HOOKS if _is_empty(owner, hook)]
    for owner, hook in hidden:
        owner.__dict__[hook] = None
    try:
        yield
    finally:
        for owner, hook in hidden:
            if owner.__dict__.get(hook) is None:  # what was set meanwhile is somebody's own
                owner.__dict__.pop(hook, None)


def _is_empty(owner: LightningModule | Callback, hook: str) -> bool:
    base = LightningModule if isinstance(owner, LightningModule) else Callback
    return hook not in vars(owner) and getattr(type(owner), hook, None) is getattr(base, hook)
