"""What Slurm's answers mean for a job, with a `squeue` that says what a test wants it to say."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from expflow.cluster.job_folder import JobEnd, JobFolder, JobOrder
from expflow.cluster.slurm_launcher import JOBS_FOLDER, SlurmLauncher
from expflow.cluster.specs import SlurmLauncherSpec

JOB = "expflow-x-0badcafe"


@pytest.fixture
def folder(tmp_path: Path) -> JobFolder:
    """A job that was sent again after its end, and whose number never arrived."""
    with zipfile.ZipFile(tmp_path / "project.zip", "w") as archive:
        archive.writestr("x.yaml", "task: {name: scripted}")
    folder = JobFolder(tmp_path / JOBS_FOLDER / JOB)
    folder.fill(JobOrder("x", str(tmp_path / "x"), ("-m", "expflow"), {}), tmp_path / "project.zip")
    folder.note("slurm", {"name": JOB, "index": None, "id": ""})
    return folder


@pytest.fixture
def squeue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that `squeue` prints."""
    program, answer = tmp_path / "bin" / "squeue", tmp_path / "answer"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec cat "{answer}"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    return answer


@pytest.mark.parametrize("word", ["TIMEOUT", "COMPLETED", "PREEMPTED"])
@pytest.mark.parametrize("latest_first", [False, True])
def test_after_a_lost_answer_the_latest_job_of_the_name_counts(
    tmp_path: Path, folder: JobFolder, squeue: Path, word: str, latest_first: bool
) -> None:
    lines = [f"99|{JOB}|{word}|2026-01-01T10:00:00|None", f"101|{JOB}|RUNNING|2026-01-01T11:00:00|None"]
    squeue.write_text("\n".join(reversed(lines) if latest_first else lines) + "\n")
    (job,) = SlurmLauncher(SlurmLauncherSpec(), ("--on", "slurm"), str(tmp_path)).jobs()
    assert job.status == "RUNNING"
    assert folder.noted("slurm")["id"] == "101"


def test_a_job_that_waits_says_what_for(tmp_path: Path, folder: JobFolder, squeue: Path) -> None:
    folder.write_end(JobEnd(0, 1.0, 2.0))
    squeue.write_text(f"7|{JOB}|PENDING|N/A|PartitionConfig\n")
    (job,) = SlurmLauncher(SlurmLauncherSpec(), ("--on", "slurm"), str(tmp_path)).jobs()
    assert (job.status, job.message) == ("PENDING", "PENDING (PartitionConfig)")


@pytest.mark.parametrize("record", ["order.json", "slurm.json", "ended.json"])
def test_a_damaged_record_hides_no_other_job(tmp_path: Path, folder: JobFolder, squeue: Path, record: str) -> None:
    other = JobFolder(folder.path.with_name("expflow-y-0badcafe"))
    other.fill(JobOrder("y", str(tmp_path / "y"), ("-m", "expflow"), {}), tmp_path / "project.zip")
    other.write_end(JobEnd(0, 1.0, 2.0))
    (folder.path / record).write_text('{"half')
    squeue.write_text("")
    jobs = {job.id: job for job in SlurmLauncher(SlurmLauncherSpec(), ("--on", "slurm"), str(tmp_path)).jobs()}
    assert jobs[other.job].status == "SUCCEEDED"
    assert f"{folder.path / record} does not read" in jobs[JOB].message


def test_a_job_that_was_taken_from_the_queue_stays_stopped_when_slurm_forgets_it(
    tmp_path: Path, folder: JobFolder, squeue: Path
) -> None:
    (squeue.parent / "bin" / "scancel").symlink_to("/bin/true")
    launcher = SlurmLauncher(SlurmLauncherSpec(), ("--on", "slurm"), str(tmp_path))
    squeue.write_text(f"7|{JOB}|PENDING|N/A|Resources\n")
    assert launcher.stop(JOB).status == "PENDING"
    squeue.write_text("")
    assert [(job.status, job.exit_code) for job in launcher.jobs()] == [("STOPPED", 143)]
