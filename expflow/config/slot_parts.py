"""Slots that hold several components under names: which names a task takes, and which networks go under them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from expflow.config.component_specs import ModelInput, ModelOutput, ModelSpec, TaskSpec, task_spec
from expflow.config.spec import Spec
from expflow.config.tree import Mark, Node
from expflow.registry import SLOTS

_NAMED = 5
"""Networks that a message names."""

INPUTS: Mapping[ModelInput, str] = {"image": "images", "latent": "vectors of noise"}
"""What networks take, in words."""

OUTPUTS: Mapping[ModelOutput, str] = {
    "scores": "one score for each class of an image",
    "maps": "a score for each class at every pixel",
    "boxes": "boxes with classes and scores",
    "images": "an image of its size",
    "noise": "the noise in an image at a step of a diffusion",
    "patches": "an image of some of its patches",
    "tokens": "scores of each next token of a text",
    "embeddings": "a vector for an image and one for a text",
    "pixels": "scores of each next pixel of an image",
    "centre": "the middle of an image",
    "realness": "how real an image looks",
    "several": "a vector for each field of the data",
}
"""What networks give, in words."""

Refuse = Callable[[Mark, str, str], None]
"""Called with the place, the dotted key and the message of a problem."""


def fitting_networks(takes: ModelInput, gives: ModelOutput) -> str:
    """Names of some of our networks that take and give something.

    Args:
        takes: What they are called with.
        gives: What they give.
    """
    specs = {name: SLOTS["model"].spec(name) for name in SLOTS["model"].names()}
    names = [name for name, spec in specs.items() if (spec.takes, spec.gives) == (takes, gives)]
    return ", ".join(names[:_NAMED]) + (", …" if len(names) > _NAMED else "")


def check_parts(task: Spec, filled: Mapping[str, Any], given: Mapping[str, Node], refuse: Refuse) -> None:
    """Problems of slots with several components: names that the task does not know or misses, networks that do not fit.

    Args:
        task: The recipe's task.
        filled: Slot to what it holds; None where that has problems already.
        given: Slot to its node.
        refuse: Called with each problem.
    """
    spec = task_spec(task)
    if not spec.networks:
        return
    if filled.get("model") is not None:
        _check_names(spec, "model", tuple(spec.networks), filled["model"], given["model"], refuse)
        if isinstance(filled["model"], Mapping):
            _check_networks(spec, filled["model"], given["model"], refuse)
    for slot in ("optimizer", "schedule"):
        if isinstance(filled.get(slot), Mapping):
            _check_names(spec, slot, spec.optimizers, filled[slot], given[slot], refuse)


def _check_names(task: TaskSpec, slot: str, names: tuple[str, ...], held: Any, node: Node, refuse: Refuse) -> None:
    wanted = " and ".join(names)
    if not isinstance(held, Mapping):
        example = ", ".join(f"{name}: …" for name in names)
        refuse(node.mark, slot, f"the task {task.name} takes {wanted}; name each: {slot}: {{{example}}}")
        return
    for name in held.keys() - names:
        mark = node.items[name].key_mark or node.mark
        refuse(mark, f"{slot}.{name}", f"the task {task.name} has no {slot} of this name; it takes {wanted}")
    for name in names:
        if name not in held:
            refuse(node.mark, f"{slot}.{name}", f"missing; the task {task.name} takes {wanted}")


def _check_networks(task: TaskSpec, held: Mapping[str, Any], node: Node, refuse: Refuse) -> None:
    for name, (takes, gives) in task.networks.items():
        network = held.get(name)
        if not isinstance(network, ModelSpec) or (network.takes, network.gives_here) == (takes, gives):
            continue
        refuse(
            node.items[name].mark,
            f"model.{name}",
            f"{network.name} makes of {INPUTS[network.takes]} {OUTPUTS[network.gives_here]}, and the {name} of the task"
            f" {task.name} has to make of {INPUTS[takes]} {OUTPUTS[gives]}: {fitting_networks(takes, gives)}",
        )
