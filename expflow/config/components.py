"""From the tree of a recipe to specs: each slot's name is looked up, and its arguments are checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from expflow.config.foreign import resolve_foreign, wanted_slots
from expflow.config.initial import Init, complaints
from expflow.config.merge import as_component, merge
from expflow.config.schema import Recipe, Trainer
from expflow.config.spec import Foreign, Spec
from expflow.config.tree import Mark, Node, from_plain, problem, shown
from expflow.config.wording import check_model, unknown
from expflow.errors import ExperimentInvalid, Problem, nearest
from expflow.registry import SLOTS, Registry

Filled = Spec | dict[str, Spec]
"""What a slot holds: one component, or the user's names of several."""

OWN_NAME = "your own package.module:Name"


@dataclass
class Scope:
    """Where an experiment lies, what was found wrong in it, and slots that were resolved before.

    ``known`` maps a slot to its node in the base recipe and what that became, for configs that do not touch the slot.
    """

    folder: Path
    problems: list[Problem] = field(default_factory=list)
    known: dict[str, tuple[Node, Filled]] = field(default_factory=dict)

    def refuse(self, mark: Mark, key: str, message: str) -> None:
        """Note one problem."""
        self.problems.append(problem(mark, key, message))


def registered(registry: Registry) -> list[str]:
    """What may stand as a name in a registry's slot, for messages."""
    below = [f"{prefix}<name>" for prefix in registry.prefixes()]
    return [*registry.names(), *registry.hooked_names(), *below, OWN_NAME]


def resolve_component(registry: Registry, node: Node, path: tuple[str, ...], scope: Scope) -> Spec | None:
    """The component that ``node`` describes; None, and problems noted, where it is wrong."""
    node, key = as_component(node), ".".join(path)
    names = ", ".join(registered(registry))
    if not node.is_mapping:
        scope.refuse(
            node.mark, key, f"expected one of {names}, or a mapping with its `name`; found {shown(node.value)}"
        )
        return None
    name_node = node.child("name")
    if name_node is None:
        scope.refuse(node.mark, f"{key}.name", f"missing; expected one of: {names}")
        return None
    name = name_node.value
    if not isinstance(name, str):
        scope.refuse(name_node.mark, f"{key}.name", f"expected the name of a {registry.kind}, found {shown(name)}")
        return None
    if (hooked := registry.hooked(name)) is not None:  # the recipe holds what the name stands for
        named = Node(hooked, name_node.mark, name_node.key_mark)
        node, name = Node({**node.items, "name": named}, node.mark, node.key_mark), hooked
    if ":" in name:
        return resolve_foreign(registry.kind, node, path, scope.folder, scope.problems)
    if name not in registry:
        close = nearest(name, [*registry.names(), *registry.hooked_names()])
        hint = f"nearest: {close}" if close else f"expected one of: {names}"
        kind = "data source" if registry.kind == "data" else registry.kind
        scope.refuse(name_node.mark, f"{key}.name", f"no {kind} is named {name!r}; {hint}")
        return None
    spec: Spec | None = check_model(registry.spec(name), node, path, scope.problems)
    return spec


def holds_several(node: Node) -> bool:
    """Whether a slot's node maps the user's names to components, rather than being one."""
    values = [child.value for child in node.items.values() if child.value is not None]
    return node.child("name") is None and bool(values) and all(isinstance(value, dict | str) for value in values)


def resolve_slot(slot: str, node: Node, scope: Scope) -> Filled | None:
    """What the slot holds; None, and problems noted, where it is wrong."""
    if slot in scope.known and scope.known[slot][0] is node:
        return scope.known[slot][1]
    if not holds_several(node):
        return resolve_component(SLOTS[slot], node, (slot,), scope)
    if slot == "task":
        scope.refuse(node.mark, slot, "expected one task, found several")
        return None
    found = {
        name: resolve_component(SLOTS[slot], child, (slot, name), scope)
        for name, child in node.items.items()
        if child.value is not None
    }
    whole = {name: spec for name, spec in found.items() if spec is not None}
    return whole if len(whole) == len(found) else None


