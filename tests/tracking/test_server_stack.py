"""``python -m expflow.services``: real servers on loopback, and real sweeps that write to them at once."""

from __future__ import annotations

import json
import os
import subprocess
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path

import pytest
from mlflow import MlflowClient

from expflow.ledger.process_identity import ProcessIdentity
from tests.sweep.runs import Workplace
from tests.tracking.server_stack import ServerStack
from tests.tracking.store_contents import files_of, history

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

LISTENING = "0A"
LOOPBACK = {"0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"}


def processes_of(stack: ServerStack) -> dict[str, list[int]]:
    """Service -> the processes of its session."""
    records = json.loads((stack.folder / "running.json").read_text())
    leaders = {ProcessIdentity.from_json(record["process"]).pid: name for name, record in records.items()}
    processes: dict[str, list[int]] = {name: [] for name in records}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                session = os.getsid(int(entry.name))
            except ProcessLookupError:
                continue
            if session in leaders:
                processes[leaders[session]].append(int(entry.name))
    return processes


def listening_on(process: int) -> set[str]:
    """The addresses, in the kernel's words, on which a process accepts TCP connections."""
    own = {str(link.readlink()) for link in Path(f"/proc/{process}/fd").iterdir() if link.is_symlink()}
    tables = [line.split() for kind in ("tcp", "tcp6") for line in Path(f"/proc/net/{kind}").read_text().splitlines()]
    return {row[1].split(":")[0] for row in tables if row[3] == LISTENING and f"socket:[{row[9]}]" in own}


def test_they_run_and_say_so(stack: ServerStack) -> None:
    status = stack.call("status")
    assert status.returncode == 0
    assert [line.split()[0] for line in status.stdout.splitlines()] == ["postgresql", "s3", "mlflow"]
    again = stack.call("up", "mlflow")
    assert again.returncode == 0
    assert again.stdout.rstrip().endswith(f"export MLFLOW_TRACKING_URI={stack.uri}")


def test_nothing_listens_beyond_this_machine(stack: ServerStack) -> None:
    listening = {name: set().union(*map(listening_on, ids)) for name, ids in processes_of(stack).items()}
    assert all(listening.values()), "each of them listens"
    assert set().union(*listening.values()) <= LOOPBACK


def test_passwords_are_drawn_and_stay_in_their_file(stack: ServerStack) -> None:
    file = stack.folder / "passwords.json"
    assert file.stat().st_mode & 0o777 == 0o600
    passwords = json.loads(file.read_text()).values()
    assert len(set(passwords)) == len(passwords) == 2
    assert all(len(password) == 48 for password in passwords)
    seen = [log.read_text(errors="replace") for log in stack.folder.glob("*.log")]
    for process in [process for group in processes_of(stack).values() for process in group]:
        seen.append(Path(f"/proc/{process}/cmdline").read_text(errors="replace"))
    assert not [password for password in passwords if any(password in text for text in seen)]


def test_the_database_asks_for_its_password(stack: ServerStack) -> None:
    psycopg2 = pytest.importorskip("psycopg2")
    address = json.loads((stack.folder / "running.json").read_text())["postgresql"]["address"]
    for user in ("expflow", "postgres"):
        with pytest.raises(psycopg2.OperationalError, match=r"no password supplied|authentication failed"):
            psycopg2.connect(address, user=user)


def test_the_server_answers_to_its_own_names_alone(stack: ServerStack) -> None:
    request = urllib.request.Request(f"{stack.uri}/api/2.0/mlflow/experiments/search?max_results=1")
    request.add_header("Host", "10.evil.example")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=20)
    refused.value.close()
    assert refused.value.code == 403


