"""What all figures share: axes, scales, and rendering into bytes (matplotlib without pyplot)."""

from __future__ import annotations

import contextlib
import io
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, PercentFormatter

from expflow.metrics import is_share
from expflow.report.palette import SPAN_FOR_LOG
from expflow.text import escape_controls

MARKERS = "os^DvPX*"
INK, FAINT = "#333333", "#DDDDDD"
_DPI = 150
_TITLE_CHARACTERS = 12
"""Characters of a title on an inch."""


@dataclass(frozen=True)
class RenderedFigure:
    """One finished figure.

    Attributes:
        name: File name without an ending.
        title: Its title.
        caption: What a reader must know.
        alt: What it shows, in words.
        png: The PNG file's content.
        svg: The SVG file's content.
    """

    name: str
    title: str
    caption: str
    alt: str
    png: bytes
    svg: bytes


def render_figure(figure: Figure, name: str, title: str, caption: str, alt: str) -> RenderedFigure:
    """The figure as PNG and SVG.

    Args:
        figure: A figure of :func:`new_figure`.
        name: File name without an ending.
        title: Its title.
        caption: What a reader must know.
        alt: What it shows, in words.
    """
    with _settings():
        engine = figure.get_layout_engine()
        if engine is not None:  # else matplotlib would draw it twice for each file, the first time only to lay it out
            engine.execute(figure)
            figure.set_layout_engine(None)
        return RenderedFigure(name, title, caption, alt, _saved(figure, "png"), _saved(figure, "svg"))


def write_title(figure: Figure, title: str) -> None:
    """Write a title over a figure, in as many lines as its width needs.

    Args:
        figure: A figure of :func:`new_figure`.
        title: At most 90 characters of it are written.
    """
    lines = textwrap.wrap(truncated(title, 90), max(16, int(_TITLE_CHARACTERS * figure.get_figwidth())))
    figure.suptitle(escape_mathtext("\n".join(lines)), fontsize=10, color=INK)


@contextlib.contextmanager
def _settings() -> Iterator[None]:
    """What figures are rendered with: ids from a fixed salt, letters as paths, and no layout but the one before."""
    same_bytes = matplotlib.rc_context({"svg.hashsalt": "expflow", "svg.fonttype": "path"})
    no_layout = matplotlib.rc_context({"figure.autolayout": False, "figure.constrained_layout.use": False})
    with same_bytes, no_layout, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)  # a user's own letters draw as boxes
        yield


def _saved(figure: Figure, kind: str) -> bytes:
    """The figure as a file's bytes, without a date."""
    buffer = io.BytesIO()
    metadata = {"Date": None, "Creator": "expflow"} if kind == "svg" else {"Software": "expflow"}
    figure.savefig(buffer, format=kind, dpi=_DPI, metadata=metadata)
    return buffer.getvalue()


def escape_mathtext(text: str) -> str:
    """A text that matplotlib shows literally: no formulas, no hidden legend entries, no control characters.

    An SVG file that held one could not be read.

    Args:
        text: A text of the user's.
    """
    shown = escape_controls(text).replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown


def truncated(label: str, length: int) -> str:
    """A label, cut with an ellipsis where it is longer than a figure has room for.

    Args:
        label: The label.
        length: The most characters.
    """
    return label if len(label) <= length else label[: length - 1] + "…"


def new_figure(width: float, height: float) -> Figure:
    """An empty white figure.

    Args:
        width: In inches.
        height: In inches.
    """
    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def style_axes(axes: Axes) -> None:
    """Give axes grey spines and a faint grid behind the data.

    Args:
        axes: The axes.
    """
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#888888")
    axes.tick_params(colors=INK, labelsize=9)
    axes.grid(visible=True, which="major", color=FAINT, linewidth=0.7)
    axes.set_axisbelow(True)


def set_y_scale(axes: Axes, metric: str, values: Sequence[float]) -> str:
    """Percent for shares; a log axis where values span more than a factor of 30 and zero is not among them.

    Args:
        axes: The axes whose y scale is set.
        metric: The metric on it.
        values: All values that are drawn.

    Returns:
        The name of the scale: ``linear``, ``log`` or ``symlog``.
    """
    if is_share(metric):
        axes.yaxis.set_major_formatter(PercentFormatter(xmax=1.0, decimals=None, symbol=""))
        return "linear"
    positive = [value for value in values if value > 0]
    if not positive or min(values) < 0 or max(values) <= SPAN_FOR_LOG * min(positive):
        return "linear"
    if min(values) == 0:
        axes.set_yscale("symlog", linthresh=min(positive))
        axes.yaxis.set_major_formatter(FuncFormatter(tick_label))
        return "symlog"
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(tick_label))
    axes.yaxis.set_minor_formatter(NullFormatter())
    return "log"


def tick_label(value: float, _position: int | None = None) -> str:
    """A tick's label: ``0.001`` instead of a power of ten, as long as it is short.

    Args:
        value: The tick's value.
        _position: Its place on the axis, which matplotlib passes.
    """
    if value == 0 or 1e-4 <= abs(value) < 1e6:
        return f"{value:g}"
    digit, _, power = f"{value:.0e}".partition("e")
    return f"{digit}e{int(power)}"
