"""Pictures on terminals that can show them: the escape sequences of kitty's and of iTerm's protocol."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Literal

Protocol = Literal["kitty", "iterm", ""]

CHUNK = 4096
"""Most characters of a picture in one sequence of kitty's."""

_KITTY, _ITERM = ("WezTerm", "ghostty"), ("iTerm.app",)
"""What terminals call themselves in ``TERM_PROGRAM``."""


def picture_protocol(environment: Mapping[str, str]) -> Protocol:
    """How a terminal shows pictures; "" where it is not known to. Within tmux or screen none does.

    Args:
        environment: The process's variables.
    """
    if environment.get("TMUX") or environment.get("TERM", "").startswith("screen"):
        return ""
    program = environment.get("TERM_PROGRAM", "")
    if environment.get("KITTY_WINDOW_ID") or environment.get("TERM") == "xterm-kitty" or program in _KITTY:
        return "kitty"
    return "iterm" if program in _ITERM else ""


def picture_sequence(png: bytes, protocol: Protocol) -> str:
    """What a terminal is sent to show a picture; "" for none.

    Args:
        png: The file's content.
        protocol: The terminal's.

    Source:
        "The terminal graphics protocol" of kitty, "Inline images protocol" of iTerm2.
    """
    text = base64.b64encode(png).decode()
    if protocol == "iterm":
        return f"\x1b]1337;File=inline=1;size={len(png)}:{text}\x07\n"
    if protocol != "kitty":
        return ""
    parts = [text[start : start + CHUNK] for start in range(0, len(text), CHUNK)]
    sequences = []
    for number, part in enumerate(parts):
        keys = "a=T,f=100," if number == 0 else ""
        sequences.append(f"\x1b_G{keys}m={int(number < len(parts) - 1)};{part}\x1b\\")
    return "".join(sequences) + "\n"
