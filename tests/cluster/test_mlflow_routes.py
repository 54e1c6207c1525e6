"""MLflow's server of `expflow ui`: every route, asked as a page of another site asks, and as this machine does."""

from __future__ import annotations

import concurrent.futures
import http.client
import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from expflow.tracking.ui import start_ui, stop_ui
from tests.cluster.conftest import free_ports
from tests.cluster.public_routes import PUBLIC
from tests.cluster.ssh_machines import LOOPBACK

METHODS = ("GET", "POST", "PUT", "DELETE")
UI = "MLflow's server of `expflow ui`"
ELSEWHERE = "MLflow's server of `expflow ui`, asked by another name than this machine's"
ASSISTANT = "/mlflow/assistant"
ROUTES = """
import json
from mlflow.server import app as pages
from mlflow.server.fastapi_app import app
print(json.dumps(sorted({*app.openapi()["paths"], *(rule.rule for rule in pages.url_map.iter_rules())})))
"""


@dataclass(frozen=True)
class Server:
    port: int
    process: int

    def answer(self, method: str, path: str, **headers: str) -> int:
        """The status of an answer; 0 where there was none within the time, which no refusal takes."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, re.sub(r"\{[^}]*\}|<[^>]*>", "x", path), body=b"{}", headers=headers)
            return connection.getresponse().status
        except TimeoutError:
            return 0
        finally:
            connection.close()

    def answers(self, paths: list[str], methods: tuple[str, ...] = METHODS, **headers: str) -> dict[str, set[int]]:
        """Path -> the statuses of its answers."""
        calls = [(method, path) for path in paths for method in methods]
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            got = list(pool.map(lambda call: self.answer(*call, **headers), calls))
        return {path: {code for (_, asked), code in zip(calls, got, strict=True) if asked == path} for path in paths}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    (port,) = free_ports(1)
    process = start_ui(f"sqlite:///{tmp_path_factory.mktemp('ui')}/mlflow.db", port=port)
    try:
        yield Server(port, process.pid)
    finally:
        stop_ui(process)


@pytest.fixture(scope="module")
def paths() -> list[str]:
    """The paths of this version of MLflow."""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", ROUTES], capture_output=True, text=True, check=True)
    paths: list[str] = json.loads(done.stdout.splitlines()[-1])
    assert {"/api/2.0/mlflow/runs/search", "/graphql", "/health"} <= set(paths)
    assert any(ASSISTANT in path for path in paths)
    return paths


@pytest.mark.slow
@pytest.mark.parametrize("origin", ["https://evil.example", "http://localhost:9", "null"])
def test_no_route_answers_a_page_of_another_origin(server: Server, paths: list[str], origin: str) -> None:
    got = server.answers(paths, Origin=origin)
    assert {path: codes for path, codes in got.items() if codes != {403}} == {}


@pytest.mark.slow
def test_no_route_answers_to_another_name_than_this_machine_s(server: Server, paths: list[str]) -> None:
    got = server.answers(paths, Host="evil.example")
    assert {path for path, codes in got.items() if codes != {403}} == set(PUBLIC[ELSEWHERE])


@pytest.mark.slow
def test_this_machine_is_answered_and_may_not_use_the_assistant(server: Server, paths: list[str]) -> None:
    got = server.answers(paths, ("GET",), Origin=f"http://127.0.0.1:{server.port}")
    assert {path for path, codes in got.items() if codes & {401, 403}} == {path for path in paths if ASSISTANT in path}
    assert got["/health"] == got["/version"] == {200}
    assert PUBLIC[UI].keys() == {"*"}


@pytest.mark.slow
def test_it_listens_on_loopback_alone(server: Server) -> None:
    table = "".join(Path(f"/proc/net/{kind}").read_text() for kind in ("tcp", "tcp6"))
    listening = [line.split()[1].split(":") for line in table.splitlines() if " 0A " in line]
    assert {host for host, port in listening if int(port, 16) == server.port} <= set(LOOPBACK)


@pytest.mark.slow
def test_a_request_that_never_ends_keeps_no_process(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    process = start_ui(f"sqlite:///{tmp_path}/mlflow.db", port=port)
    try:
        below = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        assert below
        with socket.create_connection(("127.0.0.1", port), timeout=20) as half:
            head = f"POST /graphql HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Length: 9\r\n\r\n"
            half.sendall(head.encode() + b"{")
            time.sleep(1)  # it is read, and the rest is waited for
            stop_ui(process)
            end = time.monotonic() + 10
            while [worker for worker in below if Path(f"/proc/{worker}").exists()] and time.monotonic() < end:
                time.sleep(0.1)
            assert not [worker for worker in below if Path(f"/proc/{worker}/exe").exists()]
    finally:
        process.kill()
        process.wait()
