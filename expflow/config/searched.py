"""Which keys of a recipe can be searched, and what a key's value is in a tree."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel

from expflow.config.components import Scope, filled_slots, holds_several
from expflow.config.foreign import make_importable, signature_of
from expflow.config.initial import Init
from expflow.config.merge import as_component, split_key
from expflow.config.schema import Trainer
from expflow.config.spec import Open, Role, Spec, role_of
from expflow.config.tree import Node, at, plain
from expflow.config.wording import field_keys
from expflow.errors import nearest
from expflow.registry import SLOTS, load_dotted

ABSENT = object()
"""What :func:`lookup` gives where a tree says nothing about a key."""


class Keys:
    """The dotted keys of a recipe and their roles, given which components it may hold."""

    def __init__(self, tree: Node, space: Mapping[str, Node], scope: Scope) -> None:
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
            children = node.items.items() if holds_several(node) else ()
            for prefix, child in [(f"{slot}.{name}", child) for name, child in children] or [(slot, node)]:
                self._add(slot, prefix, _names(prefix, child, space), scope)
        for slot in SLOTS:
            if slot in space and slot not in self.roles:
                self._add(slot, slot, _names(slot, None, space), scope)

    def _add(self, slot: str, prefix: str, names: Iterable[str], scope: Scope) -> None:
        """Take in a component's keys: those of every spec that ``names`` may bring there."""
        self._components |= {slot, prefix}
        self.roles[slot] = self.roles[prefix] = self.roles[f"{prefix}.name"] = "identity"
        for name in names:
            if ":" in name:
                self._add_foreign(prefix, name, scope)
            elif name in SLOTS[slot]:
                spec = SLOTS[slot].spec(name)
                if issubclass(spec, Open):
                    self._anything.add(prefix)
                for key, role in _model_keys(spec):
                    if self.roles.get(f"{prefix}.{key}") != "identity":
                        self.roles[f"{prefix}.{key}"] = role

    def _add_foreign(self, prefix: str, name: str, scope: Scope) -> None:
        make_importable(scope.folder)
        try:
            signature = signature_of(load_dotted(name))
        except Exception:  # noqa: BLE001 - the user's module runs here; what it raises is reported with the config
            self._anything.add(prefix)
            return
        self.roles.update({f"{prefix}.{key}": "identity" for key in signature.names})
        if signature.anything:
            self._anything.add(prefix)

    def complaint(self, key: str) -> str | None:
        """What is wrong with searching ``key``; None where nothing is."""
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
        here = sorted(each for each in self.roles if each.startswith(f"{prefixes[0]}."))
        return f"unknown key; expected one of: {', '.join(here or sorted({*SLOTS, 'trainer'}))}"


def _model_keys(cls: type[BaseModel]) -> Iterator[tuple[str, Role]]:
    for name, field in cls.model_fields.items():
        yield field.alias or name, role_of(cls, name)


def _names(prefix: str, node: Node | None, space: Mapping[str, Node]) -> Iterator[str]:
    """The names of the components that may stand at ``prefix``: the file's own, and searched ones."""
    if node is not None and (name := as_component(node).name):
        yield name
    for values in (space.get(prefix), space.get(f"{prefix}.name")):
        if values is None:
            continue
        listed = values.value if values.is_list else getattr(values.child("choice"), "value", ())
        for value in listed if isinstance(listed, tuple) else ():
            if name := as_component(value).name:
                yield name


def lookup(tree: Node, key: str) -> Any:
    """The value of a dotted key: as written, else the component's default, else :data:`ABSENT`."""
    path = split_key(key)
    slots = filled_slots(tree)
    found = at(Node({**tree.items, **slots}, tree.mark), path)
    if found is not None:
        return plain(found)
    component = at(slots[path[0]], path[1:-1]) if path[0] in slots else None
    name = (as_component(component).name if component is not None else None) or ""
    sections: dict[str, Any] = {"trainer": Trainer, "init": Init}
    cls: Any = sections.get(path[0]) or (SLOTS[path[0]].spec(name) if name in SLOTS.get(path[0], ()) else None)
    field = cls.model_fields.get(field_keys(cls).get(path[-1], "")) if cls is not None else None
    if field is None or field.is_required():
        return ABSENT
    if field.validate_default and component is not None and issubclass(cls, Spec):
        return cls.derived(plain(as_component(component)))[path[-1]]
    return field.get_default(call_default_factory=True)