def filled_slots(tree: Node) -> dict[str, Node]:
    """The slots that a tree fills, with the task's own choices where the file says nothing, or no name."""
    given = {slot: node for slot in SLOTS if (node := tree.child(slot)) is not None}
    task = (as_component(given["task"]).name if "task" in given else None) or ""
    usual: Mapping[str, str] = getattr(SLOTS["task"].spec(task), "defaults", {}) if task in SLOTS["task"] else {}
    for slot, name in usual.items():
        chosen = as_component(Node(name, given["task"].mark))
        if slot not in given:
            given[slot] = chosen
        elif given[slot].is_mapping and given[slot].child("name") is None and not holds_several(given[slot]):
            given[slot] = merge(chosen, given[slot], (slot,))
    return given


def resolve_recipe(tree: Node, scope: Scope) -> Recipe | None:
    """The recipe in a merged tree (other keys are not looked at); None, and problems noted, where it is wrong."""
    before = len(scope.problems)
    given = filled_slots(tree)
    filled: dict[str, Any] = {slot: resolve_slot(slot, node, scope) for slot, node in given.items()}
    trainer_node = tree.child("trainer")
    trainer = check_model(Trainer, trainer_node, ("trainer",), scope.problems) if trainer_node else Trainer()
    if "task" not in given:
        scope.refuse(tree.mark, "task", f"missing; expected one of: {', '.join(registered(SLOTS['task']))}")
    elif isinstance(filled["task"], Spec):
        _check_slots(filled["task"], given, scope)
    init = _resolve_init(tree.child("init"), filled, trainer, scope)
    if len(scope.problems) > before or trainer is None:
        return None
    return Recipe(trainer=trainer, init=init, **filled)


def _resolve_init(node: Node | None, filled: Mapping[str, Any], trainer: Trainer | None, scope: Scope) -> Init | None:
    """What the training begins with; None where that is nothing special, or, and problems noted, where it is wrong."""
    init = check_model(Init, node, ("init",), scope.problems) if node is not None else None
    if init is None or node is None or init == Init():
        return None
    for field_, message in complaints(init, filled, trainer.epochs) if trainer is not None else ():
        place = node.child(field_) or node
        scope.refuse(place.mark, ".".join(filter(None, ("init", field_))), message)
    return init


def _check_slots(task: Spec, given: Mapping[str, Node], scope: Scope) -> None:
    """A slot that the task needs and does not get, or gets and does not use, is a problem."""
    if isinstance(task, Foreign):
        needs, takes = wanted_slots(task)
    else:
        needs = takes = frozenset(getattr(task, "slots", frozenset()))
    for slot in sorted(needs - given.keys()):
        names = ", ".join(registered(SLOTS[slot]))
        scope.refuse(given["task"].mark, slot, f"missing; the task {task.name} needs it: one of {names}")
    for slot in sorted(given.keys() - takes - {"task"}):
        mark = given[slot].key_mark or given[slot].mark
        scope.refuse(mark, slot, f"the task {task.name} does not use this slot; remove it, or choose another task")


def recipe_from(tree: Mapping[str, Any], folder: Path) -> Recipe:
    """The recipe that plain data describe, such as what ``dump`` or ``identity_tree`` gave.

    ``folder`` is where the user's own modules lie. Raises ExperimentInvalid.
    """
    scope = Scope(folder)
    root = merge(None, from_plain(tree, Mark("recipe")))
    for key, child in root.items.items():
        if key not in Recipe.model_fields:
            scope.refuse(child.mark, key, unknown(key, Recipe.model_fields))
    recipe = resolve_recipe(root, scope)
    if recipe is None or scope.problems:
        raise ExperimentInvalid(scope.problems)
    return recipe
