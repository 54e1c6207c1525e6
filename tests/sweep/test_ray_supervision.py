"""A driver whose Ray is gone does not wait for it."""

from __future__ import annotations

import socket
import threading
import time

import pytest

from expflow.sweep.dispatcher import LEAVE_SECONDS
from expflow.sweep.ray_supervision import RayProbe, run_supervised
from expflow.sweep.stop_signals import STOP_SECONDS, stopped_long_ago


def test_the_end_and_the_error_of_the_work_are_the_callers() -> None:
    done: list[str] = []
    assert run_supervised(lambda: done.append(threading.current_thread().name), lambda: False)
    assert done == ["expflow-ray"]

    def fail() -> None:
        raise KeyError("in the work")

    with pytest.raises(KeyError, match="in the work"):
        run_supervised(fail, lambda: False)


def test_work_that_waits_for_a_lost_ray_is_left_behind() -> None:
    gate = threading.Event()
    try:
        assert not run_supervised(lambda: gate.wait(60) and None, lambda: True)
    finally:
        gate.set()


def test_a_sweep_that_was_signalled_to_stop_waits_for_ray_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    signalled = time.monotonic()
    assert not stopped_long_ago(signalled)
    monkeypatch.setattr(time, "monotonic", lambda: signalled + STOP_SECONDS + 0.1)
    assert stopped_long_ago(signalled)
    assert LEAVE_SECONDS < STOP_SECONDS < 15


def test_a_listener_that_is_gone_is_noticed_and_one_that_comes_back_is_forgiven() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    endpoint = listener.getsockname()
    probe = RayProbe((endpoint,), patience=3600.0)
    assert not probe.lost()
    listener.close()
    assert not probe.lost()
    probe.patience = 0.0
    assert probe.lost()
    with socket.create_server(endpoint, reuse_port=False):
        assert not probe.lost()
        assert probe.failing_since is None
