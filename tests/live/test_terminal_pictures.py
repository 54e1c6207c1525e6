"""Samples on a terminal that shows pictures: the sequences, and `status -f` on a terminal of each kind."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from expflow import cli
from expflow.live.console import LiteralConsole
from expflow.live.terminal_pictures import CHUNK, picture_protocol, picture_sequence
from expflow.sweep.in_process import run_in_process
from expflow.sweep.plan import make_plan

DRAWN = """
data: {name: digits, batch_size: 20, limit: 40}
model: {name: autoencoder, backbone: resnet, layout: cifar, depth: 8, width: 2, code: 2, decoder_width: 2}
task: {name: autoencoder, samples: 4}
optimizer: sgd
trainer: {epochs: 1}
"""
VARIABLES = ("TMUX", "TERM", "TERM_PROGRAM", "KITTY_WINDOW_ID")


def picture(side: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side), dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("environment", "protocol"),
    [
        ({"TERM": "xterm-kitty"}, "kitty"),
        ({"KITTY_WINDOW_ID": "1"}, "kitty"),
        ({"TERM_PROGRAM": "ghostty"}, "kitty"),
        ({"TERM_PROGRAM": "iTerm.app"}, "iterm"),
        ({"TERM": "xterm-256color"}, ""),
        ({"TERM": "xterm-kitty", "TMUX": "/tmp/tmux"}, ""),
        ({"TERM": "screen-256color", "KITTY_WINDOW_ID": "1"}, ""),
        ({}, ""),
    ],
)
def test_which_terminals_show_pictures(environment: dict[str, str], protocol: str) -> None:
    assert picture_protocol(environment) == protocol


@pytest.mark.parametrize("side", [2, 60, 120])
def test_what_kitty_is_sent_is_the_file(side: int) -> None:
    png = picture(side)
    parts = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", picture_sequence(png, "kitty"))
    assert base64.b64decode("".join(text for _, text in parts)) == png
    assert all(len(text) <= CHUNK for _, text in parts)
    assert parts[0][0].startswith("a=T,f=100,")
    assert [keys[-3:] for keys, _ in parts] == ["m=1"] * (len(parts) - 1) + ["m=0"]


def test_what_iterm_is_sent_is_the_file() -> None:
    png = picture(30)
    [(size, text)] = re.findall(r"\x1b\]1337;File=inline=1;size=(\d+):([^\x07]*)\x07", picture_sequence(png, "iterm"))
    assert (int(size), base64.b64decode(text)) == (len(png), png)


def test_nothing_is_sent_to_a_file_or_to_another_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for terminal, known in ((False, True), (True, False)):
        monkeypatch.setenv("TERM", "xterm-kitty" if known else "xterm-256color")
        for name in ("TMUX", "TERM_PROGRAM", "KITTY_WINDOW_ID"):
            monkeypatch.delenv(name, raising=False)
        file = io.StringIO()
        LiteralConsole(file=file, force_terminal=terminal).print_picture(picture(4))
        assert not file.getvalue()


def test_status_follow_shows_the_newest_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EXPFLOW_CACHE", str(tmp_path / "cache"))
    (tmp_path / "drawn.yaml").write_text(DRAWN)
    run_in_process(make_plan(tmp_path / "drawn.yaml"))
    [file] = (tmp_path / "runs").rglob("artifacts/samples/*.png")
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-kitty")
    shown = {}
    for forced, words in (("1", ["-f"]), ("1", []), ("0", ["-f"])):
        monkeypatch.setenv("TTY_COMPATIBLE", forced)
        with pytest.raises(SystemExit):
            cli.main(["status", "drawn", *words])
        parts = re.findall(r"\x1b_G[^;]*;([^\x1b]*)\x1b\\", capsys.readouterr().out)
        shown[forced, *words] = base64.b64decode("".join(parts))
    assert shown == {("1", "-f"): file.read_bytes(), ("1",): b"", ("0", "-f"): b""}
