"""One output of a notebook's cell that is drawn again while the cell runs; needs nothing but IPython itself."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from typing import Any

from rich.console import RenderableType

from expflow.live.console import LiteralConsole

REFRESH_SECONDS = 0.25
_WIDTH = 115
_PAGE = '<pre style="white-space: pre; overflow-x: auto; line-height: normal">{code}</pre>'


class NotebookOutput:
    """An output below a cell, drawn at most every REFRESH_SECONDS on the cell's own thread; its last state stays.

    Args:
        render: Gives what is shown now.
    """

    def __init__(self, render: Callable[[], RenderableType]) -> None:
        self._render = render
        self._due = 0.0

    def start(self) -> None:
        """Begin an output below what the cell has shown so far."""
        from IPython.display import display

        show: Callable[..., Any] = display
        self._handle = show(self._drawn(), raw=True, display_id=True)

    def refresh(self) -> None:
        """Draw it again, unless it was drawn less than REFRESH_SECONDS ago."""
        now = time.monotonic()
        if now >= self._due:
            self._due = now + REFRESH_SECONDS
            self._handle.update(self._drawn(), raw=True)

    def stop(self) -> None:
        """Draw the last state."""
        self._handle.update(self._drawn(), raw=True)

    def _drawn(self) -> dict[str, str]:
        console = LiteralConsole(file=io.StringIO(), record=True, width=_WIDTH, force_jupyter=False)
        console.print(self._render())
        text = console.export_text(clear=False)
        return {"text/plain": text, "text/html": console.export_html(inline_styles=True, code_format=_PAGE)}
