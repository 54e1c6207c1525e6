"""Who may use what listens: every route of a Ray head and its agent, with no token, a wrong one and the right one."""

from __future__ import annotations

import concurrent.futures
import http.client
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.parse
from pathlib import Path

import pytest
import ray

from expflow.cluster.job_folder import JobFolder
from expflow.config.site import MetricsExport
from expflow.prometheus.exporter import exported
from expflow.prometheus.sweep_metrics import SweepMetrics
from tests.cluster.public_routes import ANSWERS, OF_SOME_RAYS, PUBLIC

METHODS = ("GET", "POST", "PUT", "DELETE")
ROUTES = """
import json
from ray.dashboard.optional_utils import DashboardAgentRouteTable, DashboardHeadRouteTable
from ray.dashboard.subprocesses.module import SubprocessModule
from ray.dashboard.subprocesses.routes import SubprocessRouteTable
from ray.dashboard.utils import DashboardAgentModule, DashboardHeadModule, get_all_modules
for kind in (DashboardHeadModule, SubprocessModule, DashboardAgentModule):
    get_all_modules(kind)
head = [(route.method, route.path) for route in DashboardHeadRouteTable.routes()]
head += [(method, path) for method, paths in SubprocessRouteTable._bind_map.items() for path in paths]
print(json.dumps([head, [(route.method, route.path) for route in DashboardAgentRouteTable.routes()]]))
"""
OF_THE_SERVER = [
    ("GET", "/"),
    ("GET", "/favicon.ico"),
    ("GET", "/static/"),
    ("GET", "/api/authentication_mode"),
    ("POST", "/api/authenticate"),
    ("GET", "/api/healthz"),
]
"""What Ray's dashboard has beside the routes of its modules."""


@pytest.fixture(scope="module")
def routes() -> dict[str, set[tuple[str, str]]]:
    """Methods and paths of Ray's dashboard and of its agent, as this version of Ray has them."""
    done = subprocess.run([sys.executable, "-c", ROUTES], capture_output=True, text=True, check=True, timeout=120)
    head, agent = json.loads(done.stdout.splitlines()[-1])
    assert {"/api/jobs/", "/api/version", "/api/packages/{protocol}/{package_name}"} <= {path for _, path in head}
    assert "/api/job_agent/jobs/" in {path for _, path in agent}
    return {
        "Ray's dashboard": {(method, path) for method, path in [*head, *OF_THE_SERVER]},
        "Ray's agent": {(method, path) for method, path in agent},
    }


def answer(place: str, method: str, path: str, token: str | None) -> int:
    """The status of an answer; 0 where there was none within the time, which no refusal takes."""
    host, _, port = place.partition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=8)
    try:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        connection.request(method, re.sub(r"\{[^}]*\}", "x", path), body=b"", headers=headers)
        return connection.getresponse().status
    except TimeoutError:
        return 0
    finally:
        connection.close()


def agent_host(port: int) -> str:
    """Where Ray's agent listens, which comes up after the head; other nodes reach it."""
    host, patience = str(ray.util.get_node_ip_address()), time.monotonic() + 60
    while True:
        try:
            socket.create_connection((host, port), timeout=5).close()
        except OSError:
            assert time.monotonic() < patience
            time.sleep(0.2)
        else:
            return host


