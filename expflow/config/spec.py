"""What every spec has in common: frozen, no unknown keys, every field described and of one role.

Roles: an ``identity`` field makes another config when it changes, a ``budget`` field extends the
same trial, an ``execution`` field says where and how it runs and is never hashed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from expflow.errors import UserError
from expflow.metrics import Mode, metric_mode

Role = Literal["identity", "budget", "execution"]


class FieldError(ValueError):
    """Raised by a spec's ``model_validator`` about one of its fields, so that the message can point at its line.

    Args:
        field: The field's key in the file; dots lead into sections below.
        message: What is wrong with it.
    """

    def __init__(self, field: str, message: str) -> None:
        self.field = field
        super().__init__(message)


def check_direction(metric: str, mode: Mode | None) -> None:
    """Require that the direction of a watched metric is known.

    Args:
        metric: The metric's reported name (``val/loss``), which stands at the key ``metric``.
        mode: What the experiment file says of it; None where it says nothing.

    Raises:
        FieldError: It is a metric of the user's own, and the file does not say whether more of it is better.
    """
    try:
        metric_mode(metric, mode)
    except UserError as error:
        raise FieldError("metric", str(error)) from error


class FrozenModel(BaseModel):
    """Base of everything that YAML is read into: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=False)


def _field(role: Role, default: Any, description: str, constraints: dict[str, Any], former: str = "") -> Any:
    extra: dict[str, Any] = {"role": role, **({"former": former} if former else {})}
    if "default_factory" in constraints:
        return Field(description=description, json_schema_extra=extra, **constraints)
    return Field(default, description=description, json_schema_extra=extra, **constraints)


def identity(default: Any = ..., *, description: str, former: str = "", **constraints: Any) -> Any:
    """A field whose value is part of what is being compared: it enters ``config_id``.

    Args:
        default: Its value where the file says nothing; without it the key is required.
        description: One sentence for messages, ``--help`` and the reference page.
        former: The key's earlier name, which files may still use; ids go on hashing it.
        constraints: Further arguments of pydantic's ``Field`` (``ge``, ``alias``, ``default_factory``).
    """
    return _field("identity", default, description, constraints, former)


def budget(default: Any = ..., *, description: str, **constraints: Any) -> Any:
    """A field that says how long to train: a larger value extends the same trial.

    Args:
        default: As for :func:`identity`.
        description: As for :func:`identity`.
        constraints: As for :func:`identity`.
    """
    return _field("budget", default, description, constraints)


def execution(default: Any = ..., *, description: str, **constraints: Any) -> Any:
    """A field that says where and how to run: results do not depend on it, and no hash contains it.

    Args:
        default: As for :func:`identity`.
        description: As for :func:`identity`.
        constraints: As for :func:`identity`.
    """
    return _field("execution", default, description, constraints)


def role_of(model: type[BaseModel], field: str) -> Role:
    """The role of a field; ``identity`` where none is declared, because forgetting to say so must not merge configs.

    Args:
        model: A spec, or a section of the file.
        field: The name of one of its fields.
    """
    extra = model.model_fields[field].json_schema_extra
    return extra.get("role", "identity") if isinstance(extra, dict) else "identity"  # type: ignore[return-value]


def former_keys(model: type[BaseModel]) -> dict[str, str]:
    """Earlier name of a key to the field that it is now.

    Args:
        model: A spec, or a section of the file.
    """
    extras = {name: field.json_schema_extra for name, field in model.model_fields.items()}
    return {
        str(extra["former"]): name for name, extra in extras.items() if isinstance(extra, dict) and "former" in extra
    }


def with_present_keys(model: type[BaseModel], data: Mapping[str, Any]) -> dict[str, Any]:
    """Plain data of a model, with keys that were renamed since under their present names.

    Args:
        model: A spec, or a section of the file.
        data: Such as a record of an earlier version.
    """
    former = former_keys(model)
    return {former.get(key, key): value for key, value in data.items()}


class Spec(FrozenModel):
    """Arguments of one named component.

    ``build`` is the dotted path of the builder; what a builder is called with is written where its slot is
    consumed (``expflow.architectures``, ``expflow.tasks``…). Rules across fields are pydantic ``model_validator``s
    here, so that a wrong combination is refused without importing torch.
    """

    build: ClassVar[str] = ""
    name: str = identity(description="which component")

    @classmethod
    def derived_defaults(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        """The defaults that depend on other fields.

        Such a field is declared with the default None and ``validate_default``, and a ``field_validator`` before it
        fills it in from here. Written out or left out, the value is the same and so is ``config_id``.

        Args:
            given: Field to value, unchecked, and perhaps not of all fields.

        Returns:
            Field to its default.
        """
        return {}


class PassthroughSpec(Spec):
    """A spec of something that is written elsewhere: keys that are no fields here are arguments of it."""

    model_config = ConfigDict(frozen=True, extra="allow")

    _at_default: frozenset[str] = PrivateAttr(default=frozenset())

    @property
    def arguments(self) -> dict[str, Any]:
        """The keyword arguments as written in the file; null deletes one."""
        return {key: value for key, value in (self.model_extra or {}).items() if value is not None}

    def note_defaults(self, keys: Iterable[str]) -> None:
        """Note which arguments were given the value that they have by default: they are no part of an id.

        Args:
            keys: Their names, known where the signature was looked at.
        """
        self._at_default = frozenset(keys)

    @property
    def non_default_arguments(self) -> dict[str, Any]:
        """The arguments that differ from the signature's defaults."""
        return {key: value for key, value in self.arguments.items() if key not in self._at_default}


class UserComponent(PassthroughSpec):
    """The user's own component, named ``package.module:Name``; every other key is an argument of it."""
