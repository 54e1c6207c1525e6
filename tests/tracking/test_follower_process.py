"""The follower as a process beside a driver: it ends when it should, and no store can hold up anybody."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest

from expflow.errors import ServerUnreachable
from expflow.ledger import Ledger
from expflow.tracking import follower as follower_module
from expflow.tracking import start_follower
from expflow.tracking.follower import catch_up, follow
from expflow.tracking.ui import compare_link
from tests.tracking.stories import TrialStarted, header, proposed, whole_trial, write

pytestmark = pytest.mark.slow  # MLflow takes seconds to import in every new process


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "depth"
    folder.mkdir()
    return folder


def session_priority(pid: int) -> str:
    """What Linux has as the priority of a process's session; "" where it shares out among processes alone."""
    session = Path(f"/proc/{pid}/autogroup")
    return session.read_text().split()[-1] if session.exists() else ""


def test_it_follows_a_driver_to_its_end(folder: Path, uri: str, runs) -> None:
    process = start_follower(folder, uri)
    with Ledger.open(folder, header(seeds=(0,))) as ledger:
        for event in whole_trial(20, 0):
            ledger.append(event)
        end = time.monotonic() + 50.0
        while os.getpriority(os.PRIO_PROCESS, process._process.pid) < 19:
            assert time.monotonic() < end, "trials, which Ray runs at 15, must come before it"
            time.sleep(0.02)
        assert session_priority(process._process.pid) in ("0", ""), "somebody waits for it"
    (folder / "report.html").write_text("after the ledger was closed")
    assert process.finish(50.0), process.log.read_text()
    assert runs("sweep")["depth"].info.status == "FINISHED"
    assert runs("trial")["depth=20 s0"].data.metrics["val/top1"] == 0.5
    assert list((folder.parent / "mlartifacts").rglob("report.html"))
    assert process.log.read_text() == ""


@pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="Linux that shares out among sessions")
def test_where_nobody_waits_its_session_gives_way(folder: Path, uri: str) -> None:
    process = start_follower(folder, uri, awaited=False)
    end = time.monotonic() + 50.0
    while session_priority(process._process.pid) != "10":
        assert time.monotonic() < end, "else the follower would get as much of the processor as all ranks together"
        time.sleep(0.02)
    process.stop()


def test_of_those_whose_drivers_ended_one_waits_for_its_turn(folder: Path, uri: str, runs) -> None:
    write(folder, whole_trial(20, 0))
    (folder / "tracking").mkdir(exist_ok=True)
    with (folder / "tracking" / "follower.lock").open("w") as busy:
        fcntl.flock(busy, fcntl.LOCK_EX)
        first = start_follower(folder, uri)
        with (folder / "tracking" / "follower-next.lock").open("w") as place:
            end = time.monotonic() + 50.0
            while is_free(place):
                assert time.monotonic() < end
                time.sleep(0.02)
        second = start_follower(folder, uri)
        assert not second.finish(50.0)
        assert second._process.poll() == 1, "it has left, and does not wait on"
        assert not first.finish(0.2)
    assert first.finish(50.0), first.log.read_text()
    assert runs("trial")["depth=20 s0"].data.metrics["val/top1"] == 0.5


