"""Recipes with several data sources (``data: {image: …, condition: …}``): which slots a task takes, and what fits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from expflow.config.component_specs import task_spec
from expflow.config.schema import Trainer
from expflow.config.spec import Spec, UserComponent
from expflow.config.tree import Mark, Node

Refuse = Callable[[Mark, str, str], None]
"""Called with the place, the dotted key and the message of a problem."""

EQUAL = ("batch_size", "last")
"""Keys of a source that say what a batch is: they have to be the same in all slots."""


def check_sources(task: Spec, data: Any, node: Node | None, trainer: Trainer | None, refuse: Refuse) -> None:
    """Problems of a recipe with several data sources.

    Args:
        task: The recipe's task.
        data: What its slot ``data`` holds.
        node: That slot's node; None without one.
        trainer: How it is trained; None where that has problems already.
        refuse: Called with each problem.
    """
    if node is None or not isinstance(data, Mapping):
        return
    slots = () if isinstance(task, UserComponent) else task_spec(task).sources
    if not slots:
        what = f"the task {task.name} takes one data source, and this names {', '.join(data)}"
        refuse(node.mark, "data", f"{what}; give one, as in data: {{name: digits}}")
        return
    wanted = " and ".join(slots)
    for slot in data.keys() - slots:
        mark = node.items[slot].key_mark or node.mark
        refuse(mark, f"data.{slot}", f"the task {task.name} has no data slot of this name; it takes {wanted}")
    for slot in slots:
        if slot not in data:
            refuse(node.mark, f"data.{slot}", f"missing; the task {task.name} takes {wanted}, or one source for both")
    for slot, source in data.items():
        for field, message in (*_source_problems(source), *_differences(slots[0], data, source)):
            place = node.items[slot].child(field) or node.items[slot]
            refuse(place.mark, f"data.{slot}.{field}".rstrip("."), message)
    if trainer is not None and trainer.image_sizes:
        refuse(node.mark, "trainer.image_sizes", "changes images of one source, and this recipe has several; remove it")
    if trainer is not None and trainer.fit_on != "train":
        refuse(node.mark, "trainer.fit_on", "joins splits of one source, and this recipe has several: train on train")


def _differences(leading: str, data: Mapping[str, Any], source: Any) -> Iterator[tuple[str, str]]:
    """Where a source has other batches than the leading slot's: field and message."""
    for field in EQUAL:
        here, there = getattr(source, field, None), getattr(data.get(leading), field, None)
        if leading in data and here != there:
            yield (
                field,
                f"is {here}, and data.{leading}.{field} is {there}: a batch has as many samples of each slot; write the"
                " same under both",
            )


def _source_problems(source: Any) -> list[tuple[str, str]]:
    """What a source under a slot may not have: field and message."""
    if isinstance(source, UserComponent):
        return [("", "your own data module has loaders of its own; a slot takes sources that become shards")]
    problems = []
    for field, plain, why in (
        ("sampling", "natural", "draws samples by class, and those of slots come as they are"),
        ("split_seed", None, "draws val for each trial, which sources under slots do not"),
        ("on_bad_sample", "fail", "leaves out samples of one slot, and batches need all"),
        ("labels_from", "", "gives classes to one source, and no task with several learns them"),
    ):
        value = getattr(source, field, plain)
        if value == "trial" or (plain is not None and value != plain):
            problems.append((field, f"{value} {why}; remove it"))
    return problems