def test_artifacts_lie_in_the_s3_store_and_clients_need_no_keys(
    stack: ServerStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    client = MlflowClient(tracking_uri=stack.uri)
    run = client.create_run(client.create_experiment("artifacts"))
    (tmp_path / "curve.txt").write_text("a curve")
    client.log_artifact(run.info.run_id, str(tmp_path / "curve.txt"))
    assert run.info.artifact_uri.startswith("mlflow-artifacts:/")
    assert files_of(client, run.info.run_id) == {"curve.txt": 7}
    down = Path(client.download_artifacts(run.info.run_id, "curve.txt", str(tmp_path)))
    assert down.read_text() == "a curve"
    boto3 = pytest.importorskip("boto3")
    address = json.loads((stack.folder / "running.json").read_text())["s3"]["address"]
    key = json.loads((stack.folder / "passwords.json").read_text())["s3"]
    s3 = boto3.client(
        "s3", endpoint_url=address, aws_access_key_id="mlflow", aws_secret_access_key=key, region_name="us-east-1"
    )
    stored = [item["Key"] for item in s3.list_objects_v2(Bucket="mlflow")["Contents"]]
    assert any(path.endswith(f"{run.info.run_id}/artifacts/curve.txt") for path in stored)
    s3.close()


class TrackedWorkplace(Workplace):
    """A folder whose sweeps are tracked by a server."""

    uri = ""

    def environment(self) -> dict[str, str]:
        return {**super().environment(), "MLFLOW_TRACKING_URI": self.uri}


@pytest.mark.ray
def test_two_drivers_write_two_sweeps_of_24_trials_at_once(stack: ServerStack, tmp_path: Path) -> None:
    names, reports, configs, seeds = ("first", "second"), 5, 8, 3
    place = TrackedWorkplace(tmp_path)
    place.uri = stack.uri
    for number, name in enumerate(names):
        place.scripted([number + value / 10 for value in range(configs)], seeds=seeds)
        text = (tmp_path / "exp.yaml").read_text().replace("repeat: 2", f"repeat: {reports}")
        place.write(text.replace("epochs: 2", f"epochs: {reports}"), f"{name}.yaml")
    drivers = [place.start("sweep", f"{name}.yaml") for name in names]
    try:
        outputs = [driver.communicate(timeout=280)[0] for driver in drivers]
    except subprocess.TimeoutExpired:
        place.leave()
        raise
    assert [driver.returncode for driver in drivers] == [0, 0], outputs
    assert not [output for output in outputs if "tracking is behind" in output]
    client = MlflowClient(tracking_uri=stack.uri)
    for name in names:
        runs = client.search_runs([client.get_experiment_by_name(name).experiment_id], max_results=1000)
        roles = Counter(run.data.tags["expflow.role"] for run in runs)
        assert roles == {"sweep": 1, "config": configs, "trial": configs * seeds}
        assert {run.info.status for run in runs} == {"FINISHED"}
        trials = [run for run in runs if run.data.tags["expflow.role"] == "trial"]
        points = [history(client, run, "val/top1") for run in trials]
        assert [[step for step, _ in curve] for curve in points] == [list(range(1, reports + 1))] * len(trials)
        assert len({(run.data.params["task.value"], run.data.tags["expflow.seed"]) for run in trials}) == len(trials)
        assert {len(run.data.params) for run in trials} == {len(trials[0].data.params)}
        assert len(trials[0].data.params) > 5
        for run in (run for run in runs if run.data.tags["expflow.role"] == "config"):
            assert [step for step, _ in history(client, run, "val/top1")] == list(range(1, reports + 1))
        (sweep,) = (run for run in runs if run.data.tags["expflow.role"] == "sweep")
        results = tmp_path / "runs" / name
        origin = [results / file for file in ("experiment.yaml", "environment.txt", "changes.diff")]
        expected = {f"experiment/{path.name}": path.stat().st_size for path in origin if path.exists()}
        for path in (results / "report.html", *(results / "figures").glob("*")):
            expected[path.relative_to(results).as_posix()] = path.stat().st_size
        assert expected.keys() >= {"report.html", "experiment/experiment.yaml", "experiment/environment.txt"}
        assert files_of(client, sweep.info.run_id) == expected
