"""Whatever a server does, MLflow is late at worst: afterwards it has everything once.

The server is real: MLflow on PostgreSQL, artifacts in an S3 store. It is compared with what the same ledger makes of a
SQLite store that nothing disturbs.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow import MlflowClient

from expflow.api import tracked_run
from expflow.api.tracked_run import TrackedRun
from expflow.errors import ServerUnreachable
from expflow.events import ArtifactWritten, Event
from expflow.ledger import Ledger
from expflow.sweep.in_process import run_in_process
from expflow.sweep.plan import make_plan
from expflow.tracking import follower as follower_module
from expflow.tracking import start_follower
from expflow.tracking.follower import catch_up
from tests.tracking import misbehaving_proxy as faults
from tests.tracking.misbehaving_proxy import Fault, proxy_before
from tests.tracking.server_stack import ServerStack
from tests.tracking.store_contents import everything
from tests.tracking.stories import failed_trial, header, whole_sweep, whole_trial, write

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

CURVES = r"^(val/top1|fit/loss|n_seeds)$"
DISK_FULL = json.dumps({"error_code": "INTERNAL_ERROR", "message": "could not extend file: No space left on device"})
FAULTS: dict[str, Fault] = {
    "500": faults.answering(500, DISK_FULL),
    "429": faults.answering(429, "slow down", Retry_After="1"),
    "a load balancer's 404": faults.answering(404, "<html>no such backend</html>", Content_Type="text/html"),
    "a connection that breaks": faults.hanging_up,
    "a lost reply": faults.losing_the_reply,
}


def attachment(folder: Path) -> ArtifactWritten:
    """A picture that the trial t20s0 wrote."""
    path, content = "trials/t20s0/artifacts/curve-10.png", b"a picture"
    (folder / path).parent.mkdir(parents=True)
    (folder / path).write_bytes(content)
    return ArtifactWritten("t20s0", 1, 10, "curve", path, "image", hashlib.sha256(content).hexdigest(), len(content))


def story(folder: Path, name: str) -> None:
    """A sweep of three trials, one of which failed, with a picture and a report, in a ledger of that name."""
    events: list[Event] = [*whole_trial(20, 0), *failed_trial(20, 1), *whole_trial(56, 0)]
    events.insert(3, attachment(folder))
    write(folder, events, name=name, seeds=(0, 1))
    (folder / "report.html").write_text("a report")


def until_taken(folder: Path, uri: str, seconds: float = 200.0) -> int:
    """Catch up until nothing is refused any more; returns how often it was."""
    end, refusals = time.monotonic() + seconds, 0
    while True:
        try:
            assert catch_up(folder, uri)
            return refusals
        except ServerUnreachable:
            assert time.monotonic() < end
            refusals += 1


@pytest.fixture
def compared(uri: str, stack: ServerStack) -> Callable[[Path], None]:
    """Asserts that the server has of a ledger what an undisturbed store has."""

    def compare(folder: Path) -> None:
        assert catch_up(folder, uri)
        assert everything(stack.uri, folder.name, CURVES) == everything(uri, folder.name, CURVES)

    return compare


@pytest.mark.parametrize("fault", FAULTS)
def test_each_write_fails_once(fault: str, tmp_path: Path, stack: ServerStack, compared, monkeypatch) -> None:
    monkeypatch.setattr(follower_module, "RECORDS_PER_FLUSH", 12)
    folder = tmp_path / f"faults-{list(FAULTS).index(fault)}"
    story(folder, folder.name)
    with proxy_before(stack.uri) as proxy:
        proxy.fault = FAULTS[fault]
        refusals = until_taken(folder, proxy.uri)
        assert proxy.faults > 12
        assert 5 < refusals <= proxy.faults, "several calls are under way at once, and fail together"
    compared(folder)


def test_it_accepts_and_never_answers(tmp_path: Path, stack: ServerStack, compared, monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    folder = tmp_path / "silent"
    story(folder, folder.name)
    with proxy_before(stack.uri) as proxy:
        proxy.fault, proxy.most = faults.never_answering, 5
        assert until_taken(folder, proxy.uri) >= 5
    compared(folder)


def test_it_refuses_at_the_start(tmp_path: Path, stack: ServerStack, compared) -> None:
    folder = tmp_path / "refusing"
    with proxy_before(stack.uri) as proxy:
        port = proxy.server_port
    process = start_follower(folder, f"http://127.0.0.1:{port}")
    story(folder, folder.name)
    end = time.monotonic() + 100
    while "does not take it" not in process.log.read_text():
        assert time.monotonic() < end
        time.sleep(0.1)
    with proxy_before(stack.uri, port):
        assert process.finish(100.0), process.log.read_text()
    assert process.log.read_text().count("does not take it") == 1, "said once"
    compared(folder)


def test_it_is_restarted_in_the_middle(tmp_path: Path, stack: ServerStack, compared) -> None:
    folder = tmp_path / "restarted"
    process = start_follower(folder, stack.uri)
    with Ledger.open(folder, header(name=folder.name)) as ledger:
        for event in whole_sweep(depths=(20,)):
            ledger.append(event)
        time.sleep(2.0)
        assert stack.call("down", "mlflow").returncode == 0
        for event in whole_sweep(depths=(56,)):
            ledger.append(event)
        stack.restart_mlflow()
    assert process.finish(100.0), process.log.read_text()
    compared(folder)


CONFIG = """
data: {name: digits, limit: 128, batch_size: 32}
model: linear
task: classification
optimizer: {name: sgd, lr: 0.1}
trainer: {epochs: 2}
"""


def test_a_login_that_is_refused_is_said_once_and_the_training_goes_on(
    tmp_path: Path, stack: ServerStack, compared, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tracked_run, "TROUBLED_SECONDS", 1.0)
    Path("login.yaml").write_text(CONFIG)
    with proxy_before(stack.uri) as proxy:
        proxy.fault, proxy.always = faults.answering(401, "who are you?"), True
        monkeypatch.setenv("MLFLOW_TRACKING_URI", proxy.uri)
        run = TrackedRun(make_plan(Path("login.yaml"), (), alone=True), run_in_process)

        def wait_for_trouble(event: Event, state: object) -> None:
            while proxy.faults == 0 and event is not None and type(event).__name__ == "TrialEnded":
                time.sleep(0.1)

        assert run.run((wait_for_trouble,)).result.exit_code == 0
        assert not run.catch_up()
        behind, why = run.behind()
        name = run.plan.name
        assert behind == (
            f"tracking is behind by 2 reports; the next command, or `expflow status {name} --sync`, "
            "brings it up to date"
        )
        assert "refuses the login: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD" in why
        proxy.always, proxy.fault = False, None
        synced = subprocess.run(
            [sys.executable, "-m", "expflow", "status", name, "--sync"],
            capture_output=True, text=True, timeout=200, check=False, env={**os.environ},
        )  # fmt: skip
        assert synced.returncode == 0, synced.stderr
        assert f"has everything of {name}" in synced.stdout
        run.catch_up()  # waits for the follower, which has ended
    log = (run.plan.folder / "tracking" / "log.txt").read_text()
    assert log.count("refuses the login") == 1
    compared(run.plan.folder)


def test_clocks_differ_by_ten_minutes(tmp_path: Path, stack: ServerStack, compared, monkeypatch) -> None:
    folder, true_time = tmp_path / "skewed", time.time
    for seed, off_by in enumerate((600.0, -600.0, 0.0)):  # three drivers, on three machines
        with monkeypatch.context() as patch:
            patch.setattr("expflow.ledger.writer.time.time", lambda off_by=off_by: true_time() + off_by)
            write(folder, whole_trial(20, seed), name=folder.name)
        assert catch_up(folder, stack.uri)
    compared(folder)
    runs = everything(stack.uri, folder.name, CURVES)
    assert len(runs) == 5
    assert {status for status, *_ in runs.values()} == {"FINISHED"}


def test_a_run_that_somebody_deleted_stays_deleted(tmp_path: Path, stack: ServerStack) -> None:
    folder, client = tmp_path / "deleted", MlflowClient(tracking_uri=stack.uri)
    write(folder, whole_sweep(depths=(20,), seeds=(0, 1)), name=folder.name)
    assert catch_up(folder, stack.uri)
    experiment = client.get_experiment_by_name(folder.name).experiment_id
    (run,) = client.search_runs([experiment], "tags.`expflow.trial` = 't20s0'")
    client.delete_run(run.info.run_id)
    before = everything(stack.uri, folder.name, CURVES)
    write(folder, whole_trial(20, 2), name=folder.name)
    assert catch_up(folder, stack.uri)
    after = everything(stack.uri, folder.name, CURVES)
    assert after.keys() - before.keys() == {"trial depth=20 s2"}
    assert before.keys() - after.keys() == set()


FORKED = """
import os, sys
from pathlib import Path
from expflow.tracking.follower import catch_up
import mlflow
children = []
for folder in sys.argv[2:]:
    if (child := os.fork()) == 0:
        os._exit(0 if catch_up(Path(folder), sys.argv[1]) else 1)
    children.append(child)
