"""Lines for stdout and stderr that need no rich, which takes longer to import than some commands to answer."""

from __future__ import annotations

import io
import sys

import typer

from expflow.redaction import redacted
from expflow.text import escape_controls, escape_output


def echo(text: str, *, err: bool = False, nl: bool = True) -> None:
    """Print a text as it is, with control characters written out and without secrets.

    Args:
        text: The text.
        err: Whether it goes to stderr.
        nl: Whether a line ends behind it.
    """
    typer.echo(escape_controls(redacted(text)), err=err, nl=nl)


def echo_output(text: str) -> None:
    """Pass on what a program printed, with colours, and without anything else that would work on a terminal.

    Args:
        text: The output, or the next part of it.
    """
    sys.stdout.write(escape_output(text))
    sys.stdout.flush()


def print_unencodable() -> None:
    """Let stdout and stderr write out what their encoding lacks, instead of raising: names of files may hold bytes that
    are no text, and a terminal may know ASCII alone."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
