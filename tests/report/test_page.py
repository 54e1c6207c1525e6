from __future__ import annotations

import base64
import hashlib
import re
import resource
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image
from plotly.offline import get_plotlyjs

from expflow.ledger.state import SweepState
from expflow.report import write_report
from tests.report.states import digits, sweep, trial

VOID = {"meta", "img", "br", "link", "input"}


class Outline(HTMLParser):
    """Checks that tags are balanced, and collects what a browser would fetch or run."""

    def __init__(self):
        super().__init__()
        self.open, self.fetched, self.tags, self.scripts, self.policy = [], [], set(), [], ""

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        known = dict(attrs)
        if known.get("http-equiv") == "Content-Security-Policy":
            self.policy = known["content"]
        if tag == "script":
            self.scripts.append([known.get("type", ""), ""])
        self.fetched += [value for name, value in attrs if name in ("src", "href", "srcset") and value]
        if tag not in VOID:
            self.open.append(tag)

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts[-1][1] += data

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def runs_its_own_scripts_alone(self) -> bool:
        """Whether the page has its three script elements, and its policy names the hashes of the two that run."""
        kinds = [kind for kind, _ in self.scripts]
        digests = [hashlib.sha256(text.encode()).digest() for kind, text in self.scripts if not kind]
        hashes = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
        return kinds == ["application/json", "", ""] and self.policy.endswith(f"; script-src {hashes}")


def outline(path: Path) -> Outline:
    outlined = Outline()
    outlined.feed(path.read_text())
    assert outlined.open == []
    return outlined


@pytest.fixture(scope="module")
def depth(tmp_path_factory):
    folder = tmp_path_factory.mktemp("depth")
    return folder, write_report(folder, digits())


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
    assert sorted(path.name for path in folder.iterdir()) == ["best.yaml", "figures", "report.html", "report.json"]


def test_the_page_needs_nothing_but_itself(depth):
    outlined = outline(depth[1].html)
    assert outlined.fetched
    assert all(address.startswith("data:image/svg+xml;base64,") for address in outlined.fetched)
    assert not outlined.tags & {"link", "iframe", "object"}
    assert outlined.policy.startswith(
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-"
    )
    assert outlined.runs_its_own_scripts_alone()
    style = re.search(r"<style>(.*?)</style>", depth[1].html.read_text(), re.DOTALL).group(1)
    assert "url(" not in style
    assert "@import" not in style


def test_the_page_says_what_was_asked_found_and_run(depth):
    text = depth[1].html.read_text()
    for part in (
        "Does depth hurt without shortcuts?",
        "plain nets get worse with depth",
        "As expected.",
        "Holm-corrected over the 3 contrasts that were ever declared",
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
    write_report(tmp_path, digits())
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
    files = write_report(tmp_path, state)
    assert outline(files.html).runs_its_own_scripts_alone()
    shown = files.html.read_text().replace(get_plotlyjs(), "")
    assert shown.count("<script") == 3
    assert "alert(1)" in shown, "it is shown as text"
    assert "onerror='x'" not in shown
    assert all(path.parent == tmp_path / "figures" for path in files.figures)


def test_figures_of_one_name_do_not_overwrite_each_other(tmp_path):
    trials = [trial({"a": a, "b": b}, 0, "done", {"val/top1": 0.5}) for a in (1, 2) for b in (1, 2)]
    figures = [{"x": "a", "y": "val/top1", "line": line} for line in (None, "b")]
    files = write_report(tmp_path, sweep(trials, report={"figures": figures}))
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
    outline(write_report(tmp_path, EDGES[name]).html)


def test_an_unfinished_sweep_says_so_at_the_top(tmp_path):
    text = write_report(tmp_path, unfinished()).html.read_text()
    assert text.index("Not finished: 3 of 24 trials done, 1 running, 20 to come") < text.index("<main>")


def test_failures_are_named_with_their_reason(tmp_path):
    text = write_report(tmp_path, EDGES["only failures"]).html.read_text()
    assert "code: ValueError: no" in text
    assert "0 of 2 (s0 failed, s1 failed)" in text


def test_a_writer_that_fails_leaves_the_old_page_whole(tmp_path):
    state = EDGES["one trial"]
    write_report(tmp_path, state)
    before = (tmp_path / "report.html").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))  # the system ends a write in the middle of the page
    try:
        files = write_report(tmp_path, state)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert files.unwritable.startswith(f"the report cannot be written: {tmp_path}/")
    assert files.unwritable.endswith(": File too large")
    assert files.view.leaderboard.rows, "what it would show is known"
    assert (tmp_path / "report.html").read_bytes() == before
    assert not list(tmp_path.rglob("*.part"))


def test_the_light_part_does_not_import_matplotlib_or_torch():
    code = "import sys, expflow.report; print([name for name in ('matplotlib', 'torch', 'ray') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_a_page_without_data_stays_within_five_megabytes(tmp_path):
    assert write_report(tmp_path, SweepState()).html.stat().st_size < 5_000_000