def is_free(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    fcntl.flock(file, fcntl.LOCK_UN)
    return True


DRIVER = """
import os, signal, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[3])
from tests.tracking.stories import TrialStarted, header, proposed
from expflow.errors import ServerUnreachable
from expflow.ledger import Ledger
from expflow.tracking import start_follower
folder = Path(sys.argv[1])
process = start_follower(folder, sys.argv[2])
ledger = Ledger.open(folder, header(seeds=(0,)))
ledger.append(proposed(20, 0))
ledger.append(TrialStarted("t20s0", 1, "g"))
print(process._process.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_it_outlives_a_killed_driver_and_says_so(folder: Path, uri: str, runs) -> None:
    command = [sys.executable, "-c", DRIVER, str(folder), uri, str(Path(__file__).parents[2])]
    driver = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    output, _ = driver.communicate()
    assert driver.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 50
    while Path(f"/proc/{int(output)}/cmdline").exists() and time.monotonic() < deadline:
        if "expflow.tracking.follower" not in Path(f"/proc/{int(output)}/cmdline").read_text():
            break  # ended, and not yet reaped by init
        time.sleep(0.1)
    assert runs("sweep")["depth"].info.status == "KILLED"
    assert runs("trial")["depth=20 s0"].data.tags["expflow.state"] == "waiting"


@pytest.fixture
def silent_server() -> Iterator[str]:
    """A server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def test_a_silent_server_holds_up_nobody(folder: Path, silent_server: str, uri: str, runs) -> None:
    before = time.monotonic()
    process = start_follower(folder, silent_server)
    write(folder, whole_trial(20, 0), seeds=(0,))
    written = time.monotonic()
    assert not process.finish(1.0)
    assert written - before < 10.0, "the driver was not held up"
    process.stop()
    assert catch_up(folder, uri)
    assert runs("trial").keys() == {"depth=20 s0"}


def test_a_server_that_stays_away_is_given_up_and_told_later(folder, uri, runs, monkeypatch, caplog) -> None:
    write(folder, whole_trial(20, 0), seeds=(0,))
    monkeypatch.setattr(follower_module, "PATIENCE_SECONDS", 0.3)
    monkeypatch.setattr(follower_module, "POLL_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    with follower_module.bounded_environment():
        assert not follow(folder, f"http://me:secret@127.0.0.1:{port}")
    assert "trying again" in caplog.text
    assert "given up" in caplog.text
    assert "secret" not in caplog.text
    assert follow(folder, uri)
    assert runs("trial").keys() == {"depth=20 s0"}


@pytest.fixture
def dripping_server() -> Iterator[str]:
    """A server whose answers come a byte at a time, without end: each byte within any timeout of a read."""
    over = threading.Event()

    def drip(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.sendall(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            while not over.wait(0.05):
                connection.sendall(b"x")

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=drip, args=(listening.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        over.set()
        listening.shutdown(socket.SHUT_RDWR)


def test_a_server_that_drips_holds_nobody_beyond_their_patience(folder, dripping_server, monkeypatch, caplog) -> None:
    write(folder, whole_trial(20, 0), seeds=(0,))
    monkeypatch.setattr(follower_module, "PATIENCE_SECONDS", 0.3)
    monkeypatch.setattr(follower_module, "CALL_SECONDS", 0.5)
    with follower_module.bounded_environment():
        assert not follow(folder, dripping_server)
    assert "given up" in caplog.text
    with pytest.raises(ServerUnreachable, match="telling the results of depth"):
        catch_up(folder, dripping_server)
    monkeypatch.setattr("expflow.tracking.store.CALL_SECONDS", 0.5)
    with pytest.raises(ServerUnreachable, match="looking for the configs of depth"):
        compare_link("http://x", dripping_server, "depth")


def test_a_damaged_ledger_is_named_in_the_log(folder: Path, uri: str) -> None:
    write(folder, whole_trial(20, 0))
    path = folder / "ledger" / "000001.jsonl"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(b'"seed":0', b'"seed":7'))
    process = start_follower(folder, uri)
    assert not process.finish(50.0)
    assert "000001.jsonl:2" in process.log.read_text()


def test_ctrl_c_is_meant_for_the_driver(folder: Path, uri: str) -> None:
    process = start_follower(folder, uri)
    assert os.getpgid(process._process.pid) != os.getpgid(0)
    write(folder, [proposed(20, 0), TrialStarted("t20s0", 1, "g")])
    assert process.finish(50.0)


def test_a_users_mlflow_py_is_not_taken_for_mlflow(folder: Path, uri: str, monkeypatch, runs) -> None:
    (folder.parent / "mlflow.py").write_text("raise SystemExit('the wrong one')")
    monkeypatch.chdir(folder.parent)
    process = start_follower(folder, uri)
    write(folder, whole_trial(20, 0), seeds=(0,))
    assert process.finish(50.0), process.log.read_text()
    assert runs("trial").keys() == {"depth=20 s0"}
