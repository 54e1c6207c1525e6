"""Against a real Ray head with token authentication: send, follow, list, stop, and what is said without the token."""

import json
import os
import subprocess
import sys
import time

import pytest

from expflow.cluster import ray_launcher
from expflow.cluster.project_package import pack_project
from expflow.cluster.ray_head import connect
from expflow.cluster.specs import RayLauncherSpec
from expflow.errors import AddressUnknown, ServerUnreachable

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.filterwarnings("ignore:ssl=None is deprecated:DeprecationWarning"),  # Ray's call of aiohttp
]

JOB = """
import json, os, signal, sys, time
import expflow

def save(number, frame):
    print("saved", flush=True)
    sys.exit(143)

signal.signal(signal.SIGTERM, save)
print(json.dumps({"arguments": sys.argv[2:], "files": sorted(os.listdir()), "expflow": expflow.__file__}), flush=True)
if sys.argv[1] == "wait":
    time.sleep(600)
sys.exit(int(sys.argv[1]))
"""


@pytest.fixture
def project(tmp_path):
    folder = tmp_path / "project"
    (folder / "runs").mkdir(parents=True)
    (folder / "runs" / "big").write_text("not sent")
    (folder / "job.py").write_text(JOB)
    return folder


def launcher(where):
    return ray_launcher.RayLauncher(RayLauncherSpec(address=where.address))


def send(where, project, tmp_path, name, *arguments):
    package = pack_project(project, tmp_path / "project.zip")
    command = ray_launcher.python_command(["job.py", *arguments])
    return ray_launcher.start_job(
        connect(where.address),
        f"expflow-{name}-00000000",
        command,
        package.path,
        {"expflow.experiment": name},
    )


def test_a_job_from_its_start_to_its_exit_code(with_token, project, tmp_path):
    job, already_running = send(with_token, project, tmp_path, "ends", "7", "a b", "$HOME")
    assert not already_running
    text = []
    over = launcher(with_token).follow(job, text.append)
    assert (over.status, over.exit_code, over.experiment) == ("FAILED", 7, "ends")
    facts = json.loads(next(line for line in "".join(text).splitlines() if line.startswith("{")))
    assert facts["arguments"] == ["a b", "$HOME"]
    assert facts["files"] == ["expflow", "job.py"]
    assert "working_dir_files" in facts["expflow"]
    assert launcher(with_token).logs(job) == "".join(text)
    assert job in {listed.id for listed in launcher(with_token).jobs()}
    again, already_running = send(with_token, project, tmp_path, "ends", "0")
    assert (again, already_running) == (f"{job}-2", False)
    assert launcher(with_token).follow(again, text.append).exit_code == 0


def test_stopping_lets_a_job_save(with_token, project, tmp_path):
    job, _ = send(with_token, project, tmp_path, "waits", "wait")
    assert send(with_token, project, tmp_path, "waits", "wait") == (job, True)
    until(lambda: "{" in launcher(with_token).logs(job))
    assert not launcher(with_token).stop(job).over
    over = launcher(with_token).follow(job, lambda text: None)
    assert (over.status, over.exit_code) == ("STOPPED", 143)
    assert launcher(with_token).logs(job).endswith("saved\n")
    assert launcher(with_token).stop(job).over


def test_an_unknown_job_names_those_that_are_there(with_token):
    with pytest.raises(AddressUnknown, match="has no job 'expflow-none-00000000'"):
        launcher(with_token).logs("expflow-none-00000000")


def test_a_variable_does_not_overrule_the_address(with_token, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:1")
    launcher(with_token).jobs()
    assert os.environ["RAY_ADDRESS"] == "http://127.0.0.1:1"


def test_without_the_token_and_with_a_wrong_one(ray_head, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ServerUnreachable, match="wants a token"):
        launcher(ray_head).jobs()
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)
    with pytest.raises(ServerUnreachable, match="refuses the token from RAY_AUTH_TOKEN"):
        launcher(ray_head).jobs()


def test_the_command_says_what_is_missing_and_leaves_with_3(ray_head, tmp_path):
    command = [sys.executable, "-m", "expflow", "stop", "expflow-x-00000000", "--address", ray_head.address]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "HOME": str(tmp_path)})
    assert done.returncode == 3
    assert done.stderr.startswith(f"error: the Ray head at {ray_head.address} wants a token: ")
    assert "Traceback" not in done.stderr


def until(true, patience=120.0):
    end = time.monotonic() + patience
    while not true():
        assert time.monotonic() < end
        time.sleep(0.2)
