"""Which cluster a sweep runs on, and what its results record of where it was sent from."""

from __future__ import annotations

from pathlib import Path

import pytest

from expflow.config.schema import Resources
from expflow.errors import ServerUnreachable, UserError
from expflow.sweep.machine import cluster_address, connected
from expflow.sweep.provenance import git_state


@pytest.mark.parametrize(
    ("variable", "site", "found"),
    [
        ("", None, None),
        ("", "auto", "auto"),
        ("", "http://head:8265", None),
        ("10.0.0.1:6379", "auto", "10.0.0.1:6379"),
        ("10.0.0.1:6379", "http://head:8265", "10.0.0.1:6379"),
    ],
)
def test_the_cluster(monkeypatch: pytest.MonkeyPatch, variable: str, site: str | None, found: str | None) -> None:
    monkeypatch.setenv("RAY_ADDRESS", variable)
    assert cluster_address(site) == found


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
    monkeypatch.setattr("expflow.sweep.machine.ray.init", slow)
    with (
        pytest.raises(ServerUnreachable, match="Ray on this machine did not start or answer: The current node timed"),
        connected(Resources(), None, "name", paths=(), warm=()),
    ):
        pass
