"""A real Ray head on this machine, with token authentication, for the tests marked `ray`."""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Head:
    address: str
    token_file: Path
    port: int
    agent_port: int


def free_ports(number):
    sockets = [socket.socket() for _ in range(number)]
    try:
        for probe in sockets:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in sockets]
    finally:
        for probe in sockets:
            probe.close()


@pytest.fixture(scope="session")
def ray_head():
    # Not under tmp_path: Ray's sockets lie in this folder, and a socket's path must be short.
    folder = Path(tempfile.mkdtemp(prefix="xr-", dir="/tmp"))
    token_file = folder / "token"
    token_file.touch(mode=0o600)
    token_file.write_text(secrets.token_hex(32))
    port, dashboard, agent, client = free_ports(4)
    options = {
        "port": port,
        "dashboard-port": dashboard,
        "dashboard-host": "127.0.0.1",
        "dashboard-agent-listen-port": agent,
        "ray-client-server-port": client,
        "num-cpus": 2,
        "object-store-memory": 100_000_000,
        "temp-dir": folder,
    }
    ray = Path(sys.executable).with_name("ray")
    with open(folder / "head.log", "w") as log:
        process = subprocess.Popen(
            [ray, "start", "--head", "--block", "--disable-usage-stats", *(f"--{k}={v}" for k, v in options.items())],
            env={
                **os.environ,
                "RAY_AUTH_MODE": "token",
                "RAY_AUTH_TOKEN_PATH": str(token_file),
                "XDG_CONFIG_HOME": str(folder / "config"),  # jobs have the head's environment, not a test's
                "XDG_CACHE_HOME": str(folder / "cache"),
            },
            start_new_session=True,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until_it_answers(process, f"http://127.0.0.1:{dashboard}", folder / "head.log")
        yield Head(f"http://127.0.0.1:{dashboard}", token_file, port, agent)
    finally:
        end(process)
        shutil.rmtree(folder, ignore_errors=True)


def wait_until_it_answers(process, address, log, seconds=120):
    end_of_patience = time.monotonic() + seconds
    while time.monotonic() < end_of_patience:
        assert process.poll() is None, f"ray start ended:\n{log.read_text()}"
        try:
            urllib.request.urlopen(f"{address}/api/version", timeout=5).close()
        except urllib.error.HTTPError as error:  # 401: it is up, and wants its token
            error.close()
            return
        except OSError:
            time.sleep(0.2)
    pytest.fail(f"no Ray head after {seconds} s:\n{log.read_text()}")


def end(process):
    """End this head and nothing else: SIGTERM lets `ray start --block` stop its own; the rest of its group follows."""
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture
def with_token(ray_head, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(ray_head.token_file))
    return ray_head
