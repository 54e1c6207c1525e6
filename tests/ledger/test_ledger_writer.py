"""Writing and reading a ledger, and the worst moments of both."""

from __future__ import annotations

import itertools
import math
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from expflow import ledger as ledger_package
from expflow.errors import LedgerDamaged, LedgerLocked, LedgerTooNew, StaleDriver, StorageUnwritable
from expflow.events import (
    AttemptFailed,
    CheckpointSaved,
    DriverStopped,
    SchedulerDecided,
    TrialEnded,
    TrialForked,
    TrialProposed,
    TrialReported,
    TrialStarted,
)
from expflow.ledger import Cursor, Header, Ledger, load_state, lock, read
from expflow.ledger.records import TornRecord


def header(**changes) -> Header:
    return Header(**{"name": "depth", "text": "model: resnet\n", "file": "depth.yaml", "plan": "p1", **changes})


def proposed(trial: str = "t1", seed: int = 0) -> TrialProposed:
    return TrialProposed(trial, "c1", seed, {"model.depth": 20}, {"model": {"name": "resnet", "depth": 20}})


def reported(step: int, trial: str = "t1", **metrics: float) -> TrialReported:
    return TrialReported(trial, 1, step, metrics or {"val/top1": step / 10}, progress=0.5)


ONE_OF_EACH = [
    proposed(),
    TrialStarted("t1", 1, "gang-0"),
    reported(1),
    SchedulerDecided("t1", 1, 1, "stop"),
    TrialForked("t1", "t0", 1, {"optimizer.lr": 0.1}),
    CheckpointSaved("t1", 1, 1, "trials/t1/checkpoints/1", "ab"),
    AttemptFailed("t1", 1, "code", "no such layer", "Traceback: ü"),
    TrialEnded("t1", 1, "failed", 1, 2.5),
    DriverStopped("finished", {"trials": 1}),
]


def bodies(folder: Path, **arguments) -> list:
    return [record.body for record in read(folder, **arguments)]


def test_what_is_appended_is_read_back_in_order(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path, header(sets=("a=1",), seeds=(0, 1), about={"question": "why?"}))
    written = [ledger.append(event) for event in ONE_OF_EACH]
    ledger.close("finished")
    records = list(read(tmp_path))
    assert records[0].body == ledger.header
    assert records[0].body.driver == {"epoch": 1, "host": os.uname().nodename, "pid": os.getpid()}
    assert records[1:-1] == written
    assert [record.body for record in records[1:]] == [*ONE_OF_EACH, DriverStopped("finished")]


def test_an_empty_folder_has_no_records(tmp_path: Path) -> None:
    assert bodies(tmp_path) == []
    assert load_state(tmp_path).trials == {}
    assert not ledger_package.exists(tmp_path)


def test_nan_infinity_and_library_numbers_survive(tmp_path: Path) -> None:
    numpy = pytest.importorskip("numpy")
    with Ledger.open(tmp_path, header()) as ledger:
        ledger.append(reported(1, a=math.nan, b=math.inf, c=-math.inf, d=numpy.float32(0.5)))
        ledger.append(reported(2, a=numpy.float32("nan")))
        ledger.append(TrialForked("t1", "t0", 1, {"note": "nan", "nested": [{"x": math.inf}]}))
    one, two, fork = bodies(tmp_path)[1:4]
    assert math.isnan(one.metrics["a"])
    assert (one.metrics["b"], one.metrics["c"], one.metrics["d"]) == (math.inf, -math.inf, 0.5)
    assert math.isnan(two.metrics["a"])
    assert fork.values == {"note": "nan", "nested": [{"x": math.inf}]}


def test_each_start_is_a_new_segment_with_a_higher_epoch(tmp_path: Path) -> None:
    for expected in (1, 2, 3):
        with Ledger.open(tmp_path, header()) as ledger:
            assert ledger.epoch == expected
    files = sorted(file.name for file in (tmp_path / "ledger").glob("*.jsonl"))
    assert files == ["000001.jsonl", "000002.jsonl", "000003.jsonl"]
    assert all((tmp_path / "ledger" / file).stat().st_mode & 0o222 == 0 for file in files), (
        "closed segments are history"
    )


def test_the_epoch_rises_even_when_the_lock_file_is_lost(tmp_path: Path) -> None:
    for _ in range(3):
        Ledger.open(tmp_path, header()).close("finished")
    (tmp_path / "ledger" / "lock.json").unlink()
    with Ledger.open(tmp_path, header()) as ledger:
        assert ledger.epoch == 4


