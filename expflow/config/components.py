"""From the tree of a recipe to specs: each slot's name is looked up, and its arguments are checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from expflow.config.component_specs import TaskSpec, model_output, task_spec
from expflow.config.initial_weights import Init, init_conflicts
from expflow.config.lightning_arguments import refused_arguments
from expflow.config.merge import as_component, merge
from expflow.config.nearest_component import nearest_user_component
from expflow.config.pseudo_labels import pseudo_label_conflicts
from expflow.config.schema import Recipe, Trainer
from expflow.config.slot_parts import INPUTS, OUTPUTS, check_parts, fitting_networks
from expflow.config.source_slots import check_sources
from expflow.config.spec import Spec, UserComponent, with_present_keys
from expflow.config.tree import Mark, Node, describe_value, from_plain, problem_at
from expflow.config.user_components import needs_data, resolve_user_component, slots_of_user_task
from expflow.config.validation import check_model, unknown_key
from expflow.errors import MAX_PROBLEMS, ExperimentInvalid, Problem, nearest
from expflow.registry import SLOTS, Registry

SlotValue = Spec | dict[str, Spec]
"""What a slot holds: one component, or the user's names of several."""

OWN_NAME = "your own package.module:Name"


@dataclass
class LoadingContext:
    """What the functions that read an experiment share.

    Attributes:
        folder: Where the experiment file lies.
        problems: What is wrong in it, so far.
        known: Slot to its node in the base recipe and what that became, for configs that do not touch the slot.
    """

    folder: Path
    problems: list[Problem] = field(default_factory=list)
    known: dict[str, tuple[Node, SlotValue]] = field(default_factory=dict)

    def refuse(self, mark: Mark, key: str, message: str) -> None:
        """Note one problem.

        Args:
            mark: Where it is.
            key: The dotted key that it is about.
            message: What is wrong, and what was expected.

        Raises:
            ExperimentInvalid: It is one of too many to go on looking.
        """
        self.problems.append(problem_at(mark, key, message))
        if len(self.problems) > MAX_PROBLEMS:
            raise ExperimentInvalid(self.problems)


def accepted_names(registry: Registry) -> list[str]:
    """What may stand as a name in a slot, for messages.

    Args:
        registry: The slot's registry.
    """
    below = [f"{prefix}<name>" for prefix in registry.prefixes()]
    return [*registry.names(), *registry.short_names(), *below, OWN_NAME]


def with_preset(registry: Registry, node: Node) -> Node:
    """A component's node with the family and the keys that its name stands for, where that is a well-known one.

    Args:
        registry: The components that may stand there.
        node: The name, or the mapping with name and arguments; what it says itself wins.
    """
    node = as_component(node)
    preset = registry.preset(node.name)
    if preset is None:
        return node
    name = node.items["name"]
    own_keys = with_present_keys(registry.spec(preset.component), node.items)  # also under their former names
    keys = {
        key: from_plain(value, name.mark)
        for key, value in preset.arguments.items()
        if key not in own_keys or own_keys[key].value is None
    }
    own = {**node.items, "name": Node(preset.component, name.mark, name.key_mark)}
    return Node({**keys, **own}, node.mark, node.key_mark)


def resolve_component(registry: Registry, node: Node, path: tuple[str, ...], context: LoadingContext) -> Spec | None:
    """The component that a node describes.

    Args:
        registry: The components that may stand there.
        node: The name, or the mapping with name and arguments.
        path: The node's own key, in parts.
        context: Problems are noted here.

    Returns:
        Its spec; None where something is wrong.
    """
    node, key = with_preset(registry, node), ".".join(path)
    name_node = _name_node(registry, node, key, context)
    if name_node is None:
        return None
    name: str = name_node.value
    if (path_behind := registry.path_of_short_name(name)) is not None:  # the recipe holds what the name stands for
        named = Node(path_behind, name_node.mark, name_node.key_mark)
        node, name = Node({**node.items, "name": named}, node.mark, node.key_mark), path_behind
    if ":" in name:
        return resolve_user_component(registry.kind, node, path, context.folder, context.problems)
    if name not in registry:
        kind = "data source" if registry.kind == "data" else registry.kind
        hint = _hint(registry, name, context.folder)
        context.refuse(name_node.mark, f"{key}.name", f"no {kind} is named {name!r}; {hint}")
        return None
    spec: Spec | None = check_model(registry.spec(name), node, path, context.problems)
    return spec


