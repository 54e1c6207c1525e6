from __future__ import annotations

import re
import resource
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image
from states import digits, sweep, trial

from expflow.ledger.state import SweepState
from expflow.report import write

CHROMIUM = shutil.which("chromium")
VOID = {"meta", "img", "br", "link"}


class Outline(HTMLParser):
    """Checks that tags are balanced, and collects what a browser would fetch or run."""

    def __init__(self):
        super().__init__()
        self.open, self.fetched, self.tags = [], [], set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.fetched += [value for name, value in attrs if name in ("src", "href", "srcset") and value]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def outline(path: Path) -> Outline:
    found = Outline()
    found.feed(path.read_text())
    assert found.open == []
    return found


@pytest.fixture(scope="module")
def depth(tmp_path_factory):
    folder = tmp_path_factory.mktemp("depth")
    return folder, write(folder, digits())


def test_the_page_and_its_figures(depth):
    folder, files = depth
    assert files.html == folder / "report.html"
    assert [path.name for path in files.figures] == [
        "val_top1-by-model_depth.png",
        "fit_loss-by-model_depth.png",
        "learning-loss.png",
        "learning-metric.png",
    ]
    for path in files.figures:
        with Image.open(path) as image:
            assert min(image.size) > 300
        assert path.with_suffix(".svg").read_text().lstrip().startswith("<?xml")
    assert sorted(each.name for each in folder.iterdir()) == ["best.yaml", "figures", "report.html"]


def test_the_page_needs_nothing_but_itself(depth):
    found = outline(depth[1].html)
    assert found.fetched
    assert all(each.startswith("data:image/svg+xml;base64,") for each in found.fetched)
    assert not found.tags & {"script", "link", "iframe", "object"}
    style = re.search(r"<style>(.*)</style>", depth[1].html.read_text(), re.DOTALL).group(1)
    assert "url(" not in style
    assert "@import" not in style


def test_the_page_says_what_was_asked_found_and_run(depth):
    text = depth[1].html.read_text()
    for part in (
        "Does depth hurt without shortcuts?",
        "plain nets get worse with depth",
        "As expected.",
        "Holm-corrected over the 3 declared contrasts",
        "one image is 0.25 points",
        "train 1,400, val 397",
        "torch 2.15.0",
        "0123abc",
        "optimizer.momentum",
        "expflow sweep experiments/resnet_depth.yaml",
        "24 of 24 trials done",
    ):
        assert part in text
    assert "Not finished" not in text


def test_the_same_state_gives_the_same_bytes(depth, tmp_path):
    write(tmp_path, digits())
    for path in sorted(depth[0].rglob("*.*")):
        assert (tmp_path / path.relative_to(depth[0])).read_bytes() == path.read_bytes(), path.name


def test_nothing_from_the_experiment_becomes_markup(tmp_path):
    evil = "<script>alert(1)</script>"
    trials = [
        trial({"model": evil, "_x$": "$\\frac{1}$"}, 0, "done", {"val/top1": 0.5, evil: 1.0}),
        trial({"model": "b\u6f22", "_x$": "_hidden"}, 0, "failed", {"val/top1": 0.5}, failure=("code", evil)),
    ]
    figure = {"x": "model", "y": "val/top1", "line": "_x$"}
    asked = {"metric": evil, "of": {"model": evil}, "against": {"model": "b"}, "expect": "higher"}
    state = sweep(
        trials,
        name=evil,
        text=evil,
        file=evil,
        about={"question": evil, "expect": "\"><img src=x onerror='x'>"},
        recipe={"optimizer": {"name": evil}},
        versions={evil: evil},
        git={"commit": evil},
        space=({"key": "model", "kind": "choice", "values": [evil, "b"], "when": {evil: [evil]}},),
        report={"figures": [figure, {"x": evil, "y": evil, "line": None}], "contrasts": [asked]},
    )
    files = write(tmp_path, state)
    assert "script" not in outline(files.html).tags
    assert "<script" not in files.html.read_text()
    assert "onerror='x'" not in files.html.read_text()
    assert all(path.parent == tmp_path / "figures" for path in files.figures)


