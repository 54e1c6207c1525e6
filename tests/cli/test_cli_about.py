"""The commands doctor and schema."""

import json

import pytest

from expflow import cli, doctor
from expflow.doctor import CheckResult


def call(*arguments):
    with pytest.raises(SystemExit) as left:
        cli.main(list(arguments))
    return left.value.code


@pytest.fixture
def give_checks(monkeypatch):
    def set_to(*checks):
        monkeypatch.setattr(doctor, "run_checks", lambda where, quick: iter(checks))

    return set_to


def test_all_well(give_checks, capsys):
    give_checks(CheckResult("python", "ok", "3.11"))
    assert call("doctor") == 0
    assert capsys.readouterr().out == "ok   python: 3.11\nall is well\n"


def test_a_failure_is_3_and_says_how_to_mend_it(give_checks, capsys):
    give_checks(
        CheckResult("ray", "fail", "not installed", "pip install 'ray>=2.56'"),
        CheckResult("git", "warn", "not installed", "apt"),
    )
    assert call("doctor") == 3
    printed = capsys.readouterr().out
    assert "fail ray: not installed\n      -> pip install 'ray>=2.56'\n" in printed
    assert printed.endswith("1 to mend, 1 to look at\n")


def test_a_warning_alone_is_0(give_checks):
    give_checks(CheckResult("git", "warn", "not installed", "apt"))
    assert call("doctor") == 0


def test_as_json(give_checks, capsys):
    give_checks(CheckResult("ray", "fail", "gone", "get it"))
    assert call("doctor", "--json") == 3
    answer = json.loads(capsys.readouterr().out)
    assert (answer["document"], answer["version"], answer["state"]) == ("doctor", 1, "fail")
    assert answer["checks"] == [{"name": "ray", "state": "fail", "finding": "gone", "mend": "get it"}]


def test_this_machines_own_settings_reach_the_doctor(monkeypatch, tmp_path):
    seen = []
    monkeypatch.setattr(doctor, "run_checks", lambda where, quick: seen.append((where, quick)) or iter(()))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EXPFLOW_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://head:1")
    assert call("doctor", "--quick") == 0
    where, quick = seen[0]
    assert quick
    assert where.cache == tmp_path / "cache"
    assert where.tracking == f"sqlite:///{tmp_path}/runs/mlflow.db"
    assert where.ray == "http://head:1"


def test_the_schema_is_json_schema(capsys):
    assert call("schema") == 0
    schema = json.loads(capsys.readouterr().out)
    assert schema["$schema"].endswith("2020-12/schema")
    assert {"model", "sweep", "extends"} <= schema["properties"].keys()