def _hint(registry: Registry, name: str, folder: Path) -> str:
    """What an unknown name may have been meant for."""
    if own := nearest_user_component(name, folder):
        return f"did you mean {own}?"
    close = nearest(name, [*registry.names(), *registry.short_names(), *registry.presets])
    return f"nearest: {close}" if close else f"expected one of: {', '.join(accepted_names(registry))}"


def _name_node(registry: Registry, node: Node, key: str, context: LoadingContext) -> Node | None:
    """The node of a component's name, which is text; None where something is wrong."""
    names = ", ".join(accepted_names(registry))
    if not node.is_mapping:
        context.refuse(
            node.mark, key, f"expected one of {names}, or a mapping with its `name`; found {describe_value(node.value)}"
        )
        return None
    name_node = node.child("name")
    if name_node is None:
        context.refuse(node.mark, f"{key}.name", f"missing; expected one of: {names}")
        return None
    if not isinstance(name_node.value, str):
        message = f"expected the name of a {registry.kind}, found {describe_value(name_node.value)}"
        context.refuse(name_node.mark, f"{key}.name", message)
        return None
    return name_node


def holds_several_components(node: Node) -> bool:
    """Whether a slot's node maps the user's names to components, rather than being one.

    Args:
        node: What stands in the slot.
    """
    values = [child.value for child in node.items.values() if child.value is not None]
    return node.child("name") is None and bool(values) and all(isinstance(value, dict | str) for value in values)


def resolve_slot(slot: str, node: Node, context: LoadingContext) -> SlotValue | None:
    """What a slot holds.

    Args:
        slot: The slot.
        node: What stands in it.
        context: Problems are noted here.

    Returns:
        One component, or several by the user's names; None where something is wrong.
    """
    if slot in context.known and context.known[slot][0] is node:
        return context.known[slot][1]
    if not holds_several_components(node):
        return resolve_component(SLOTS[slot], node, (slot,), context)
    if slot == "task":
        context.refuse(node.mark, slot, "expected one task, found several")
        return None
    components = {
        name: resolve_component(SLOTS[slot], child, (slot, name), context)
        for name, child in node.items.items()
        if child.value is not None
    }
    valid = {name: spec for name, spec in components.items() if spec is not None}
    return valid if len(valid) == len(components) else None


def filled_slots(tree: Node) -> dict[str, Node]:
    """The slots that a recipe fills, with the task's own choices where the file says nothing, or no name.

    Args:
        tree: The merged file.

    Returns:
        Slot to what stands in it.
    """
    given = {slot: node for slot in SLOTS if (node := tree.child(slot)) is not None}
    task = (as_component(given["task"]).name if "task" in given else None) or ""
    usual: Mapping[str, str] = SLOTS["task"].spec(task).defaults if task in SLOTS["task"] else {}
    for slot, name in usual.items():
        chosen = as_component(Node(name, given["task"].mark))
        if slot not in given:
            given[slot] = chosen
        elif given[slot].is_mapping and given[slot].child("name") is None and not holds_several_components(given[slot]):
            given[slot] = merge(chosen, given[slot], (slot,))
    return given


def resolve_recipe(tree: Node, context: LoadingContext) -> Recipe | None:
    """The recipe in a merged tree; other keys are not looked at.

    Args:
        tree: The merged file.
        context: Problems are noted here.

    Returns:
        The recipe; None where something is wrong.
    """
    before = len(context.problems)
    given = filled_slots(tree)
    filled: dict[str, Any] = {slot: resolve_slot(slot, node, context) for slot, node in given.items()}
    trainer_node = tree.child("trainer")
    trainer = _resolve_trainer(trainer_node, context) if trainer_node is not None else Trainer()
    if "task" not in given:
        context.refuse(tree.mark, "task", f"missing; expected one of: {', '.join(accepted_names(SLOTS['task']))}")
    elif isinstance(filled["task"], Spec):
        _check_slots(filled["task"], given, context)
        check_parts(filled["task"], filled, given, context.refuse)
        check_sources(filled["task"], filled.get("data"), given.get("data"), trainer, context.refuse)
        _check_output(filled["task"], filled.get("model"), given, context)
    init = _resolve_init(tree.child("init"), filled, trainer, context)
    if isinstance(filled.get("task"), Spec):
        fit_on = trainer.fit_on if trainer is not None else "train"
        for key, message in (
            *task_spec(filled["task"]).conflicts(filled, init),
            *pseudo_label_conflicts(filled, fit_on),
        ):
            context.refuse(_place_of(tree, key), key, message)
        _check_trainer(task_spec(filled["task"]), trainer, tree, context)
    if len(context.problems) > before or trainer is None:
        return None
    return Recipe(trainer=trainer, init=init, **filled)


