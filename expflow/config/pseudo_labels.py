"""What ``data.labels_from`` does not go with: tasks without one class for an image, and training on val."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from expflow.config.component_specs import task_spec
from expflow.config.spec import UserComponent

KEY = "data.labels_from"


def pseudo_label_conflicts(slots: Mapping[str, Any], fit_on: str) -> Iterator[tuple[str, str]]:
    """What of a recipe does not go with labels that a classifier gives.

    Args:
        slots: Slot to what it holds.
        fit_on: The recipe's ``trainer.fit_on``.
    """
    if not getattr(slots.get("data"), "labels_from", ""):
        return
    task = slots.get("task")
    if not isinstance(task, UserComponent) and not task_spec(task).learns_classes:
        name = getattr(task, "name", "")
        yield KEY, f"gives one class for each image, and the task {name} does not learn these; remove it"
    if fit_on != "train":
        yield (
            KEY,
            f"labels the train split alone, and trainer.fit_on: {fit_on} would mix it with the true labels of val:"
            " train on train",
        )
