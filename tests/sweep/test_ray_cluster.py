"""Which cluster a sweep runs on, and what its results record of where it was sent from."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from expflow.config.resources import Resources
from expflow.errors import ServerUnreachable, UserError
from expflow.sweep.provenance import git_state
from expflow.sweep.ray_address import cluster_address
from expflow.sweep.ray_cluster import connected
from tests.sweep.runs import Workplace


@pytest.mark.parametrize(
    ("variable", "site", "address"),
    [
        ("", None, None),
        ("", "auto", "auto"),
        ("", "http://head:8265", None),
        ("10.0.0.1:6379", "auto", "10.0.0.1:6379"),
        ("10.0.0.1:6379", "http://head:8265", "10.0.0.1:6379"),
    ],
)
def test_the_cluster(monkeypatch: pytest.MonkeyPatch, variable: str, site: str | None, address: str | None) -> None:
    monkeypatch.setenv("RAY_ADDRESS", variable)
    assert cluster_address(site) == address


def test_a_dashboard_is_no_cluster_to_join(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "http://head:8265")
    with pytest.raises(UserError, match="expflow submit FILE --address http://head:8265"):
        cluster_address(None)


def test_a_job_records_the_commit_that_its_sender_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert git_state(tmp_path) == {}
    monkeypatch.setenv("EXPFLOW_GIT_COMMIT", "c0ffee")
    monkeypatch.setenv("EXPFLOW_GIT_DIRTY", "no")
    assert git_state(tmp_path) == {"commit": "c0ffee", "dirty": "no"}


def test_a_machine_that_is_too_busy_for_ray_is_said_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(**options: object) -> None:
        raise Exception("The current node timed out during startup.")  # as Ray does

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("expflow.sweep.ray_cluster.ray.init", slow)
    with (
        pytest.raises(ServerUnreachable, match="Ray on this machine did not start or answer: The current node timed"),
        connected(Resources(), None, "name", paths=(), warm=()),
    ):
        pass


VISIT = """
import json, logging, time
import ray
import expflow

# "local", or it would connect to a head that other tests have running on this machine
ray.init("local", num_cpus=2, namespace="theirs", include_dashboard=False, log_to_driver=False, logging_level="error")

@ray.remote(num_cpus=0)
class Counter:
    def __init__(self):
        self.count = 0
    def add(self):
        self.count += 1
        return self.count

counter = Counter.options(name="counter").remote()
ray.get(counter.add.remote())
level = logging.getLogger("ray").level
experiment = expflow.load("exp.yaml", {"resources": {"max_concurrent": 2}})
results = experiment.sweep(progress=False)
more = expflow.load("exp.yaml", ["sweep.seeds=2", "resources.max_concurrent=2"]).sweep(progress=False)

deadline = time.monotonic() + 60
def free():
    there = ray.available_resources()
    return there.get("CPU"), there.get("node:__internal_head__")

while free() != (2, 1) and time.monotonic() < deadline:
    time.sleep(0.1)
print(json.dumps({
    "status": [list(results.trials["status"]), list(more.trials["status"])],
    "connected": ray.is_initialized(),
    "namespace": ray.get_runtime_context().namespace,
    "counted": ray.get(ray.get_actor("counter").add.remote()),
    "free": free(),
    "actors": ray.util.list_named_actors(),
    "level": logging.getLogger("ray").level == level,
}))
"""


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_process_that_is_connected_already_sweeps_there_and_stays_connected(workplace: Workplace) -> None:
    """As in a notebook whose first cell calls ray.init: nothing of the sweep is left, and nothing of theirs is lost."""
    workplace.scripted([0.2, 0.4])
    done = subprocess.run(
        [sys.executable, "-c", VISIT],
        cwd=workplace.folder,
        env=workplace.environment(),
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {
        "status": [["done"] * 2, ["done"] * 4],
        "connected": True,
        "namespace": "theirs",
        "counted": 2,
        "free": [2, 1],
        "actors": ["counter"],
        "level": True,
    }


def test_rays_client_is_refused_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("expflow.sweep.ray_cluster.ray.is_initialized", lambda: True)
    monkeypatch.setattr("expflow.sweep.ray_cluster.ray.util.client.ray.is_connected", lambda: True)
    with (
        pytest.raises(UserError, match=r"through its client .* call ray.shutdown\(\) first; `expflow submit FILE`"),
        connected(Resources(), None, "name", paths=(), warm=()),
    ):
        pass
