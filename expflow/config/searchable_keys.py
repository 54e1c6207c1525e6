"""Which keys of a recipe can be searched, and what a key's value is in a tree."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from expflow.config.components import LoadingContext, filled_slots, holds_several_components, with_preset
from expflow.config.initial_weights import Init
from expflow.config.merge import as_component, split_key
from expflow.config.module_import import import_user_module
from expflow.config.schema import Trainer
from expflow.config.spec import PassthroughSpec, Role, Spec, former_keys, role_of, with_present_keys
from expflow.config.tree import Node, node_at, plain
from expflow.config.user_components import make_importable, signature_of
from expflow.config.validation import field_keys
from expflow.errors import nearest
from expflow.registry import SLOTS, Registry, load_dotted

ABSENT = object()
"""What :func:`value_of_key` gives where a tree says nothing about a key."""


class SearchableKeys:
    """The dotted keys of a recipe and their roles, given which components it may hold.

    Args:
        tree: The merged file.
        space: Searched key to its values as written: they may bring further components.
        context: Where the experiment file lies.
    """

    def __init__(self, tree: Node, space: Mapping[str, Node], context: LoadingContext) -> None:
        self.roles: dict[str, Role] = {}
        self._components: set[str] = set()
        self._anything: set[str] = set()
        for key, role in _model_keys(Trainer):
            self.roles[f"trainer.{key}"] = role
        self._components.add("init")
        self.roles["init"] = "identity"
        for key, role in _model_keys(Init):
            self.roles[f"init.{key}"] = role
        for slot, node in filled_slots(tree).items():
            children = node.items.items() if holds_several_components(node) else ()
            for prefix, child in [(f"{slot}.{name}", child) for name, child in children] or [(slot, node)]:
                self._add(slot, prefix, _names(slot, prefix, child, space), context)
        if (task := tree.child("task")) is not None and _is_unknown(SLOTS["task"], as_component(task).name):
            self._anything |= {*SLOTS}  # which slots it fills is not known
        for slot in SLOTS:
            if slot in space and slot not in self.roles:
                self._add(slot, slot, _names(slot, slot, None, space), context)

    def _add(self, slot: str, prefix: str, names: Iterable[str], context: LoadingContext) -> None:
        """Add a component's keys: those of every spec that ``names`` may bring there."""
        self._components |= {slot, prefix}
        self.roles[slot] = self.roles[prefix] = self.roles[f"{prefix}.name"] = "identity"
        for name in names:
            if ":" in name:
                self._add_user_component(prefix, name, context)
            elif name in SLOTS[slot]:
                spec = SLOTS[slot].spec(name)
                if issubclass(spec, PassthroughSpec):
                    self._anything.add(prefix)
                for key, role in _model_keys(spec):
                    if self.roles.get(f"{prefix}.{key}") != "identity":
                        self.roles[f"{prefix}.{key}"] = role
            else:  # the name is refused where it stands; whether its keys fit, nobody can say
                self._anything.add(prefix)

    def _add_user_component(self, prefix: str, name: str, context: LoadingContext) -> None:
        make_importable(context.folder)
        try:
            import_user_module(name.partition(":")[0])
            signature = signature_of(load_dotted(name))
        except Exception:  # noqa: BLE001 - the user's module runs here; what it raises is reported with the config
            self._anything.add(prefix)
            return
        self.roles.update({f"{prefix}.{key}": "identity" for key in signature.names})
        if signature.anything:
            self._anything.add(prefix)

    def why_not(self, key: str) -> str | None:
        """Why a key cannot be searched; None where it can.

        Args:
            key: The dotted key.
        """
        prefixes = [".".join(split_key(key)[:count]) for count in range(1, key.count(".") + 2)]
        if key in self.roles:
            role = self.roles[key]
            if role == "identity":
                return None
            why = "only says how long to train" if role == "budget" else "does not change results"
            return f"cannot be searched: it {why}, so all its values would be one config"
        inside = any(prefix in self.roles and prefix not in self._components for prefix in prefixes)
        if inside or self._anything.intersection(prefixes):
            return None
        close = nearest(key, self.roles)
        if close:
            return f"unknown key; nearest valid key: {close}"
        here = sorted(known for known in self.roles if known.startswith(f"{prefixes[0]}."))
        return f"unknown key; expected one of: {', '.join(here or sorted({*SLOTS, 'trainer'}))}"


def _is_unknown(registry: Registry, name: str | None) -> bool:
    """Whether a name is none of a component; that is said where it stands."""
    return name is not None and ":" not in name and name not in registry and registry.path_of_short_name(name) is None


def _model_keys(cls: type[BaseModel]) -> Iterator[tuple[str, Role]]:
    for name, field in cls.model_fields.items():
        yield field.alias or name, role_of(cls, name)
    for key, name in former_keys(cls).items():
        yield key, role_of(cls, name)


def _names(slot: str, prefix: str, node: Node | None, space: Mapping[str, Node]) -> Iterator[str]:
    """The names of the components that may stand at ``prefix``: the file's own, and searched ones.

    What a short name or a well-known one stands for is yielded in its place.
    """
    written = [as_component(node).name] if node is not None else []
    for values in (space.get(prefix), space.get(f"{prefix}.name")):
        choices = values if values is None or values.is_list else values.child("choice")
        written += [as_component(value).name for value in (choices.value if choices and choices.is_list else ())]
    registry = SLOTS[slot]
    for name in filter(None, written):
        preset = registry.preset(name)
        yield preset.component if preset is not None else registry.path_of_short_name(name) or name


def value_of_key(tree: Node, key: str) -> Any:
    """The value of a dotted key: as written, else the component's default, else :data:`ABSENT`.

    Args:
        tree: The merged file, or a part of it that holds the recipe.
        key: The dotted key.
    """
    path = split_key(key)
    slots = filled_slots(tree)
    written = node_at(Node({**tree.items, **slots}, tree.mark), path)
    if written is not None:
        return plain(written)
    component = node_at(slots[path[0]], path[1:-1]) if path[0] in slots else None
    component = with_preset(SLOTS[path[0]], component) if component is not None else None
    name = (component.name if component is not None else None) or ""
    sections: dict[str, Any] = {"trainer": Trainer, "init": Init}
    cls: Any = sections.get(path[0]) or (SLOTS[path[0]].spec(name) if name in SLOTS.get(path[0], ()) else None)
    return _value_or_default(cls, component, path[-1]) if cls is not None else ABSENT


def _value_or_default(cls: type[BaseModel], component: Node | None, key: str) -> Any:
    """The value of a component's key under its present or its former name, of its preset, or its default."""
    former = former_keys(cls)
    field_name = former.get(key) or field_keys(cls).get(key, "")
    given = with_present_keys(cls, plain(component)) if component is not None and component.is_mapping else {}
    if field_name in given:
        return given[field_name]
    field = cls.model_fields.get(field_name)
    if field is None or field.is_required():
        return ABSENT
    if field.validate_default and component is not None and issubclass(cls, Spec):
        return cls.derived_defaults(given)[field_name]
    return field.get_default(call_default_factory=True)
