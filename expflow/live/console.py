"""The console that everything is printed on: it shows texts as they are."""

from __future__ import annotations

import os
from typing import Any

from rich.console import Console
from rich.text import Text

from expflow.live.terminal_pictures import picture_protocol, picture_sequence
from expflow.redaction import redacted
from expflow.text import escape_controls


class LiteralConsole(Console):
    """A console on which a text means itself.

    Brackets are no markup, ``:name:`` is no picture, numbers are not coloured, control characters are written out, and
    secrets are left out.
    A :class:`~rich.text.Text` is made by :func:`literal`.

    Args:
        options: As rich's Console takes them.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """As rich's, with control characters written out; every text that is printed or stands in a table comes here.

        Args:
            text: The text.
            options: As rich's method takes them.
        """
        return super().render_str(escape_controls(redacted(text)), **options)

    @property
    def shows_pictures(self) -> bool:
        """Whether this is a terminal that is known to show pictures."""
        return self.is_terminal and picture_protocol(os.environ) != ""

    def print_picture(self, png: bytes) -> None:
        """Show a picture; nothing happens where none is shown.

        Args:
            png: The file's content.
        """
        if self.shows_pictures:
            self.file.write(picture_sequence(png, picture_protocol(os.environ)))
            self.file.flush()


def literal(text: str, style: str = "") -> Text:
    """A text in one style, with control characters written out.

    Args:
        text: The text.
        style: As rich writes styles.
    """
    return Text(escape_controls(redacted(text)), style=style)