def test_load_folds_over_all_segments(tmp_path: Path) -> None:
    with Ledger.open(tmp_path, header()) as ledger:
        for event in ONE_OF_EACH[:3]:
            ledger.append(event)
    with Ledger.open(tmp_path, header()):
        state = load_state(tmp_path)
    assert state.trials["t1"].status == "waiting", "its driver is gone"
    assert state.trials["t1"].metrics == {"val/top1": 0.1}


def test_a_follower_goes_on_from_its_cursor(tmp_path: Path) -> None:
    with Ledger.open(tmp_path, header()) as ledger:
        first = ledger.append(proposed())
        assert bodies(tmp_path, after=first.cursor) == []
        ledger.append(reported(1))
        assert bodies(tmp_path, after=first.cursor) == [reported(1)]
    cursor = list(read(tmp_path))[-1].cursor
    with Ledger.open(tmp_path, header()) as ledger:
        ledger.append(reported(2))
        assert bodies(tmp_path, after=cursor) == [ledger.header, reported(2)]
    assert bodies(tmp_path, after=Cursor()) == bodies(tmp_path)


@pytest.mark.parametrize("minutes", [-10, 10])
def test_a_clock_that_is_wrong_or_is_set_changes_no_duration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, minutes: int
) -> None:
    with Ledger.open(tmp_path, header()) as ledger:
        ledger.append(reported(1))
    before = list(read(tmp_path))[-1].at
    elapsed = iter(itertools.count(100.0, 5.0))
    monkeypatch.setattr("expflow.ledger.ledger_clock.time.clock_gettime", lambda clock: next(elapsed))
    wall = iter([before + 60 * minutes, 0.0, 1e12])
    monkeypatch.setattr("expflow.ledger.ledger_clock.time.time", lambda: next(wall, 0.0))
    with Ledger.open(tmp_path, header()) as ledger:  # another machine goes on
        for step in (2, 3):
            ledger.append(reported(step))
    started, *others = [record.at for record in read(tmp_path)][-4:]
    assert started > before
    assert [round(at - started, 3) for at in others] == [5.0, 10.0, 15.0]


