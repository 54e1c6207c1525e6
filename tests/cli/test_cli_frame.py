"""How commands end: exit codes, messages without tracebacks, and what the shell may ask."""

import os
import subprocess
import sys

import pytest

import expflow
from expflow import cli
from expflow.errors import ExperimentInvalid, Interrupted, Problem, ServerUnreachable, TrialError


def run(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "expflow", *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )


@pytest.fixture
def failing(monkeypatch, capsys):
    """Call main() with a command that raises; returns (exit code, stderr)."""

    def call(error):
        def doctor(quick: bool = False) -> None:
            raise error

        app = cli.typer.Typer(pretty_exceptions_enable=False)
        app.command()(doctor)
        monkeypatch.setattr(cli, "app", app)
        with pytest.raises(SystemExit) as left:
            cli.main([])
        return left.value.code, capsys.readouterr().err

    return call


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (TrialError("a trial failed"), 1),
        (ServerUnreachable("no server"), 3),
    ],
)
def test_an_error_of_ours_is_words_and_its_exit_code(failing, error, code):
    assert failing(error) == (code, f"error: {error}\n")


@pytest.mark.parametrize(("number", "code"), [(15, 143), (2, 130)])
def test_a_stop_that_was_asked_for_is_not_called_an_error(failing, number, code):
    assert failing(Interrupted("stopped; all is saved", signal_number=number)) == (code, "stopped; all is saved\n")


def test_every_problem_of_an_experiment_stands_on_a_line_of_its_own(failing):
    problems = [Problem("a.yaml", 3, 7, "model.depth", "expected 6n+2"), Problem("a.yaml", 9, 1, "loss", "unknown")]
    code, printed = failing(ExperimentInvalid(problems))
    assert code == 2
    assert printed == "error: a.yaml:3:7: model.depth: expected 6n+2\nerror: a.yaml:9:1: loss: unknown\n"


def test_debug_adds_the_traceback(failing, monkeypatch):
    monkeypatch.setenv("EXPFLOW_DEBUG", "1")
    code, printed = failing(ServerUnreachable("no server"))
    assert code == 3
    assert "Traceback" in printed
    assert printed.endswith("error: no server\n")


def test_a_bug_is_said_to_be_one_and_shows_where(failing):
    code, printed = failing(ZeroDivisionError("division by zero"))
    assert code == 1
    assert "Traceback" in printed
    assert f"bug in expflow {expflow.__version__}" in printed


def test_ctrl_c_is_130(failing):
    code, printed = failing(KeyboardInterrupt())
    assert (code, printed) == (130, "")


def test_the_version():
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"expflow {expflow.__version__}\n")


def test_a_wrong_call_is_2_and_names_the_nearest_verb():
    done = run("sumbit", "a.yaml")
    assert done.returncode == 2
    assert "submit" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_reader_that_leaves_early_gets_no_traceback():
    command = [sys.executable, "-m", "expflow", "schema"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        printed = process.stderr.read()
    assert b"Traceback" not in printed


def test_help_lists_the_exit_codes():
    assert "Exit codes: 0 all done" in run("--help").stdout


def test_the_shell_completes_verbs_files_and_names(tmp_path, monkeypatch):
    (tmp_path / "mine.yaml").write_text("")
    (tmp_path / "more").mkdir()
    (tmp_path / "notes.txt").write_text("")
    monkeypatch.chdir(tmp_path)

    def offered(line):
        done = run(
            _EXPFLOW_COMPLETE="complete_bash", COMP_WORDS=f"expflow {line}", COMP_CWORD=str(len(line.split(" ")))
        )
        return done.stdout.split()

    assert offered("sub") == ["submit"]
    assert offered("submit m") == ["mine.yaml", "more/"]


def test_names_are_those_with_results(tmp_path, monkeypatch):
    from expflow.cli.completion import complete_result_name

    (tmp_path / "runs" / "depth" / "ledger").mkdir(parents=True)
    (tmp_path / "runs" / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    assert list(complete_result_name("d")) == ["depth"]
    assert list(complete_result_name("nothing")) == []
