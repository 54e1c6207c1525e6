"""What is the user's is shown as it is: no markup, no pictures, no control characters, no options."""

from __future__ import annotations

import ast
import io
import sys
import xml.etree.ElementTree
from pathlib import Path

import pytest

import expflow
from expflow import cli
from expflow.cli.views.errors import report_bug
from expflow.cluster.launcher import SweepRequest
from expflow.cluster.submission import submit_command, sweep_arguments
from expflow.config.yaml_reader import parse
from expflow.errors import UserError
from expflow.events import AttemptFailed, TrialEnded, TrialProposed, TrialReported, TrialStarted
from expflow.ledger import SweepState, load_state
from expflow.live.console import LiteralConsole
from expflow.live.table import LiveTable
from expflow.report import write_report
from expflow.sweep.messages import AttemptFailedMessage
from expflow.text import command_line, encodable, escape_controls, escape_line, escape_output
from tests.tracking import stories

SCRIPTED = "task: scripted\ntrainer: {epochs: 1}\n"

LABELS = {
    "[pad]": "[pad]",
    "[/none]": "[/none]",
    "[bold red]": "[bold red]",
    ":cat:": ":cat:",
    "a\x1b[31mred": r"a\x1b[31mred",
    "\x9b2J": r"\x9b2J",
    "\u202eevil": r"\u202eevil",
    "two\nlines": r"two\nlines",
    "tab\there": r"tab\there",
    "caf\udce9": r"caf\udce9",
    "$\\frac{": "$\\frac{",
    "<b>": "<b>",
    "plain é 日本 👩\u200d🔬": "plain é 日本 👩\u200d🔬",
}
"""Names as they may be -> as they are shown on a terminal."""


