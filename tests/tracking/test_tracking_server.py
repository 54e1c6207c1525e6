"""A real MLflow server: the UI that we start, and a sweep that is told to it over HTTP."""

from __future__ import annotations

import json
import math
import socket
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest
from mlflow import MlflowClient

from expflow.errors import ServerUnreachable
from expflow.redaction import redacted
from expflow.tracking.chart_layout import VIEW_PREFIX
from expflow.tracking.follower import catch_up
from expflow.tracking.store import is_server
from expflow.tracking.ui import compare_link, start_ui
from tests.tracking.stories import TrialReported, whole_sweep, whole_trial, write


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


def ask(base: str, path: str, host: str | None = None) -> dict:
    request = urllib.request.Request(base + path, headers={"Host": host} if host else {})
    with urllib.request.urlopen(request, timeout=20) as answer:
        return json.loads(answer.read())


SEARCH = "/api/2.0/mlflow/runs/search"
GRAPHQL = b'{"query": "query { test(inputString: \\"x\\") { output } }"}'
PAGES_OF_OTHERS = [
    ("POST", "/api/2.0/mlflow/experiments/create", "http://127.0.0.1:9", b'{"name": "planted"}'),
    ("POST", "/ajax-api/2.0/mlflow/experiments/create", "http://localhost:9", b'{"name": "planted"}'),
    ("POST", "/graphql", "https://evil.example", GRAPHQL),
    ("POST", "/graphql", "http://[::1]:9", GRAPHQL),
    ("GET", "/api/2.0/mlflow/experiments/search?max_results=9", "null", None),
    ("PUT", "/api/2.0/mlflow-artifacts/artifacts/x", "http://localhost:9", b"x"),
    ("OPTIONS", SEARCH, "http://localhost:9", None),
]
"""Requests as a browser sends them for a page of another origin: method, path, origin, body."""


def view_of(uri: str) -> dict:
    """The one saved view of the experiment: its state and, as ``id``, what links name it by."""
    tags = MlflowClient(tracking_uri=uri).get_experiment_by_name("depth").tags
    ((tag, value),) = [item for item in tags.items() if item[0].startswith(VIEW_PREFIX)]
    return {"id": tag.removeprefix(VIEW_PREFIX), **json.loads(json.loads(value)["state"])}


