"""What the doctor finds, and that it says how to mend it."""

import sqlite3
import sys
from importlib import metadata

import pytest
from packaging.requirements import Requirement

from expflow.doctor import (
    CheckResult,
    DoctorTargets,
    machine_checks,
    package_checks,
    run_checks,
    service_checks,
    worst_state,
)


@pytest.fixture(autouse=True)
def _no_token(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.mark.parametrize(
    ("wanted", "version", "state"),
    [
        ("ray>=2.40", "2.60.0", "ok"),
        ("ray>=2.40", "2.55.1", "fail"),
        ("pytorch-lightning>=2.4", "2.6.3", "fail"),
        ("mlflow>=3,<4", "3.16.0", "fail"),
        ("mlflow>=3,<4", "4.0", "fail"),
        ("torch>=2.5", "2.10.0", "fail"),
        ("torch>=2.11", "2.15.0+cu132", "ok"),
    ],
)
def test_versions_against_our_ranges_and_the_unsafe_ones(wanted, version, state):
    check = package_checks.judge_package(Requirement(wanted), version)
    assert check.state == state
    assert bool(check.mend) == (state == "fail")


def test_an_unsafe_version_names_its_reason():
    assert "CVE-2026-57516" in package_checks.judge_package(Requirement("ray>=2.40"), "2.55.1").finding


def test_a_missing_package(monkeypatch):
    def version(name):
        if name == "webdataset":
            raise metadata.PackageNotFoundError(name)
        return "99"

    monkeypatch.setattr(package_checks.metadata, "version", version)
    missing = next(check for check in package_checks.check_packages() if check.name == "webdataset")
    assert (missing.state, missing.finding) == ("fail", "not installed")
    assert missing.mend.startswith("pip install 'webdataset")


@pytest.mark.parametrize(("installed", "states"), [("2.6.6", ["ok"]), ("2.6.3", ["fail"]), (None, [])])
def test_lightning_beside_pytorch_lightning_is_the_same_version(installed, states, monkeypatch):
    def version(name):
        if name == "lightning" and installed is None:
            raise metadata.PackageNotFoundError(name)
        return installed if name == "lightning" else "2.6.6"

    monkeypatch.setattr(package_checks.metadata, "version", version)
    checks = list(package_checks.check_lightning_pair())
    assert [check.state for check in checks] == states
    assert all(check.mend == "pip install lightning==2.6.6" for check in checks if check.state == "fail")


def test_a_torchvision_for_another_torch(monkeypatch):
    monkeypatch.setattr(package_checks.metadata, "version", {"torch": "2.13.0", "torchvision": "0.29.2"}.get)
    monkeypatch.setattr(package_checks.metadata, "requires", lambda name: ["numpy", "torch==2.15.0"])
    check = package_checks.check_torch_pair()
    assert check.state == "fail"
    assert check.finding == "torchvision 0.29.2 wants torch==2.15.0, found 2.13.0"


def test_an_import_that_fails_is_told_and_not_raised(monkeypatch):
    monkeypatch.setattr(package_checks, "_PROBE", "raise RuntimeError('operator torchvision::nms does not exist')")
    operators, gpus = package_checks.probe_torch()
    assert operators.state == "fail"
    assert "operator torchvision::nms does not exist" in operators.finding
    assert gpus is None


def test_a_folder_with_room(tmp_path):
    assert machine_checks.check_folder("storage", tmp_path / "not" / "yet").state == "ok"


def test_a_folder_below_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    assert machine_checks.check_folder("storage", tmp_path / "file" / "runs").state == "fail"


@pytest.mark.parametrize(
    ("free", "state"), [(100 * machine_checks.GB, "ok"), (2 * machine_checks.GB, "warn"), (0, "fail")]
)
def test_a_full_disk(tmp_path, monkeypatch, free, state):
    monkeypatch.setattr(machine_checks.shutil, "disk_usage", lambda path: type("Usage", (), {"free": free})())
    assert machine_checks.check_folder("storage", tmp_path).state == state


def test_a_containers_quota(tmp_path, monkeypatch):
    (tmp_path / "cpu.max").write_text("50000 100000\n")
    (tmp_path / "memory.max").write_text(f"{3 * machine_checks.GB}\n")
    (tmp_path / "memory.current").write_text(f"{2 * machine_checks.GB}\n")
    monkeypatch.setattr(machine_checks, "_CGROUP", tmp_path)
    assert "may use 0.5" in machine_checks.check_cores().finding
    assert machine_checks.check_memory().finding == "1.0 GB free"


def test_few_open_files(monkeypatch):
    monkeypatch.setattr(machine_checks.resource, "getrlimit", lambda which: (256, 8192))
    check = next(check for check in machine_checks.check_ray_limits() if check.name == "open files")
    assert (check.state, check.mend) == ("warn", "ulimit -n 8192")


def test_no_git(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert machine_checks.check_git().state == "warn"


def test_an_mlflow_store(tmp_path):
    file = tmp_path / "mlflow.db"
    assert service_checks.check_tracking(f"sqlite:///{file}").finding.endswith("(will be made)")
    with sqlite3.connect(file) as database:
        database.execute("create table runs (id)")
    database.close()
    assert service_checks.check_tracking(f"sqlite:///{file}").state == "ok"
    file.write_bytes(b"no database at all" * 100)
    broken = service_checks.check_tracking(f"sqlite:///{file}")
    assert broken.state == "fail"
    assert "from its ledger" in broken.mend


def test_an_mlflow_server_that_is_away_only_warns_and_hides_its_password():
    check = service_checks.check_tracking("http://me:secret@127.0.0.1:9")
    assert check.state == "warn"
    assert "secret" not in check.finding
    assert "127.0.0.1:9 does not answer" in check.finding
    assert "Name or service" not in check.finding


def test_a_folder_as_mlflow_store_is_refused_as_mlflow_does():
    assert service_checks.check_tracking("file:./mlruns").state == "fail"


def test_a_token_that_others_can_read(tmp_path):
    (tmp_path / ".ray").mkdir()
    file = tmp_path / ".ray" / "auth_token"
    file.write_text("secret")
    file.chmod(0o644)
    check = next(service_checks.check_ray(""))
    assert (check.state, check.mend) == ("warn", f"chmod 600 {file}")
    file.chmod(0o600)
    assert next(service_checks.check_ray("")).state == "ok"


def test_a_configured_head_that_is_away_only_warns():
    check = list(service_checks.check_ray("http://127.0.0.1:9"))[-1]
    assert (check.name, check.state) == ("Ray head", "warn")


@pytest.mark.parametrize(("states", "result"), [([], "ok"), (["ok", "warn"], "warn"), (["warn", "fail", "ok"], "fail")])
def test_the_worst_counts(states, result):
    assert worst_state(CheckResult("x", state, "") for state in states) == result


def test_this_machine_passes_and_torch_is_not_imported_here(tmp_path):
    before = "torch" in sys.modules
    checks = list(run_checks(DoctorTargets("runs", tmp_path, f"sqlite:///{tmp_path}/mlflow.db"), quick=True))
    assert not [check for check in checks if check.state == "fail"]
    assert {"python", "torch", "cores", "memory", "storage", "data cache", "git", "MLflow"} <= {c.name for c in checks}
    assert ("torch" in sys.modules) is before
    assert all(check.mend for check in checks if check.state != "ok")


@pytest.mark.parametrize(("address", "state"), [("auto", "ok"), ("http://127.0.0.1:8265", "warn")])
def test_a_cluster_that_sweeps_join(monkeypatch, address, state):
    monkeypatch.setenv("RAY_ADDRESS", address)
    check = list(service_checks.check_ray(""))[-1]
    assert (check.name, check.state) == ("Ray cluster", state)
    assert address in check.finding
