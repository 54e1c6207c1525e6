"""Printing documents."""

from __future__ import annotations

import json
from typing import Any

from expflow.cli.echo import echo
from expflow.plain_data import plain_data
from expflow.redaction import redacted_tree


def print_document(document: Any) -> None:
    """Print a document as one JSON object.

    Args:
        document: A dataclass of this package, or a list of what a command has always printed.
    """
    echo(json.dumps(redacted_tree(plain_data(document)), indent=2, allow_nan=False))


def print_line(value: Any) -> None:
    """Print an object on one line, at once: of a command whose answer comes bit by bit.

    Args:
        value: A dataclass, or plain data.
    """
    echo(json.dumps(redacted_tree(plain_data(value)), allow_nan=False))
