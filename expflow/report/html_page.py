"""Pages that need nothing but themselves: templates, charts, and the two scripts that a page runs.

Texts are escaped by the template, data by :func:`_data_in_page`, and what may run is named by its hash: whatever an
experiment holds, it stays text.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from expflow.text import escape_controls

if TYPE_CHECKING:
    from expflow.report.charts.chart import Chart

_FOLDER = Path(__file__).parent
_SCRIPT = "page.js"


def render_html(template: str, charts: Sequence[Chart], /, **context: Any) -> str:
    """A page.

    Args:
        template: File name of its template.
        charts: Every chart that it shows; their names differ.
        context: What the template shows.
    """
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        finalize=_shown,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    scripts = _scripts()
    page = environment.get_template(template).render(
        **context,
        chart_data=_data_in_page({chart.name: {"data": chart.traces, "layout": chart.layout} for chart in charts}),
        # plotly's and expflow's own, nothing of a user's
        scripts=[Markup(script) for script in scripts],  # noqa: S704
        script_hashes=Markup(" ".join(f"'sha256-{_sha256(script)}'" for script in scripts)),  # noqa: S704
    )
    return page + "\n"


def _shown(value: object) -> object:
    """A value as a template shows it: texts with their control characters written out."""
    return escape_controls(value) if type(value) is str else value


def _scripts() -> list[str]:
    """What a page runs: the library of the charts, and what draws them."""
    from plotly.offline import get_plotlyjs

    return [get_plotlyjs(), (_FOLDER / _SCRIPT).read_text(encoding="utf-8")]


def _sha256(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _data_in_page(data: Any) -> Markup:
    """Data inside of a script element that is no script: no character of it can end the element."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)  # noqa: S704
