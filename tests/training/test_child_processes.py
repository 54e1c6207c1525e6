"""What a trial starts ends with it."""

import logging
import multiprocessing
import os
import signal
import sys
import threading
from pathlib import Path

import pytest

from expflow.config.spec import UserComponent
from expflow.training.child_processes import hold_children
from tests.training.test_run_trial import recipe, train

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="Linux tells whose child is whose")


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] != b"Z"
    except FileNotFoundError:
        return False


def daemon():
    """Start a process as a daemon: its parent is gone, and it has a session of its own. Returns its id."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.setsid()
        pid = os.fork()
        if pid:
            os.write(writer, str(pid).encode())
            os._exit(0)
        signal.pause()
        os._exit(0)
    os.waitpid(child, 0)
    pid = int(os.read(reader, 20))
    os.close(reader)
    os.close(writer)
    return pid


def sleeper():
    return os.spawnvp(os.P_NOWAIT, "sleep", ["sleep", "3600"])


def family():
    """Start a process that starts another one, which ignores what can be ignored. Returns both ids."""
    script = "trap '' TERM HUP; sleep 3600 & echo $!; wait"
    reader, writer = os.pipe()
    parent = os.posix_spawn(
        "/bin/sh", ["sh", "-c", script], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, writer, 1)]
    )
    child = int(os.read(reader, 20))
    os.close(reader)
    os.close(writer)
    return parent, child


@pytest.mark.parametrize("start", [lambda: (daemon(),), lambda: (sleeper(),), family])
def test_processes_end_with_the_trial_that_started_them(start, caplog):
    end = hold_children()
    pids = start()
    assert all(map(is_alive, pids))
    with caplog.at_level(logging.WARNING):
        end()
    assert not any(map(is_alive, pids))
    assert "processes that the trial left running were ended" in caplog.text


def test_what_was_there_before_stays(caplog):
    before = sleeper()
    try:
        end = hold_children()
        end()
        assert is_alive(before)
        assert not caplog.text
    finally:
        os.kill(before, signal.SIGKILL)
        os.waitpid(before, 0)


def test_what_another_thread_of_this_process_starts_stays():
    wanted, started, pids = threading.Event(), threading.Event(), []

    def other():
        wanted.wait()
        pids.append(sleeper())
        started.set()
        done.wait()

    done = threading.Event()
    thread = threading.Thread(target=other)
    thread.start()
    try:
        end = hold_children()
        wanted.set()
        started.wait()
        end()
        assert is_alive(pids[0])
    finally:
        done.set()
        thread.join()
        os.kill(pids[0], signal.SIGKILL)
        os.waitpid(pids[0], 0)


def test_what_libraries_share_among_trials_stays():
    from multiprocessing import resource_tracker

    end = hold_children()
    multiprocessing.get_context("spawn").Lock()  # starts the tracker, unless an earlier test did
    tracker = resource_tracker._resource_tracker._pid
    end()
    assert tracker is not None
    assert is_alive(tracker)


def test_what_expflow_starts_for_itself_meanwhile_stays():
    end = hold_children()
    code = "import signal; signal.pause()"
    ours = os.spawnv(os.P_NOWAIT, sys.executable, [sys.executable, "-c", code, "-m", "expflow.tracking.follower"])
    try:
        end()
        assert is_alive(ours)
    finally:
        os.kill(ours, signal.SIGKILL)
        os.waitpid(ours, 0)


def test_a_daemon_of_a_users_module_does_not_outlive_its_trial(tmp_path, caplog):
    note = tmp_path / "pid"
    none = {"model": None, "loss": None, "optimizer": None, "schedule": None}
    train(recipe(1, task=UserComponent(name="tests.training.daemon_code:Forking", note=str(note)), **none))
    assert not is_alive(int(note.read_text()))
    assert "processes that the trial left running were ended" in caplog.text
