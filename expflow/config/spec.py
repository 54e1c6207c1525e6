"""What every spec has in common: frozen, no unknown keys, every field described and of one role.

Roles (design section 2): an ``identity`` field makes another config when it changes, a ``budget`` field extends the
same trial, an ``execution`` field says where and how it runs and is never hashed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

Role = Literal["identity", "budget", "execution"]


class FieldError(ValueError):
    """Raised by a spec's ``model_validator`` about one of its fields, so that the message can point at its line."""

    def __init__(self, field: str, message: str) -> None:
        self.field = field
        super().__init__(message)


class Model(BaseModel):
    """Base of everything that YAML is read into: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=False)


def _role(role: Role, default: Any, description: str, constraints: dict[str, Any]) -> Any:
    if "default_factory" in constraints:
        return Field(description=description, json_schema_extra={"role": role}, **constraints)
    return Field(default, description=description, json_schema_extra={"role": role}, **constraints)


def identity(default: Any = ..., *, description: str, **constraints: Any) -> Any:
    """A field whose value is part of what is being compared: it enters ``config_id``."""
    return _role("identity", default, description, constraints)


def budget(default: Any = ..., *, description: str, **constraints: Any) -> Any:
    """A field that says how long to train: a larger value extends the same trial."""
    return _role("budget", default, description, constraints)


def execution(default: Any = ..., *, description: str, **constraints: Any) -> Any:
    """A field that says where and how to run: results do not depend on it, and no hash contains it."""
    return _role("execution", default, description, constraints)


def role_of(model: type[BaseModel], field: str) -> Role:
    """The role of a field; ``identity`` where none is declared, because forgetting to say so must not merge configs."""
    extra = model.model_fields[field].json_schema_extra
    return extra.get("role", "identity") if isinstance(extra, dict) else "identity"  # type: ignore[return-value]


class Spec(Model):
    """Arguments of one named component.

    ``build`` is the dotted path of the builder; what a builder is called with is written where its slot is
    consumed (``expflow.architectures``, ``expflow.tasks``…). Rules across fields are pydantic ``model_validator``s
    here, so that a wrong combination is refused without importing torch.
    """

    build: ClassVar[str] = ""
    name: str = identity(description="which component")

    @classmethod
    def derived(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """The defaults that depend on other fields, whose values are ``given`` (unchecked, and perhaps not all).

        Such a field is declared with the default None and ``validate_default``, and a ``field_validator`` before it
        fills it in from here. Written out or left out, the value is the same and so is ``config_id``.
        """
        return {}


class Open(Spec):
    """A spec of something that is written elsewhere: keys that are no fields here are arguments of it."""

    model_config = ConfigDict(frozen=True, extra="allow")

    _usual: frozenset[str] = PrivateAttr(default=frozenset())
    """Arguments that were given the value that they have by default; filled in where the signature was looked at."""

    @property
    def arguments(self) -> dict[str, Any]:
        """The keyword arguments as written in the file; null deletes one."""
        return {key: value for key, value in (self.model_extra or {}).items() if value is not None}

    @property
    def unusual(self) -> dict[str, Any]:
        """The arguments that differ from the signature's defaults."""
        return {key: value for key, value in self.arguments.items() if key not in self._usual}


class Foreign(Open):
    """The user's own component, named ``package.module:Name``; every other key is an argument of it."""