def test_threads_may_append_at_once(tmp_path: Path) -> None:
    with Ledger.open(tmp_path, header()) as ledger:

        def write(trial: str) -> None:
            for step in range(200):
                ledger.append(reported(step, trial))

        threads = [threading.Thread(target=write, args=(f"t{number}",)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    reports = [body for body in bodies(tmp_path) if isinstance(body, TrialReported)]
    assert len(reports) == 800
    assert [report.step for report in reports if report.trial == "t2"] == list(range(200))


def test_ten_thousand_events(tmp_path: Path) -> None:
    with Ledger.open(tmp_path, header()) as ledger:
        for step in range(10_000):
            ledger.append(reported(step, **{f"metric{number}": 0.5 for number in range(10)}))
    assert sum(1 for _ in read(tmp_path)) == 10_002


# What was damaged


def segment(tmp_path: Path, *, closed: bool = False) -> Path:
    """A segment whose writer died (or closed it)."""
    ledger = Ledger.open(tmp_path, header())
    for event in ONE_OF_EACH[:3]:
        ledger.append(event)
    ledger.close("finished") if closed else ledger.abandon()
    path = tmp_path / "ledger" / "000001.jsonl"
    path.chmod(0o644)
    if not closed:  # who is killed seals nothing
        (tmp_path / "ledger" / "000001.seal.json").unlink()
    return path


@pytest.mark.parametrize("tail", [b'{"at":1,"event":"repor', b"\0" * 40, b"{}", b"\0\0\n"])
def test_a_torn_last_line_is_left_out_and_said(tmp_path: Path, tail: bytes) -> None:
    path = segment(tmp_path)
    with path.open("ab") as file:
        file.write(tail)
    torn: list[TornRecord] = []
    assert bodies(tmp_path, torn=torn)[1:] == ONE_OF_EACH[:3]
    assert len(torn) == 1
    assert str(torn[0]).startswith(f"{path}:5: ")
    with Ledger.open(tmp_path, header()) as ledger:
        ledger.append(reported(2))
    assert reported(2) in bodies(tmp_path), "the torn line of a closed segment does not hide what follows"


def test_a_torn_header_is_an_empty_segment(tmp_path: Path) -> None:
    path = segment(tmp_path)
    path.write_bytes(path.read_bytes()[:30])
    torn: list[TornRecord] = []
    assert bodies(tmp_path, torn=torn) == []
    assert torn[0].line == 1
    with Ledger.open(tmp_path, header()) as ledger:
        assert ledger.epoch == 2


def test_every_cut_gives_a_prefix(tmp_path: Path) -> None:
    path = segment(tmp_path)
    whole = path.read_bytes()
    expected = bodies(tmp_path)
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        events = bodies(tmp_path)
        assert events == expected[: len(events)]


@pytest.mark.parametrize("at", [1, 2, 3, 4])
def test_a_flipped_bit_is_found(tmp_path: Path, at: int) -> None:
    path = segment(tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    middle = len(lines[at - 1]) // 2
    lines[at - 1] = lines[at - 1][:middle] + bytes([lines[at - 1][middle] ^ 1]) + lines[at - 1][middle + 1 :]
    path.write_bytes(b"".join(lines))
    with pytest.raises(LedgerDamaged, match=rf"000001\.jsonl:{at}: .*checksum"):
        list(read(tmp_path))


def test_a_lost_line_in_the_middle_of_a_write_is_found(tmp_path: Path) -> None:
    path = segment(tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1][:20] + lines[2])
    with pytest.raises(LedgerDamaged, match=r"000001\.jsonl:2: "):
        list(read(tmp_path))


def test_a_missing_segment_is_found(tmp_path: Path) -> None:
    for _ in range(3):
        Ledger.open(tmp_path, header()).close("finished")
    (tmp_path / "ledger" / "000002.jsonl").unlink()
    with pytest.raises(LedgerDamaged, match=r"000002\.jsonl is missing"):
        list(read(tmp_path))


def test_a_newer_format_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("expflow.ledger.header.LEDGER_FORMAT", 99)
        segment(tmp_path)
    with pytest.raises(LedgerTooNew, match="newer than this expflow"):
        list(read(tmp_path))


# Full disks

FILL = """
import resource, sys
from pathlib import Path
from expflow.errors import StorageUnwritable
from expflow.events import TrialReported
from expflow.ledger import Header, Ledger
ledger = Ledger.open(Path(sys.argv[1]), Header("n", "t", "f"))
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, resource.RLIM_INFINITY))
count = 0
try:
    while True:
        ledger.append(TrialReported("t1", 1, count, {"loss": 0.5}))
        count += 1
except StorageUnwritable as error:
    assert error.exit_code == 3
    print(count, error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
ledger.append(TrialReported("t1", 1, count, {"loss": 0.5}))
ledger.close("error")
"""


def test_a_full_disk_is_said_and_the_ledger_stays_whole(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FILL, str(tmp_path)], capture_output=True, text=True, check=True)
    count = int(done.stdout.split()[0])
    assert "000001.jsonl cannot be written: File too large" in done.stdout
    torn: list[TornRecord] = []
    reports = [body for body in bodies(tmp_path, torn=torn) if isinstance(body, TrialReported)]
    assert [report.step for report in reports] == list(range(count + 1)), "it went on once there was room"
    assert torn == []


def test_a_folder_without_write_permission_is_said(tmp_path: Path) -> None:
    (tmp_path / "ledger").write_text("a file where the folder should be")
    with pytest.raises(StorageUnwritable, match="cannot be written"):
        Ledger.open(tmp_path, header())


def test_a_failed_fsync_ends_the_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger.open(tmp_path, header())
    with monkeypatch.context() as patch:

        def broken(descriptor: int) -> None:
            raise OSError(5, "Input/output error")

        patch.setattr("expflow.ledger.writer.os.fsync", broken)
        with pytest.raises(StorageUnwritable):
            ledger.append(proposed())
    with pytest.raises(StorageUnwritable):
        ledger.append(reported(1))
    ledger.abandon()


# Two drivers, dead drivers

WRITER = """
import sys
from pathlib import Path
from expflow.events import TrialProposed, TrialReported
from expflow.ledger import Header, Ledger
ledger = Ledger.open(Path(sys.argv[1]), Header("n", "t", "f"))
step = 0
while True:
    ledger.append(TrialReported("t1", 1, step, {"loss": 0.5, "text": 1.0}))
    if step % 10 == 0:
        ledger.append(TrialProposed(f"t{step}", "c", 0, {}, {}))
        print(step, flush=True)
    step += 1
"""


def start_writer(folder: Path) -> subprocess.Popen:
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def kill(process: subprocess.Popen) -> list[int]:
    """Kill -9; returns what the process said afterwards to have written durably."""
    process.send_signal(signal.SIGKILL)
    output, _ = process.communicate()
    return [0, *(int(line) for line in output.split("\n")[:-1])]


def test_killed_writers_leave_a_prefix_with_all_that_was_durable(tmp_path: Path) -> None:
    for round_ in range(4):
        folder = tmp_path / str(round_)
        process = start_writer(folder)
        time.sleep(0.02 * round_)
        steps_written = kill(process)
        body = bodies(folder)
        steps = [event.step for event in body if isinstance(event, TrialReported)]
        assert steps == list(range(len(steps)))
        assert {f"t{step}" for step in steps_written} <= {
            event.trial for event in body if isinstance(event, TrialProposed)
        }


def test_a_second_driver_is_refused_and_a_dead_one_replaced(tmp_path: Path) -> None:
    process = start_writer(tmp_path)
    with pytest.raises(LedgerLocked, match=f"process {process.pid} on .* since .*, last sign of life") as error:
        Ledger.open(tmp_path, header())
    assert error.value.exit_code == 3
    assert (tmp_path / "ledger" / "000002.jsonl").exists() is False
    os.kill(process.pid, signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, and not reaped: a zombie owns nothing
    with Ledger.open(tmp_path, header()) as ledger:
        assert ledger.epoch == 2
    process.communicate()


def test_a_reused_process_id_does_not_keep_a_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("expflow.ledger.process_identity._started", lambda pid: "long ago")
        abandoned = Ledger.open(tmp_path, header())
    with Ledger.open(tmp_path, header()) as ledger:
        assert ledger.epoch == 2
    with pytest.raises(StaleDriver):
        abandoned.append(proposed())
    abandoned.abandon()


def test_a_lock_of_another_host_ends_with_its_lease(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("expflow.ledger.process_identity.socket.gethostname", lambda: "elsewhere")
        old = Ledger.open(tmp_path, header())
    with pytest.raises(LedgerLocked, match=r"on elsewhere, since .* this command works in (600|59\d) s"):
        Ledger.open(tmp_path, header())
    for now in (0.0, time.time() + 3600):  # what this machine takes for the time has no part in it
        with monkeypatch.context() as patch:
            patch.setattr("time.time", lambda now=now: now)
            with pytest.raises(LedgerLocked, match=r"last sign of life \d s ago"):
                Ledger.open(tmp_path, header())
    monkeypatch.setattr(lock, "LEASE_SECONDS", -1.0)
    with Ledger.open(tmp_path, header()) as new:
        with pytest.raises(StaleDriver, match="no longer owns"):
            old.append(proposed())
        with pytest.raises(StaleDriver):
            old.append(reported(1))
        with pytest.raises(StaleDriver):
            old.close("finished")
        new.append(proposed())
        lock.check_epoch(tmp_path, 2)
        with pytest.raises(StaleDriver, match="driver of epoch 1"):
            lock.check_epoch(tmp_path, 1)
    assert [type(body) for body in bodies(tmp_path)] == [Header, Header, TrialProposed, DriverStopped]


def test_a_living_driver_renews_its_lease(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "RENEW_SECONDS", 0.0)
    monkeypatch.setattr("expflow.ledger.writer.SYNC_SECONDS", 0.01)
    with Ledger.open(tmp_path, header()) as ledger:
        before = lock.read_holder(tmp_path / "ledger")
        deadline = time.monotonic() + 30
        while lock.read_holder(tmp_path / "ledger") == before and time.monotonic() < deadline:
            time.sleep(0.01)
        assert lock.read_holder(tmp_path / "ledger").renewed > before.renewed
        ledger.append(proposed())  # renewing is not being replaced


def test_a_lock_that_does_not_read_is_said(tmp_path: Path) -> None:
    Ledger.open(tmp_path, header()).close("finished")
    (tmp_path / "ledger" / "lock.json").write_text("{")
    with pytest.raises(LedgerDamaged, match=r"lock\.json does not read"):
        Ledger.open(tmp_path, header())


def test_a_removed_lock_stops_its_driver(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path, header())
    (tmp_path / "ledger" / "lock.json").unlink()
    with pytest.raises(StaleDriver, match=r"lock file .* is gone"):
        ledger.append(proposed())
    ledger.abandon()


def test_closing_twice_is_harmless_and_writing_after_it_is_not(tmp_path: Path) -> None:
    ledger = Ledger.open(tmp_path, header())
    ledger.close("interrupted")
    ledger.close("finished")
    assert bodies(tmp_path)[-1] == DriverStopped("interrupted")
    with pytest.raises(StaleDriver, match="closed"):
        ledger.append(proposed())
    assert not any(thread.name == "ledger-keeper" for thread in threading.enumerate())