sys.exit(max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))
"""


def test_twenty_followers_and_two_drivers_write_at_once(tmp_path: Path, stack: ServerStack, compared) -> None:
    folders = [tmp_path / f"crowd-{number}" for number in range(20)]
    for folder in folders:
        write(folder, whole_sweep(depths=(20,), seeds=(0, 1)), name=folder.name, seeds=(0, 1))
    drivers = [tmp_path / f"driver-{number}" for number in range(2)]
    processes = [start_follower(folder, stack.uri) for folder in drivers]
    ledgers = [Ledger.open(folder, header(name=folder.name)) for folder in drivers]
    crowd = subprocess.Popen([sys.executable, "-c", FORKED, stack.uri, *map(str, folders)], stdout=subprocess.DEVNULL)
    for event in whole_sweep():
        for ledger in ledgers:
            ledger.append(event)
    for ledger in ledgers:
        ledger.close("finished")
    assert crowd.wait(250) == 0
    for process in processes:
        assert process.finish(150.0), process.log.read_text()
    for folder in [*drivers, folders[0], folders[-1]]:
        compared(folder)
    client = MlflowClient(tracking_uri=stack.uri)
    for folder in folders:
        runs = client.search_runs([client.get_experiment_by_name(folder.name).experiment_id])
        assert len({run.data.tags["expflow.key"] for run in runs}) == len(runs) == 4
