"""Whether a training can go on beyond the length that it was planned for. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from expflow.config.schema import Recipe
from expflow.config.spec import UserComponent

OPEN_ENDED = frozenset({"constant", "step", "multi_step", "triangular", "plateau"})
"""The schedules that know epochs, steps or metrics, but not how long the training is."""

LENGTHS = ("T_max", "total_steps", "total_iters")
"""What torch's own schedules call the length that they were built for."""


def schedule_allows_extension(old: Recipe, new: Recipe) -> str | None:
    """Why a trial cannot be trained on to a longer budget; None where it can.

    A schedule that is planned for the whole length (a cosine, one cycle) has led the rate to its end: going on from
    there is not what a longer training would have been. Of schedules inside a task of the user's nothing is known
    here; :func:`schedule_mismatch` compares them when the trial resumes.

    Args:
        old: The trial's recipe when it was trained.
        new: The same recipe with more epochs.
    """
    if old.trainer.epochs == new.trainer.epochs:
        return None
    slot = new.schedule
    for spec in slot.values() if isinstance(slot, Mapping) else [slot] if slot is not None else []:
        if isinstance(spec, UserComponent):
            return f"schedule {spec.name} is told the number of steps, and may plan its course by it"
        if spec.name not in OPEN_ENDED:
            return f"schedule {spec.name} plans its course by the length of the training, {old.trainer.epochs} epochs"
    return None


def schedule_mismatch(saved: Sequence[Mapping[str, Any]], fresh: Sequence[Mapping[str, Any]]) -> str | None:
    """Why saved schedules were built for another length; None where they were not.

    Args:
        saved: States of the schedules in the checkpoint.
        fresh: States of the schedules just built for the longer training, in the same order.
    """
    for before, after in zip(saved, fresh, strict=False):
        for key in LENGTHS:
            if before.get(key) != after.get(key):
                return f"its schedule was built for {key} {before.get(key)}, and now would be for {after.get(key)}"
    return None
