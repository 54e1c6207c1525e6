"""A sweep by somebody with secrets: they stand in no file, no process list and no message that it leaves."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

import pytest

from expflow.config.loading import load
from expflow.errors import ExperimentInvalid
from expflow.events import TrialStarted
from expflow.ledger import Ledger, load_state
from expflow.ledger.header import Header
from expflow.sweep.in_process import run_in_process
from expflow.sweep.plan import make_plan
from tests.sweep.runs import Workplace

SECRETS = {
    "environment": "env-s3cret-1",
    "address": "url-s3cret-2",
    "file": "yaml-s3cret-3",
    "header": "header-s3cret-4",
    "token file": "token-s3cret-5",
}
COMPLAINT = (
    "login of env-s3cret-1 at https://me:url-s3cret-2@host/x?sig=url-s3cret-2 with api_key=yaml-s3cret-3 and"
    " Authorization: Bearer header-s3cret-4, which token-s3cret-5 refused"
)
EXPERIMENT = f"""
about: {{question: "see https://host/notes?token=url-s3cret-2"}}
task:
  name: scripted
  script: [{{report: {{val/top1: 0.5}}}}, {{sleep: SECONDS}}, {{raise: "{COMPLAINT}"}}]
trainer: {{epochs: 1}}
sweep:
  space: {{task.value: [0.2]}}
  metric: val/top1
"""


@pytest.fixture
def secretive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of somebody who keeps secrets in every place where they are usually kept."""
    (tmp_path / "token").write_text(SECRETS["token file"])
    monkeypatch.setenv("MY_SERVICE_TOKEN", SECRETS["environment"])
    monkeypatch.setenv("EXPFLOW_DATA_SHARDS", f"https://host/shards?sig={SECRETS['address']}")
    monkeypatch.setenv("RAY_JOB_HEADERS", f'{{"Authorization": "Bearer {SECRETS["header"]}"}}')
    monkeypatch.setenv("RAY_AUTH_TOKEN", SECRETS["token file"])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def holders(folder: Path, *without: str) -> list[str]:
    """The files and names below a folder in which a secret stands."""
    places = []
    for path in folder.rglob("*"):
        if path.name in without:
            continue
        content = path.read_bytes() if path.is_file() else b""
        places += [
            f"{path.relative_to(folder)}: {secret}"
            for secret in SECRETS.values()
            if secret.encode() in content or secret in path.name
        ]
    return places


def commands() -> str:
    """The command lines of all processes here."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(path.read_bytes().decode(errors="replace"))
        except OSError:  # it has ended
            continue
    return "\n".join(lines)


def test_no_secret_stands_in_what_a_driver_writes_and_says(secretive: Path, monkeypatch, capsys) -> None:
    """In one process: ledger, copies, logs, the report, and what observers are shown."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    (secretive / "exp.yaml").write_text(EXPERIMENT.replace("SECONDS", "0"))
    plan = make_plan(secretive / "exp.yaml", ("trainer.epochs=2",), storage=secretive / "runs")
    shown: list[str] = []
    result = run_in_process(plan, observers=(lambda event, state: shown.append(f"{event} {state.header}"),))
    from expflow.report import write_report

    write_report(plan.folder, result.state)
    (trial,) = result.state.plan_trials()
    assert (
        "login of REDACTED at https://REDACTED@host/x?REDACTED with api_key=REDACTED and" in trial.failures[-1].message
    )
    assert holders(secretive, "exp.yaml", "token") == []
    assert not [text for text in shown for secret in SECRETS.values() if secret in text]


@pytest.mark.ray
@pytest.mark.timeout(240)
def test_no_secret_stands_in_what_a_sweep_leaves(secretive: Path, monkeypatch) -> None:
    """On Ray, with MLflow behind it: also in Ray's own files, and in the list of processes."""
    workplace, rays = Workplace(secretive), Path(tempfile.mkdtemp(prefix="xs-", dir="/tmp"))
    monkeypatch.setenv("RAY_TMPDIR", str(rays))  # short, because of the paths of sockets
    try:
        workplace.write(EXPERIMENT.replace("SECONDS", "1"))
        process = workplace.start("sweep", "exp.yaml")
        workplace.wait_for(TrialStarted, 1, process)
        listed = commands()
        output = process.communicate(timeout=200)[0]
        assert process.returncode == 1, output
        output += workplace.run("report", "exp") + workplace.run("status", "exp") + workplace.run("plan", "exp.yaml")
        assert [secret for secret in SECRETS.values() if secret in listed + output] == []
        assert holders(secretive, "exp.yaml", "token") == []
        assert holders(rays) == []
    finally:
        workplace.leave()
        shutil.rmtree(rays, ignore_errors=True)


def test_a_secret_in_set_does_not_name_the_results(secretive: Path) -> None:
    (secretive / "own.py").write_text("class Data:\n    def __init__(self, path, api_key=''):\n        pass\n")
    (secretive / "exp.yaml").write_text(
        "data: {name: 'own:Data', path: x}\nmodel: mlp\ntask: classification\nloss: cross_entropy\noptimizer: sgd\n"
    )
    key = f"data.api_key={SECRETS['file']}"
    names = [
        load(secretive / "exp.yaml", (key, f"data.path=https://h/{place}?sig={SECRETS['address']}")).name
        for place in ("a", "b")
    ]
    assert len(set(names)) == 2
    assert all("REDACTED" in name and "s3cret" not in name for name in names)


@pytest.mark.parametrize("value", ["https://h/x?sig=abcdef", "https://me:pw1234@h/x"])
def test_a_searched_value_that_holds_a_secret_is_refused(secretive: Path, value: str) -> None:
    (secretive / "exp.yaml").write_text(
        "data: {name: shards}\nmodel: mlp\ntask: classification\nloss: cross_entropy\noptimizer: sgd\n"
        f"sweep: {{space: {{data.path: ['{value}', /here]}}}}\n"
    )
    with pytest.raises(ExperimentInvalid, match=r"exp.yaml:6:.*data\.path: a value holds a secret") as caught:
        load(secretive / "exp.yaml")
    assert value not in str(caught.value)


def test_headers_of_earlier_versions_are_read_without_their_secrets(tmp_path: Path, monkeypatch) -> None:
    """They wrote the address as it stood in the file."""
    with monkeypatch.context() as patch:
        patch.setattr("expflow.ledger.writer.redacted_fields", lambda record: record)
        header = Header("x", "data: {path: 'https://h/x?sig=abcdef'}", "x.yaml", sets=("model.api_key=abcdef",))
        Ledger.open(tmp_path / "x", header).close("finished")
    assert b"abcdef" in next((tmp_path / "x" / "ledger").glob("*.jsonl")).read_bytes()
    assert "abcdef" not in str(load_state(tmp_path / "x").header)
