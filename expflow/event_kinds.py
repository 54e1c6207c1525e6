"""Every event by the name that the ledger stores, and how one is read back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from expflow.events import Event
from expflow.field_types import checked_fields

EVENTS: dict[str, type[Event]] = {event.kind: event for event in Event.__subclasses__()}
"""Every event by the name that the ledger stores."""


def from_json(data: Mapping[str, Any]) -> Event:
    """Read an event back. Fields that a newer expflow added are ignored.

    Args:
        data: What :meth:`Event.to_json` gave.

    Raises:
        KeyError: It is of an unknown kind.
        TypeError: A field is missing, or is not of its type.
    """
    event = EVENTS[data["event"]]
    return event(**checked_fields(event, data))