def answers(place: str, paths: list[str], token: str | None, at_once: int = 8) -> dict[tuple[str, str], int]:
    calls = [(method, path) for path in paths for method in METHODS]
    with concurrent.futures.ThreadPoolExecutor(at_once) as pool:
        return dict(zip(calls, pool.map(lambda call: answer(place, *call, token), calls), strict=True))


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize("server", ["Ray's dashboard", "Ray's agent"])
def test_no_route_answers_without_the_token(server: str, ray_head, routes) -> None:
    if server == "Ray's dashboard":
        place = urllib.parse.urlsplit(ray_head.address).netloc
    else:
        place = f"{agent_host(ray_head.agent_port)}:{ray_head.agent_port}"
    paths = sorted({path for _, path in routes[server]})
    for token, refusal in ((None, 401), ("0" * 64, 403)):
        got = answers(place, paths, token)
        others = {call: status for call, status in got.items() if status != refusal}
        assert {path for _, path in others} == set(PUBLIC[server]), others
    right = answers(place, paths, ray_head.token_file.read_text(), at_once=1)  # Ray 2.56 breaks under several
    wrong = {call: status for call, status in right.items() if status not in expected(server, call, routes[server])}
    assert wrong == {}
    assert {name.partition(" ")[2] for name in ANSWERS[server]} <= {*paths, *OF_SOME_RAYS}


def expected(server: str, call: tuple[str, str], routes: set[tuple[str, str]]) -> set[int]:
    """What a call with the right token may be answered."""
    method, path = call
    for name in (f"{method} {path}", f"* {path}"):
        if name in ANSWERS[server]:
            return ANSWERS[server][name][0]
    return {200} if call in routes else {405}


@pytest.mark.ray
@pytest.mark.slow
def test_the_head_s_store_refuses_who_has_no_token(ray_head) -> None:
    import grpc

    asked = "/ray.rpc.NodeInfoGcsService/GetAllNodeInfo"
    codes = {}
    for token in (None, "0" * 64, ray_head.token_file.read_text()):
        with grpc.insecure_channel(f"127.0.0.1:{ray_head.port}") as channel:
            call = channel.unary_unary(asked)
            try:
                call(b"", timeout=10, metadata=[("authorization", f"Bearer {token}")] if token else [])
                codes[token] = "OK"
            except grpc.RpcError as error:
                codes[token] = error.code().name
    assert list(codes.values()) == ["UNAUTHENTICATED", "UNAUTHENTICATED", "OK"]


def test_the_exporter_gives_numbers_and_takes_nothing(tmp_path: Path) -> None:
    assert PUBLIC["exporter of metrics"].keys() == {"*"}
    metrics = SweepMetrics("x", "val/top1", "max", tmp_path)
    with exported(metrics, MetricsExport(), "x") as place:
        assert place.startswith("127.0.0.1:")
        got = answers(place, ["/metrics", "/"], None)
    assert got["GET", "/metrics"] == 200
    assert {status for (method, _), status in got.items() if method != "GET"} <= {200, 405, 501}


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o277])
def test_a_job_s_token_is_its_user_s_alone_whatever_the_umask(umask: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        token = JobFolder(tmp_path).make_token()
    finally:
        os.umask(before)
    assert (tmp_path / "token").stat().st_mode & 0o177 == 0
    assert JobFolder(tmp_path).make_token() == token == (tmp_path / "token").read_text()
    assert re.fullmatch(r"[0-9a-f]{64}", token)


@pytest.mark.ray
@pytest.mark.slow
def test_the_token_of_a_head_that_is_started_by_hand(tmp_path: Path) -> None:
    """The commands of docs/cluster.md, up to the one that listens."""
    page = (Path(__file__).parents[2] / "docs" / "cluster.md").read_text()
    commands = page.partition("export RAY_AUTH_MODE=token\n")[2].partition(".venv/bin/ray start")[0]
    script = commands.replace(".venv/bin/ray", str(Path(sys.executable).with_name("ray")))
    for umask in ("000", "022"):
        environment = {**os.environ, "HOME": str(tmp_path / umask), "RAY_AUTH_MODE": "token"}
        (tmp_path / umask).mkdir()
        done = subprocess.run(
            ["sh", "-ec", f"umask {umask}\n{script}"], env=environment, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        file = tmp_path / umask / ".ray" / "auth_token"
        assert file.stat().st_mode & 0o777 == 0o600
        assert file.read_text().strip() not in done.stdout + done.stderr