def status(base: str, method: str, path: str, origin: str, body: bytes | None) -> int:
    headers = {"Origin": origin, "Content-Type": "application/json"} if origin else {"Content-Type": "application/json"}
    request = urllib.request.Request(base + path, data=body, headers=headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


@pytest.mark.slow
def test_the_ui_serves_loopback_and_a_sweep_can_be_told_to_it(tmp_path: Path, uri: str, runs) -> None:
    port = free_port()
    base = f"http://127.0.0.1:{port}"
    folder = tmp_path / "depth"
    odd = TrialReported("t99s0", 1, 1, {"val/loss": math.nan, "up": math.inf})
    extra = whole_trial(99, 0)
    write(folder, [*whole_sweep(), *extra[:2], odd, *extra[2:]])
    (folder / "report.html").write_text("report")
    server = start_ui(uri, port=port)
    try:
        assert catch_up(folder, base)
        assert catch_up(folder, base)
        listing = "/api/2.0/mlflow/experiments/search?max_results=9"
        assert [experiment["name"] for experiment in ask(base, listing)["experiments"]] == ["depth", "Default"]
        for strange in ("evil.example", "10.evil.example", f"192.168.0.1:{port}"):
            with pytest.raises(urllib.error.HTTPError) as refused:
                ask(base, listing, host=strange)
            refused.value.close()
            assert refused.value.code == 403
        assert [status(base, *request) for request in PAGES_OF_OTHERS] == [403] * len(PAGES_OF_OTHERS)
        for own in (base, f"http://localhost:{port}", ""):
            assert status(base, "POST", "/graphql", own, GRAPHQL) == 200
            assert status(base, "POST", SEARCH, own, b"{}") == 200
        assert status(base, "POST", "/ajax-api/3.0/mlflow/assistant/message", base, b"{}") == 403
        with pytest.raises(ServerUnreachable, match="give another --port"):
            start_ui(uri, port=port)
        link = compare_link(base, uri, "depth")
    finally:
        server.terminate()
        server.wait()
    assert len(runs("trial")) == 7
    assert runs("config")["depth=56"].data.metrics["final/val_top1"] == pytest.approx(0.6)
    metrics = runs("trial")["depth=99 s0"].data.metrics
    assert math.isnan(metrics["val/loss"])
    assert metrics["up"] > 1e308
    assert list((tmp_path / "mlartifacts").rglob("report.html")), "kept by the server, beside its database"
    assert redacted(link) == link, "printed as it is"
    page, _, query = link.partition("?")
    view = view_of(uri)
    assert view["searchFilter"].startswith("tags.`expflow.role` = 'config' and tags.`expflow.sweep` = '")
    assert (view["orderByKey"], view["orderByAsc"]) == ("metrics.`final/val_top1`", False)
    assert page.startswith(f"{base}/#/experiments/")
    assert urllib.parse.parse_qs(query) == {
        "viewStateShareKey": [view["id"]],
        "compareRunsMode": ["CHART"],
        "workflowType": ["machine_learning"],
    }


def test_one_seed_compares_trials(tmp_path: Path, uri: str) -> None:
    with pytest.raises(ServerUnreachable, match="no sweep 'depth'"):
        compare_link("http://x", uri, "depth")
    folder = tmp_path / "depth"
    write(folder, whole_sweep(seeds=(0,)), seeds=(0,), metric="fit/loss", mode="min")
    catch_up(folder, uri)
    query = urllib.parse.parse_qs(compare_link("http://x", uri, "depth").partition("?")[2])
    view = view_of(uri)
    assert query["viewStateShareKey"] == [view["id"]]
    assert view["searchFilter"].startswith("tags.`expflow.role` = 'trial' and ")
    assert (view["orderByKey"], view["orderByAsc"]) == ("metrics.`fit/loss`", True)


def test_a_sweep_without_a_view_is_compared_all_the_same(tmp_path: Path, uri: str) -> None:
    folder = tmp_path / "depth"
    write(folder, whole_sweep(seeds=(0,)), seeds=(0,), metric="fit/loss", mode="min")
    catch_up(folder, uri)
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("depth")
    for tag in [tag for tag in experiment.tags if tag.startswith(VIEW_PREFIX)]:
        client.delete_experiment_tag(experiment.experiment_id, tag)
    query = urllib.parse.parse_qs(compare_link("http://x", uri, "depth").partition("?")[2])
    assert query["searchFilter"] == ["tags.`expflow.role` = 'trial'"]
    assert (query["orderByKey"], query["orderByAsc"]) == (["metrics.`fit/loss`"], ["true"])


def test_a_store_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("no database at all, only text " * 100)
    with pytest.raises(ServerUnreachable, match=r"mlflow\.db cannot be used: file is not a database"):
        start_ui(f"sqlite:///{tmp_path / 'mlflow.db'}", port=free_port())
    (tmp_path / "depth").mkdir()
    (tmp_path / "file").write_text("")
    with pytest.raises(ServerUnreachable, match="cannot be used"):
        compare_link("http://x", f"sqlite:///{tmp_path / 'file' / 'mlflow.db'}", "depth")


@pytest.mark.slow
def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    with pytest.raises(ServerUnreachable, match=r"does not start: .*nosuchscheme"):
        start_ui("nosuchscheme://somewhere", port=free_port())


def test_a_server_that_is_gone_is_named() -> None:
    with pytest.raises(ServerUnreachable, match="looking for the configs of depth: MLflow at http"):
        compare_link("http://x", f"http://127.0.0.1:{free_port()}", "depth")


def test_a_server_is_told_from_a_file() -> None:
    assert is_server("https://tracking")
    assert not is_server("sqlite:///x")
