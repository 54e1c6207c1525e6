"""Texts of the user's, or of files from elsewhere, made fit to be shown: on a terminal, in a page, in a command.

A name or a message may hold anything. Control characters would move the cursor of a terminal or set its title, and what
changes the direction of writing would show another name than there is. They are written as Python writes them
(``\\x1b``), so that they are seen, and texts that differ look different.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

_HIDDEN = "\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff"
"""Control characters but tab and newline, separators of lines, marks of direction, and halves of surrogate pairs."""

_CONTROLS = re.compile(f"[{_HIDDEN}]")
_CONTROLS_AND_BREAKS = re.compile(f"[\t\n{_HIDDEN}]")
_COLOUR_OR_CONTROL = re.compile(rf"(?P<shown>\x1b\[[0-9;:]*m|\r)|[{_HIDDEN}]")


def _escaped(match: re.Match[str]) -> str:
    return match.group().encode("unicode_escape").decode("ascii")


def escape_controls(text: str) -> str:
    """The text with its control characters written out; tabs and ends of lines stay.

    Args:
        text: Any text.
    """
    return text if text.isprintable() else _CONTROLS.sub(_escaped, text)


def escape_line(text: str) -> str:
    """The text on one line: as :func:`escape_controls`, with tabs and ends of lines written out as well.

    Args:
        text: Any text.
    """
    return text if text.isprintable() else _CONTROLS_AND_BREAKS.sub(_escaped, text)


def escape_output(text: str) -> str:
    """What a program printed, as a terminal may show it: colours and progress bars stay.

    Args:
        text: The output.
    """
    return _COLOUR_OR_CONTROL.sub(lambda match: match["shown"] or _escaped(match), text)


def encodable(text: str) -> str:
    """The text with halves of surrogate pairs written out, which no file, pipe or database takes.

    Args:
        text: Any text.
    """
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


def relative(path: Path) -> str:
    """A path as one would type it in the working folder.

    Args:
        path: An absolute path.
    """
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def command_line(verb: str, operand: str, *options: str) -> str:
    """A command of expflow's to be typed: quoted for a shell, and with an operand that is never taken for an option.

    Args:
        verb: The command, such as ``sweep``.
        operand: What it is about: a file, or a name of results.
        options: Options with their values.
    """
    words = [*options, "--", operand] if operand.startswith("-") else [operand, *options]
    return shlex.join(["expflow", verb, *words])


def file_operand(path: str) -> str:
    """A relative path as a command takes it anywhere among its options: one that begins with a dash gets ``./``.

    Args:
        path: The path.
    """
    return f"./{path}" if path.startswith("-") else path