def test_figures_of_one_name_do_not_overwrite_each_other(tmp_path):
    trials = [trial({"a": a, "b": b}, 0, "done", {"val/top1": 0.5}) for a in (1, 2) for b in (1, 2)]
    figures = [{"x": "a", "y": "val/top1", "line": line} for line in (None, "b")]
    files = write(tmp_path, sweep(trials, report={"figures": figures}))
    assert [path.name for path in files.figures[:2]] == ["val_top1-by-a.png", "val_top1-by-a-2.png"]


def unfinished() -> SweepState:
    trials = [trial({"a": a}, 0, "done", {"val/top1": 0.1 * a}) for a in range(3)]
    trials.append(trial({"a": 3}, 0, "running", {"val/top1": 0.1}))
    return sweep(trials, expected_trials=24, report={})


EDGES = {
    "no ledger": SweepState(),
    "no trials": sweep([]),
    "only failures": sweep([trial({"a": 1}, seed, "failed", failure=("code", "ValueError: no")) for seed in (0, 1)]),
    "failed late": sweep([trial({"a": 1}, 0, "failed", {"val/loss": 9.0}, failure=("diverged", "nan"))]),
    "one trial": sweep([trial({}, 0, "done", {"val/top1": 0.5})], space=(), report={}),
    "running": unfinished(),
    "nan": sweep([trial({"model.depth": 8}, 0, "done", {"val/top1": float("nan"), "fit/loss": float("inf")})]),
    "zero and huge": sweep(
        [
            trial({"model.depth": 10**at}, 0, "done", {"val/top1": 0.0, "fit/loss": 0.0 if at else 1e12})
            for at in range(4)
        ]
    ),
    "stopped": sweep([trial({"a": 1}, 0, "stopped", {"val/top1": 0.5})], report={}),
    "many": sweep([trial({"a": a / 7}, 0, "done", {"val/top1": a / 200}) for a in range(200)], report={}),
}


@pytest.mark.parametrize("name", EDGES)
def test_every_state_makes_a_page(name, tmp_path):
    outline(write(tmp_path, EDGES[name]).html)


def test_an_unfinished_sweep_says_so_at_the_top(tmp_path):
    text = write(tmp_path, unfinished()).html.read_text()
    assert text.index("Not finished: 3 of 24 trials done, 1 running, 20 to come") < text.index("<main>")


def test_failures_are_named_with_their_reason(tmp_path):
    text = write(tmp_path, EDGES["only failures"]).html.read_text()
    assert "code: ValueError: no" in text
    assert "0 of 2 (s0 failed, s1 failed)" in text


def test_a_writer_that_fails_leaves_the_old_page_whole(tmp_path):
    state = EDGES["one trial"]
    write(tmp_path, state)
    before = (tmp_path / "report.html").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))  # the system ends a write in the middle of the page
    try:
        with pytest.raises(OSError, match="File too large"):
            write(tmp_path, state)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / "report.html").read_bytes() == before
    assert not list(tmp_path.rglob("*.part"))


def test_the_light_part_does_not_import_matplotlib_or_torch():
    code = "import sys, expflow.report; print([name for name in ('matplotlib', 'torch', 'ray') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_a_browser_draws_it_all(depth, tmp_path):
    shot = tmp_path / "page.png"
    subprocess.run(
        [
            *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"),
            *("--disable-background-networking", "--disable-component-update", "--hide-scrollbars"),
            *("--window-size=1100,4600", f"--user-data-dir={tmp_path / 'profile'}", f"--screenshot={shot}"),
            depth[1].html.as_uri(),
        ],
        check=True,
        capture_output=True,
        timeout=50,
    )
    with Image.open(shot) as image:
        colours = image.convert("RGB").getcolors(maxcolors=1 << 24)
    seen = {colour for _, colour in colours}
    assert {(0, 114, 178), (213, 94, 0)} <= seen  # the lines of the figures
    assert (0, 105, 74) in seen  # the mark of an answer as expected