def _check_trainer(task: TaskSpec, trainer: Trainer | None, tree: Node, context: LoadingContext) -> None:
    """What of the trainer a task does not go with is a problem."""
    if trainer is None:
        return
    usual = Trainer()
    for key, why in task.trainer_conflicts().items():
        if getattr(trainer, key) != getattr(usual, key):
            context.refuse(_place_of(tree, f"trainer.{key}"), f"trainer.{key}", why)


def _place_of(tree: Node, key: str) -> Mark:
    """Where a dotted key stands, or as much of it as is written."""
    for part in key.split("."):
        child = tree.child(part) if tree.is_mapping else None
        if child is None:
            break
        tree = child
    return tree.key_mark or tree.mark


def _resolve_trainer(node: Node, context: LoadingContext) -> Trainer | None:
    """How it is trained, with the user's callbacks; None, and problems noted, where something is wrong."""
    trainer = check_model(Trainer, node, ("trainer",), context.problems)
    if trainer is None:
        return None
    for argument, reason in refused_arguments(trainer.lightning):
        place = node.items["lightning"].items[argument]
        context.refuse(place.key_mark or place.mark, f"trainer.lightning.{argument}", reason)
    written = [as_component(child) for child in node.items["callbacks"].value] if trainer.callbacks else []
    callbacks = [
        resolve_user_component(
            "callback", child, ("trainer", "callbacks", str(index)), context.folder, context.problems
        )
        for index, child in enumerate(written)
    ]
    return trainer.model_copy(update={"callbacks": tuple(spec for spec in callbacks if spec is not None)})


def _resolve_init(
    node: Node | None, filled: Mapping[str, Any], trainer: Trainer | None, context: LoadingContext
) -> Init | None:
    """What the training begins with; None where that is nothing special, or, and problems noted, where it is wrong."""
    init = check_model(Init, node, ("init",), context.problems) if node is not None else None
    if init is None or node is None or init == Init():
        return None
    for field_, message in init_conflicts(init, filled, trainer.epochs) if trainer is not None else ():
        place = node.child(field_) or node
        context.refuse(place.mark, ".".join(filter(None, ("init", field_))), message)
    return init


def _check_slots(task: Spec, given: Mapping[str, Node], context: LoadingContext) -> None:
    """A slot that the task needs and does not get, or gets and does not use, is a problem."""
    if isinstance(task, UserComponent):
        needs, takes = slots_of_user_task(task)
        if "data" not in given and (reason := needs_data(task)):
            context.refuse(given["task"].mark, "data", f"missing; {reason}")
    else:
        needs = takes = task_spec(task).slots
    for slot in sorted(needs - given.keys()):
        names = ", ".join(accepted_names(SLOTS[slot]))
        context.refuse(given["task"].mark, slot, f"missing; the task {task.name} needs it: one of {names}")
    for slot in sorted(given.keys() - takes - {"task"}):
        mark = given[slot].key_mark or given[slot].mark
        context.refuse(mark, slot, f"the task {task.name} does not use this slot; remove it, or choose another task")


def _check_output(task: Spec, model: Any, given: Mapping[str, Node], context: LoadingContext) -> None:
    """A network of ours that gives something else than the task learns from is a problem."""
    needs, gives = task_spec(task).needs, model_output(model)
    if not (needs and gives) or (needs == gives and model.takes == "image"):
        return
    what = OUTPUTS[gives] if needs != gives else f"it from {INPUTS[model.takes]}"
    context.refuse(
        given["model"].mark,
        "model",
        f"{model.name} gives {what}, and the task {task.name} needs {OUTPUTS[needs]}; choose another network"
        f" ({fitting_networks('image', needs)}) or another task",
    )


def recipe_from(tree: Mapping[str, Any], folder: Path) -> Recipe:
    """The recipe that plain data describe.

    Args:
        tree: Such as what ``dump`` or ``identity_tree`` gave.
        folder: Where the user's own modules lie.

    Raises:
        ExperimentInvalid: The data describe no valid recipe; it holds all problems.
    """
    context = LoadingContext(folder)
    root = merge(None, from_plain(tree, Mark("recipe")))
    for key, child in root.items.items():
        if key not in Recipe.model_fields:
            context.refuse(child.mark, key, unknown_key(key, Recipe.model_fields))
    recipe = resolve_recipe(root, context)
    if recipe is None or context.problems:
        raise ExperimentInvalid(context.problems)
    return recipe
