"""The JSON schemas of all documents, made from the dataclasses that describe them."""

from __future__ import annotations

import importlib
import inspect
import re
from dataclasses import is_dataclass
from typing import Any

from expflow.errors import UnknownName
from expflow.event_kinds import EVENTS
from expflow.events import Event

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_EVENT = "event"
"""The document of the lines between the first and the last of a run."""

DOCUMENTS = {
    "report": "expflow.report.report_document:ReportDocument",
    "status": "expflow.cli.documents.status:StatusDocument",
    "storage": "expflow.cli.documents.status:StorageDocument",
    "result": "expflow.cli.documents.result:ResultDocument",
    "plan": "expflow.cli.documents.plan:PlanDocument",
    "started": "expflow.cli.documents.run:RunStarted",
    "ended": "expflow.cli.documents.run:RunEnded",
    "error": "expflow.cli.documents.error:ErrorDocument",
    "doctor": "expflow.cli.documents.doctor:DoctorDocument",
    "models": "expflow.cli.documents.models:ModelsDocument",
    "model": "expflow.cli.documents.models:ModelDocument",
    "compared_models": "expflow.cli.documents.models:ComparedModelsDocument",
    "data": "expflow.cli.documents.data:DataDocument",
    "data_slots": "expflow.cli.documents.data:DataSlotsDocument",
    "init": "expflow.cli.documents.starter:StarterDocument",
    "submitted": "expflow.cli.documents.jobs:SubmittedDocument",
    "job": "expflow.cli.documents.jobs:JobDocument",
    "jobs": "expflow.cli.documents.jobs:JobsDocument",
    "outcome": "expflow.cli.documents.outcome:OutcomeDocument",
    "log": "expflow.cli.documents.log:LogDocument",
    "output": "expflow.cli.documents.log:OutputDocument",
    "campaign": "expflow.cli.documents.campaign:CampaignDocument",
    "check": "expflow.cli.documents.check:CheckDocument",
    "code": "expflow.cli.documents.code:CodeDocument",
    "comparison": "expflow.report.result_comparison:ComparisonDocument",
}
"""The name of each document, as ``expflow schema --of`` takes it -> its type, imported when it is asked for."""


def document_schema(name: str) -> dict[str, Any]:
    """The JSON schema of a document.

    Args:
        name: Its name.

    Raises:
        UnknownName: There is no such document.
    """
    from pydantic import TypeAdapter

    if name == _EVENT:
        return {"$schema": _DIALECT, "anyOf": [_event_schema(kind) for kind in EVENTS.values()]}
    if name not in DOCUMENTS:
        raise UnknownName("document", name, sorted((*DOCUMENTS, _EVENT)))
    module, _, attribute = DOCUMENTS[name].partition(":")
    kind: Any = getattr(importlib.import_module(module), attribute)
    schema = TypeAdapter(kind).json_schema(mode="serialization")
    _describe(schema, kind)
    return {"$schema": _DIALECT, **schema}


def _event_schema(kind: type[Event]) -> dict[str, Any]:
    """An event as a line of output: the fields of its dataclass, its kind and when it was recorded."""
    from pydantic import TypeAdapter

    schema = TypeAdapter(kind).json_schema(mode="serialization")
    _describe(schema, kind)
    schema["properties"] |= {
        "event": {"const": kind.kind},
        "at": {"type": "number", "description": "When it was recorded (unix seconds)."},
    }
    schema["required"] = [*schema.get("required", []), "event", "at"]
    return schema


def _describe(schema: dict[str, Any], kind: Any) -> None:
    """Put the sentences under ``Attributes`` of the dataclasses' docstrings beside the properties."""
    known = _dataclasses(kind, {})
    definitions = schema.get("$defs", {})
    named = [*definitions.items(), (getattr(kind, "__name__", ""), schema)]
    for name, definition in named:
        declared = known.get(name)
        if declared is None or not isinstance(definition.get("properties"), dict):
            continue
        lines = attribute_descriptions(declared)
        definition["description"] = (inspect.getdoc(declared) or "").partition("\n")[0]
        for key, entry in definition["properties"].items():
            if key in lines:
                entry["description"] = lines[key]


def _dataclasses(kind: Any, known: dict[str, type]) -> dict[str, type]:
    """Every dataclass that a type holds, by name."""
    from typing import get_args, get_type_hints

    if is_dataclass(kind) and isinstance(kind, type) and kind.__name__ not in known:
        known[kind.__name__] = kind
        for hint in get_type_hints(kind).values():
            _dataclasses(hint, known)
    for part in get_args(kind):
        _dataclasses(part, known)
    return known


def attribute_descriptions(kind: type) -> dict[str, str]:
    """Attribute -> its description, from the section ``Attributes`` of a docstring.

    Args:
        kind: The class.
    """
    section = (inspect.getdoc(kind) or "").partition("Attributes:\n")[2].partition("\n\n")[0]
    descriptions: dict[str, str] = {}
    name = ""
    for line in section.splitlines():
        start = re.match(r"    (\w+): (.*)", line)
        if start:
            name = start[1]
            descriptions[name] = start[2]
        elif name and line.strip():
            descriptions[name] += " " + line.strip()
    return descriptions
