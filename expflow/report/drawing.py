"""What all figures share: colours, axes, scales, and their way into bytes (matplotlib without pyplot).

Colours are those of M. Okabe and K. Ito (Color Universal Design, 2008), which stay apart for colour-blind readers;
every line has a marker of its own as well.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, PercentFormatter

from expflow.report import words

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#7A5C00")
MARKERS = "os^DvPX*"
FAILED = "#B00020"
INK, FAINT = "#333333", "#DDDDDD"
SPAN_FOR_LOG = 30.0
"""A range of more than this factor hides its lower part on a linear axis."""
_DPI = 150


@dataclass(frozen=True)
class Drawing:
    """One finished figure. ``name`` is its file name without an ending; ``alt`` says in words what it shows."""

    name: str
    title: str
    caption: str
    alt: str
    png: bytes
    svg: bytes


def finished(figure: Figure, name: str, title: str, caption: str, alt: str) -> Drawing:
    """The figure as bytes of both kinds."""
    png = _saved(figure, "png")
    figure.set_layout_engine("none")  # laid out once is enough
    return Drawing(name, title, caption, alt, png, _saved(figure, "svg"))


def _saved(figure: Figure, kind: str) -> bytes:
    """The figure as a file's bytes, the same for the same figure: no date, and ids from a fixed salt."""
    buffer = io.BytesIO()
    metadata = {"Date": None, "Creator": "expflow"} if kind == "svg" else {"Software": "expflow"}
    with matplotlib.rc_context({"svg.hashsalt": "expflow", "svg.fonttype": "path"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)  # a user's own letters draw as boxes
        figure.savefig(buffer, format=kind, dpi=_DPI, metadata=metadata)
    return buffer.getvalue()


def literal(text: str) -> str:
    """``text`` as matplotlib shows it literally: no formulas, and no hidden legend entries."""
    shown = text.replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown


def shortened(label: str, length: int) -> str:
    """``label``, cut where it is longer than a figure has room for."""
    return label if len(label) <= length else label[: length - 1] + "…"


def canvas(width: float, height: float) -> Figure:
    """An empty white figure, in inches."""
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def dress(axes: Axes) -> None:
    """Quiet spines, a faint grid behind the data."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#888888")
    axes.tick_params(colors=INK, labelsize=9)
    axes.grid(visible=True, which="major", color=FAINT, linewidth=0.7)
    axes.set_axisbelow(True)


def set_scale(axes: Axes, metric: str, values: Sequence[float]) -> str:
    """Percent for shares; a log axis where values span more than a factor of 30 and zero is not among them."""
    if words.is_share(metric):
        axes.yaxis.set_major_formatter(PercentFormatter(xmax=1.0, decimals=None, symbol=""))
        return "linear"
    positive = [value for value in values if value > 0]
    if not positive or min(values) < 0 or max(values) <= SPAN_FOR_LOG * min(positive):
        return "linear"
    if min(values) == 0:
        axes.set_yscale("symlog", linthresh=min(positive))
        axes.yaxis.set_major_formatter(FuncFormatter(plain_number))
        return "symlog"
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(plain_number))
    axes.yaxis.set_minor_formatter(NullFormatter())
    return "log"


def plain_number(value: float, _position: int | None = None) -> str:
    """A tick's label: ``0.001`` instead of a power of ten, as long as it is short."""
    if value == 0 or 1e-4 <= abs(value) < 1e6:
        return f"{value:g}"
    digit, _, power = f"{value:.0e}".partition("e")
    return f"{digit}e{int(power)}"
