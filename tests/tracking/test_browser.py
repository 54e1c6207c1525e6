"""The saved view in MLflow's own pages, in a real browser: its form is documented nowhere; this sees a change."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from dashboards.make_pictures import Page, running_browser, shows, take_all
from expflow.tracking.follower import catch_up
from expflow.tracking.ui import compare_link, start_ui, stop_ui
from tests.browser.chromium import missing_browser
from tests.tracking.stories import whole_sweep, write
from tests.tracking.test_notes import REPORT
from tests.tracking.test_tracking_server import free_port

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(500),
    pytest.mark.skipif(bool(missing_browser()), reason=missing_browser()),
]


def test_the_link_opens_the_charts_that_matter_first(tmp_path: Path, uri: str) -> None:
    folder = tmp_path / "depth"
    write(folder, whole_sweep(), space=({"key": "model.depth", "values": [20, 56]},))
    (folder / "report.html").write_text("page")
    (folder / "report.json").write_text(json.dumps(REPORT))
    catch_up(folder, uri)
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    link = compare_link(base, uri, "depth")
    experiment = link.partition("/experiments/")[2].partition("/")[0]
    first = "document.body.innerText.indexOf('What was asked') < document.body.innerText.indexOf('Learning curves')"
    view = shows("What was asked", "Learning curves", "What it costs", "expflow: configs of depth")
    drawn = "document.querySelectorAll('.js-plotly-plot .main-svg').length > 0"
    pages = [
        Page("compare", link, f"{view} && {first} && {drawn}"),
        Page("runs", f"{base}/#/experiments/{experiment}/runs", shows("Does depth hurt?")),
    ]
    server = start_ui(uri, port=port)
    try:
        with running_browser() as debugging_port:
            pictures = asyncio.run(take_all(pages, debugging_port))
    finally:
        stop_ui(server)
    assert all(picture.startswith(b"\x89PNG") for picture in pictures.values())
