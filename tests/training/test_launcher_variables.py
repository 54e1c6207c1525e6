"""What a host's launcher has set decides nothing inside a trial, and is still there after it."""

import os

import pytest

from expflow.config.spec import UserComponent
from expflow.training import Attempt, World, run_trial
from expflow.training.launcher_variables import without_launcher_variables
from tests.training.test_run_trial import recipe, train

LAUNCHERS = {
    "slurm": {
        "SLURM_NTASKS": "2",
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NAME": "train",
        "SLURM_PROCID": "1",
        "SLURM_LOCALID": "1",
        "SLURM_NODEID": "1",
        "SLURM_NODELIST": "node[1-2]",
    },
    "torchrun": {
        "TORCHELASTIC_RUN_ID": "none",
        "RANK": "3",
        "WORLD_SIZE": "4",
        "LOCAL_RANK": "3",
        "GROUP_RANK": "0",
        "MASTER_ADDR": "10.255.255.1",
        "MASTER_PORT": "29500",
    },
    "lsf": {
        "LSB_JOBID": "7",
        "LSB_DJOB_RANKFILE": "/nowhere",
        "JSM_NAMESPACE_LOCAL_RANK": "1",
        "JSM_NAMESPACE_RANK": "1",
        "JSM_NAMESPACE_SIZE": "2",
    },
    "openmpi": {"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2", "PMIX_RANK": "1"},
    "mpich": {"PMI_RANK": "1", "PMI_SIZE": "2"},
    "kubeflow": {"MASTER_ADDR": "head", "MASTER_PORT": "1", "RANK": "1", "WORLD_SIZE": "2"},
}


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_trial_under_a_launcher_is_the_trial_without_it(launcher, monkeypatch):
    plain, _ = train(recipe(1))
    for name, value in LAUNCHERS[launcher].items():
        monkeypatch.setenv(name, value)
    before = dict(os.environ)
    outcome, reports = train(recipe(1))
    assert outcome == plain
    assert len(reports) == 1
    assert dict(os.environ) == before


def test_a_users_code_sees_no_place_but_its_own(monkeypatch):
    for variables in LAUNCHERS.values():
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
    none = {"model": None, "loss": None, "optimizer": None, "schedule": None}
    task = UserComponent(name="tests.training.launched_code:Launched")
    reports = []
    run_trial(Attempt(recipe(1, task=task, **none), 0), World(), lambda report: reports.append(report) or True)
    assert reports[0].metrics["val/variables"] == 0
    assert reports[0].metrics["val/global_rank"] == 0
    assert reports[0].metrics["val/global_zero_functions_run"] == 1


def test_variables_come_back_and_others_are_left_alone(monkeypatch):
    monkeypatch.setenv("SLURM_NTASKS", "2")
    monkeypatch.setenv("RANKING", "mine")
    with without_launcher_variables():
        assert "SLURM_NTASKS" not in os.environ
        assert os.environ["RANKING"] == "mine"
        os.environ["MASTER_PORT"] = "1"
    assert os.environ["SLURM_NTASKS"] == "2"
    assert "MASTER_PORT" not in os.environ
