"""expflow in a real Jupyter kernel: tables, the live table, an interrupted cell that goes on, errors in words."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.manager import KernelManager, start_new_kernel

from expflow.events import TrialEnded, TrialStarted
from expflow.ledger import exists, read
from tests.sweep.runs import Workplace

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(240)]


class Notebook:
    """A kernel in a folder, and what its cells show."""

    def __init__(self, manager: KernelManager, client: Any) -> None:
        self.manager, self.client = manager, client

    def begin(self, code: str) -> str:
        """Run a cell without waiting for it."""
        return self.client.execute(code)

    def end(self, asked: str) -> dict[str, Any]:
        """Wait for a cell; its status, and its outputs by kind."""
        shown: dict[str, Any] = {"stream": "", "display_data": [], "update_display_data": [], "execute_result": []}
        while True:
            message = self.client.get_iopub_msg(timeout=200)
            kind, content = message["msg_type"], message["content"]
            if message["parent_header"].get("msg_id") != asked:
                continue
            if kind == "status" and content["execution_state"] == "idle":
                break
            if kind == "stream":
                shown["stream"] += content["text"]
            elif kind == "error":
                shown["error"] = content
            elif "data" in content:
                shown[kind].append(content)
            elif kind != "status" and kind != "execute_input":
                shown[kind] = content
        return shown

    def cell(self, code: str) -> dict[str, Any]:
        return self.end(self.begin(code))


@pytest.fixture
def workplace(tmp_path: Path) -> Workplace:
    return Workplace(tmp_path)


@pytest.fixture
def notebook(workplace: Workplace, monkeypatch: pytest.MonkeyPatch) -> Iterator[Notebook]:
    for home in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(home, str(workplace.folder / "jupyter"))
    manager, client = start_new_kernel(cwd=str(workplace.folder), env=workplace.environment())
    yield Notebook(manager, client)
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def events(folder: Path, kind: type) -> list[str]:
    return [record.body.trial for record in read(folder) if isinstance(record.body, kind)] if exists(folder) else []


def test_a_session_in_a_notebook(notebook: Notebook, workplace: Workplace) -> None:
    workplace.scripted([0.2, 0.4, 0.6, 0.8], seeds=2, sleep=0.4)
    wrong = notebook.cell("import expflow; expflow.load('exp.yaml', {'sweep.seeds': -1})")
    assert wrong["error"]["ename"] == "ExperimentInvalid"
    assert wrong["error"]["traceback"] == [f"ExperimentInvalid: {wrong['error']['evalue']}"]

    plan = notebook.cell("e = expflow.load('exp.yaml'); e.plan()")
    assert plan["execute_result"][0]["data"]["text/html"].count("<tr") == 9

    asked = notebook.begin("print('mine'); r = e.sweep()")
    deadline = time.monotonic() + 120
    while len(events(workplace.results, TrialEnded)) < 2:
        assert time.monotonic() < deadline, notebook.end(asked)
        time.sleep(0.05)
    notebook.manager.interrupt_kernel()
    stopped = notebook.end(asked)
    assert stopped["error"]["ename"] == "Interrupted"
    assert stopped["error"]["traceback"] == ["Interrupted: stopped by SIGINT; everything that was finished is saved"]
    done = events(workplace.results, TrialEnded)
    assert 2 <= len(done) < 8

    went_on = notebook.cell("r = e.sweep()")
    assert "error" not in went_on
    assert sorted(events(workplace.results, TrialEnded)) == sorted(set(events(workplace.results, TrialStarted)))
    assert len(events(workplace.results, TrialEnded)) == 8
    assert all(events(workplace.results, TrialStarted).count(trial) == 1 for trial in done)

    board = notebook.cell("r.leaderboard")["execute_result"][0]["data"]["text/html"]
    assert board.count("<tr") == 5
    assert "0.8" in board

    for shown in (stopped, went_on):  # one output that was drawn anew, and nobody cleared the cell or wrote beside it
        assert len(shown["display_data"]) == 1
        handle = shown["display_data"][0]["transient"]["display_id"]
        assert {output["transient"]["display_id"] for output in shown["update_display_data"]} == {handle}
        assert "clear_output" not in shown
    assert any("running" in output["data"]["text/plain"] for output in stopped["update_display_data"])
    assert stopped["stream"].startswith("mine\n")
    assert went_on["stream"] == ""
    last = went_on["update_display_data"][-1]["data"]
    assert "8/8 trials" in last["text/plain"]
    assert "[8/8] done" in last["text/plain"]
    assert "best so far: value=0.8" in last["text/html"]
