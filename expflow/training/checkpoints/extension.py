"""Whether a training can go on beyond the length that it was planned for. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from expflow.config.schema import Recipe
from expflow.config.spec import Foreign

OPEN_ENDED = frozenset({"constant", "step", "multi_step", "triangular", "plateau"})
"""The schedules that know epochs, steps or metrics, but not how long the training is."""

LENGTHS = ("T_max", "total_steps", "total_iters")
"""What torch's own schedules call the length that they were built for."""


def schedule_allows_extension(old: Recipe, new: Recipe) -> str | None:
    """Why a trial of ``old`` cannot be trained on to the longer budget of ``new``; None where it can.

    A schedule that is planned for the whole length (a cosine, one cycle) has led the rate to its end: going on from
    there is not what a longer training would have been. Of schedules inside a task of the user's nothing is known
    here; :func:`stretched` looks at them when the trial resumes.
    """
    if old.trainer.epochs == new.trainer.epochs:
        return None
    slot = new.schedule
    for spec in slot.values() if isinstance(slot, Mapping) else [slot] if slot is not None else []:
        if isinstance(spec, Foreign):
            return f"schedule {spec.name} is told the number of steps, and may plan its course by it"
        if spec.name not in OPEN_ENDED:
            return f"schedule {spec.name} plans its course by the length of the training, {old.trainer.epochs} epochs"
    return None


def stretched(saved: Sequence[Mapping[str, Any]], fresh: Sequence[Mapping[str, Any]]) -> str | None:
    """Why schedules with the states ``saved`` are not those with the states ``fresh``; None where they are.

    Two lists in one order, the second of schedules just built for the longer training.
    """
    for before, after in zip(saved, fresh, strict=False):
        for key in LENGTHS:
            if before.get(key) != after.get(key):
                return f"its schedule was built for {key} {before.get(key)}, and now would be for {after.get(key)}"
    return None