@pytest.fixture
def call(tmp_path, monkeypatch, capfd):
    """Type a command; returns its exit code and all that it printed. None of them may be called a bug."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")

    def run(*words: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as left:
            cli.main(list(words))
        printed = "".join(capfd.readouterr())
        assert "This is a bug" not in printed
        return int(left.value.code or 0), printed

    return run


class Nobody:
    """No MLflow beside a trial."""

    def finish(self, timeout_seconds: float) -> bool:
        return True

    def stop(self) -> None:
        pass


def a_trial(label: str, number: int = 0) -> list:
    """A trial that failed with its label in the message."""
    trial = f"{number:012x}"
    return [
        TrialProposed(trial, f"c{number}", 0, {"model.name": label}, {"model": {"name": label}}),
        TrialStarted(trial, 1, "gang-0"),
        TrialReported(trial, 1, 1, {"val/top1": 0.5, f"val/{label}": 0.25}, 0.5),
        AttemptFailed(trial, 1, "code", f"ValueError: {label}", f"Traceback of {label}\n"),
        TrialEnded(trial, 1, "failed", 1, 1.0),
    ]


@pytest.mark.parametrize("label", LABELS)
def test_every_view_shows_a_label_as_it_is(call, tmp_path, label):
    stories.write(tmp_path / "runs" / "depth", a_trial(label))
    (log := tmp_path / "runs" / "depth" / "trials").mkdir(parents=True)
    for words in (["status", "depth"], ["show", "depth/000000000000"], ["logs", "depth/0000"], ["report", "depth"]):
        code, printed = call(*words)
        assert code == 0, words
        assert LABELS[label] in printed, words
        assert not set(printed) & set("\x1b\x9b\u202e")
    assert log.is_dir()


@pytest.mark.parametrize(
    "question", ["is [/b] ok", "is [pad] better than [/none]?", "a :bug: in [red]?", "\x1b]0;t\x07"]
)
def test_a_question_is_printed_as_it_is(call, tmp_path, question):
    escaped = question.replace("\x1b", r"\e").replace("\x07", r"\a")
    text = (
        f'about: {{question: "{escaped}"}}\n{SCRIPTED}sweep: {{space: {{task.value: [0.1, 0.2]}}, metric: val/top1}}\n'
    )
    (tmp_path / "markup.yaml").write_text(text)
    code, printed = call("plan", "markup.yaml")
    assert code == 0
    assert printed.startswith(f"{escape_controls(question)}\n")


def test_a_problem_with_control_characters_is_printed_escaped(call, tmp_path):
    (tmp_path / "exp.yaml").write_text(SCRIPTED + '"key\\e[2J": 1\n')
    code, printed = call("plan", "exp.yaml")
    assert code == 2
    assert r"key\x1b[2J: unknown key" in printed


def test_a_key_with_a_newline_is_one_problem(call, tmp_path):
    (tmp_path / "exp.yaml").write_text(SCRIPTED + '"a\\nerror: all is well": 1\n')
    code, printed = call("plan", "exp.yaml")
    assert code == 2
    assert len(printed.splitlines()) == 1
    assert r"a\nerror: all is well: unknown key" in printed


def test_a_notebook_shows_an_error_escaped():
    assert UserError("odd \x1b[2J")._render_traceback_() == [r"UserError: odd \x1b[2J"]


def test_a_bug_is_printed_escaped(capfd):
    assert report_bug(ValueError("odd \x1b[2J [/b] \ud800")) == 1
    printed = capfd.readouterr().err
    assert r"error: ValueError: odd \x1b[2J [/b] \ud800" in printed
    assert "\x1b" not in printed


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("terminal", [False, True])
def test_the_live_table_shows_a_label_as_it_is(label, terminal):
    text = io.StringIO()
    console = LiteralConsole(file=text, width=300, force_terminal=terminal, color_system=None)
    table, state = LiveTable(console, "val/top1", "max", 3), SweepState()
    for event in [*a_trial(label), *a_trial(label, 1)[:-2]]:  # one has failed, one runs
        state.apply(event, 1.0)
        table(event, state)
    console.print(table._render())
    assert text.getvalue().count(f"model={LABELS[label]} s0") == 2
    if label.isprintable():
        assert f"ValueError: {label}" in text.getvalue()


def test_what_a_trial_printed_keeps_its_colours_and_nothing_else():
    assert escape_output("\x1b[1;31mred\x1b[0m 1/2\r2/2\n") == "\x1b[1;31mred\x1b[0m 1/2\r2/2\n"
    assert escape_output("\x1b]0;title\x07\x1b[2J\x1b[10A") == r"\x1b]0;title\x07\x1b[2J\x1b[10A"


def test_a_stream_that_lacks_a_character_gets_it_written_out(tmp_path, monkeypatch):
    for encoding in ("ascii", "latin-1", "utf-8"):
        stream = io.TextIOWrapper(buffer := io.BytesIO(), encoding=encoding)
        monkeypatch.setattr(sys, "stderr", stream)
        with pytest.raises(SystemExit) as left:
            cli.main(["plan", str(tmp_path / "日本\udcff.yaml")])
        stream.flush()
        assert left.value.code == 2
        assert rb"\udcff.yaml: no such file" in buffer.getvalue()


# Files and pages


@pytest.mark.parametrize("label", LABELS)
def test_page_and_figures_hold_no_control_characters(tmp_path, label):
    events = [*stories.whole_sweep(), *a_trial(label), *(whole := a_trial(label, 1))[:3]]
    events += [TrialEnded(whole[0].trial, 1, "done", 1, 1.0)]
    report = {"figures": [{"x": "model.name", "y": f"val/{label}", "line": None}]}
    stories.write(tmp_path, events, about={"question": label}, metric=f"val/{label}", mode="max", report=report)
    files = write_report(tmp_path, load_state(tmp_path))
    assert not set(files.html.read_text(encoding="utf-8")) & set("\x1b\x9b\u202e")
    drawn = sorted((tmp_path / "figures").glob("*.svg"))
    assert drawn
    for svg in drawn:
        xml.etree.ElementTree.parse(svg)
    head = (tmp_path / "best.yaml").read_text(encoding="utf-8").splitlines()[:2]
    assert all(line.startswith("# ") for line in head)
    if label == encodable(label):
        assert parse((tmp_path / "best.yaml").read_text(encoding="utf-8"), "best.yaml").child("model") is not None


def test_half_of_a_surrogate_pair_in_an_error_can_be_stored():
    failed = AttemptFailedMessage.from_error("t", 1, ValueError("bad \ud800"), seconds=1.0)
    assert failed.message == r"ValueError: bad \ud800"
    failed.traceback.encode()
    assert encodable("é\udcff") == r"é\udcff"


def test_a_trial_that_raises_half_of_a_surrogate_pair_fails_alone(call, tmp_path, monkeypatch):
    monkeypatch.setattr("expflow.tracking.follower_process.start_follower", lambda folder, uri, **named: Nobody())
    (tmp_path / "exp.yaml").write_text(SCRIPTED.replace("scripted", '{name: scripted, script: [{raise: "x"}]}'))
    monkeypatch.setattr("expflow.training.scripted.TrialError", lambda text: ValueError(f"{text}\ud800\x1b[2J"))
    code, printed = call("train", "exp.yaml")
    assert code == 1
    assert r"x\ud800\x1b[2J" in printed
    assert b"x\\ud800\x1b[2J" in next((tmp_path / "runs").rglob("log.txt")).read_bytes()


# Commands


@pytest.mark.parametrize("name", ["-rf.yaml", "--help.yaml", "-"])
def test_a_file_that_begins_with_a_dash_is_no_option(name):
    assert sweep_arguments(name, "/runs", ()) == ("-m", "expflow", "sweep", f"./{name}", "--storage", "/runs")
    assert submit_command(SweepRequest(Path(name), "x", "/runs")).startswith(f"expflow submit ./{name} ")


def test_a_name_that_begins_with_a_dash_is_no_option():
    assert command_line("show", "-rf/best") == "expflow show -- -rf/best"
    assert command_line("ui", "-rf", "--storage", "my runs") == "expflow ui --storage 'my runs' -- -rf"
    assert command_line("logs", "a/12", "--follow") == "expflow logs a/12 --follow"


def test_results_of_a_file_that_begins_with_a_dash(call, tmp_path, monkeypatch):
    monkeypatch.setattr("expflow.tracking.follower_process.start_follower", lambda folder, uri, **named: Nobody())
    (tmp_path / "-rf.yaml").write_text(SCRIPTED)
    code, printed = call("train", "./-rf.yaml")
    assert code == 0
    assert "result   expflow show -- -rf/best\n" in printed
    assert call("show", "--", "-rf/best")[0] == 0


def test_lines_and_texts():
    assert escape_line("a\nb\tc") == r"a\nb\tc"
    assert escape_controls("a\nb\tc\r") == "a\nb\tc\\r"
    assert escape_controls("\u2028\ufeff\u2066\x7f") == r"\u2028\ufeff\u2066\x7f"


# One door


PRINTERS = {"cli/echo.py", "live/console.py", "config/reference.py"}
"""The modules that print by themselves; the last one is the program that writes a page."""


def test_nothing_prints_past_the_console_and_echo():
    root = Path(expflow.__file__).parent
    for path in [*(root / "cli").rglob("*.py"), *(root / "live").rglob("*.py")]:
        if path.relative_to(root).as_posix() in PRINTERS:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "rich.console":
                assert "Console" not in {alias.name for alias in node.names}, f"{path}:{node.lineno}: LiteralConsole"
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("print", "typer.echo", "sys.stdout.write"), f"{path}:{node.lineno}: {called}"
