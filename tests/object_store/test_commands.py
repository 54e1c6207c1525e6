"""Commands on results that lie in a real S3 server, from machines that had no part in them."""

import contextlib
import signal
import sqlite3
import time
import urllib.request

import pytest

from expflow.ledger import load_state
from tests.cluster.conftest import free_ports
from tests.object_store.stored_sweeps import check_bucket

TWO = """
task: {name: scripted}
sweep:
  space:
    task.script:
      - [{report: {val/top1: 0.5}}, {save: true}, {report: {val/top1: 0.6}}]
      - [{report: {val/top1: 0.4}}, {raise: hello from a trial}]
  metric: val/top1
"""


@pytest.mark.ray
@pytest.mark.slow
def test_plan_status_logs_and_ui_work_on_an_address(stored):
    stored.write(TWO)
    planned = stored.run("plan", "exp.yaml", "--no-time")
    assert "2 still to run" in planned
    assert f"results will lie in {stored.address}/exp" in planned
    stored.run("sweep", "exp.yaml", code=1)
    (failed,) = (trial.trial for trial in load_state(stored.results).plan_trials() if trial.status == "failed")
    for command, word in (
        (("plan", "exp.yaml", "--no-time"), "0 still to run"),
        (("status", "exp"), "1 failed"),
        (("status",), "exp"),
        (("logs", f"exp/{failed[:6]}"), "hello from a trial"),
        (("logs", f"{stored.address}/exp/{failed[:6]}"), "hello from a trial"),
        (("show", "exp"), "scripted"),
    ):
        stored.lose_disk()
        assert word in stored.run(*command), command
    stored.lose_disk()
    (stored.folder / "mlflow.db").unlink(missing_ok=True)  # another machine's MLflow knows nothing of it
    look_at_ui(stored)
    with sqlite3.connect(stored.folder / "mlflow.db") as database:
        names = {row[0] for row in database.execute("select name from experiments")}
        values = {row[0] for row in database.execute("select value from metrics where key = 'val/top1'")}
    assert "exp" in names
    assert values >= {0.5, 0.6, 0.4}
    check_bucket(stored)


def look_at_ui(stored):
    """The server of `ui` comes up on results that are not on this machine, and ends."""
    (port,) = free_ports(1)
    server = stored.start("ui", "exp", "--port", str(port))
    end = time.monotonic() + 90
    while True:
        assert server.poll() is None, server.communicate()[0]
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/version", timeout=5) as answer:
                assert answer.status == 200
            break
        except OSError:
            assert time.monotonic() < end
            time.sleep(0.2)
    server.send_signal(signal.SIGINT)
    server.communicate(timeout=60)


def has_begun(stored, name):
    """Whether a sweep's first manifest is in the store; what is replaced while it is read is looked at again."""
    with contextlib.suppress(FileNotFoundError):
        return any(key.startswith(f"{name}/manifest/") for key in stored.store())
    return False


@pytest.mark.ray
@pytest.mark.slow
def test_what_fresh_begins_lies_beside_the_earlier_results_and_has_one_driver(stored):
    stored.write(TWO.replace("raise: hello from a trial", "sleep: 1.0"))
    stored.run("sweep", "exp.yaml")
    before = {key: content for key, content in stored.store().items() if key.startswith("exp/")}
    assert before
    stored.write(TWO.replace("raise: hello from a trial", "sleep: 40.0"))
    first, here = stored.start("sweep", "exp.yaml", "--fresh"), stored.cache
    end = time.monotonic() + 120
    while not has_begun(stored, "exp.2"):
        assert first.poll() is None, first.communicate()[0]
        assert time.monotonic() < end
        time.sleep(0.1)
    stored.cache = stored.folder / "elsewhere"  # another machine
    assert f"process {first.pid} on " in stored.run("sweep", "exp.yaml", code=3)
    stored.cache = here
    printed = first.communicate(timeout=300)[0]
    assert first.returncode == 0, printed
    stored.lose_disk()
    for name in ("exp", "exp.2"):
        assert "2 done" in stored.run("status", name)
    assert {key: content for key, content in stored.store().items() if key.startswith("exp/")} == before
