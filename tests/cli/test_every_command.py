"""Every command that takes --json answers by its schema, or with an error that does; on a tiny experiment."""

from __future__ import annotations

import json
import sys
from itertools import groupby

import jsonschema
import pytest
import typer

from expflow import cli
from expflow.cli.documents.schemas import document_schema
from expflow.cluster.launcher import ClusterJob, Submission
from expflow.cluster.ray_launcher import RayLauncher
from expflow.sweep.in_process import run_in_process

pytestmark = pytest.mark.timeout(300)  # torch is imported, and machines are shared

ADDRESS, JOB = "http://head:8265", "expflow-tiny-0badcafe"

NET = """\
import torch
from torch import nn
class Net(nn.Sequential):
    def __init__(self, hidden: int = 4, num_classes: int = 10):
        super().__init__(nn.Flatten(), nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, num_classes))
        nn.init.constant_(self[1].bias, 0.01 * torch.get_num_threads())
"""
"""A net that differs with the number of threads, as sums of large ones do in their last digits."""
TINY = """\
data: {name: digits, batch_size: 50, limit: 100}
model: {name: "tiny_net:Net", hidden: %s}
task: classification
loss: cross_entropy
optimizer: {name: sgd, lr: 0.1}
trainer: {epochs: 2, checkpoint: {every_epochs: 1, keep: 5}}
sweep: {seeds: %s}
"""


def without_ray(plan, *, template=None, **options):
    return run_in_process(plan, **options)


class Nobody:
    def finish(self, timeout_seconds):
        return True


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A folder with an experiment of two seeds that were trained, and a module of the user's."""
    folder = tmp_path_factory.mktemp("every_command")
    (folder / "tiny_net.py").write_text(NET)
    (folder / "tiny.yaml").write_text(TINY % (4, 2))
    (folder / "wide.yaml").write_text(TINY % (5, 2))
    with pytest.MonkeyPatch.context() as patch:
        isolate(patch, folder)
        with pytest.raises(SystemExit) as left:
            cli.main(["sweep", "tiny.yaml", "--no-check", "--json"])
        assert not left.value.code
    return folder


def isolate(patch, folder):
    patch.chdir(folder)
    patch.setenv("EXPFLOW_CACHE", str(folder / "cache"))
    patch.setattr(sys, "path", list(sys.path))
    patch.setattr("expflow.tracking.follower_process.start_follower", lambda folder, uri, **named: Nobody())
    patch.setattr("expflow.sweep.driver.run_sweep", without_ray)  # seconds for each call
    patch.setattr("expflow.cli.views.run.import_ray_meanwhile", lambda plan: None)
    patch.setattr("expflow.tracking.follower.catch_up", lambda folder, uri: True)
    failed = ClusterJob(JOB, "FAILED", experiment="tiny", started=1.0)
    patch.setattr(RayLauncher, "submit", lambda launcher, requests: [submission(launcher.place) for _ in requests])
    patch.setattr(RayLauncher, "differences_at_once", lambda launcher, locked: {})
    patch.setattr(RayLauncher, "stop", lambda launcher, job: ClusterJob(job, "RUNNING"))
    patch.setattr(RayLauncher, "jobs", lambda launcher: [failed])
    patch.setattr(RayLauncher, "logs", lambda launcher, job: "trial 1\n")
    patch.setattr(RayLauncher, "follow", follow)


def submission(address):
    return Submission(JOB, address, True, 3)


def follow(launcher, job, on_text):
    on_text("trial 1\n")
    return ClusterJob(job, "SUCCEEDED", driver_exit_code=0)


@pytest.fixture
def call(project, monkeypatch, capsys):
    """Type a command; returns its exit code and the objects that it printed, each checked by its schema."""
    isolate(monkeypatch, project)

    def run(*words):
        with pytest.raises(SystemExit) as left:
            cli.main([str(word) for word in words])
        printed = capsys.readouterr()
        code = int(left.value.code or 0)
        answers = objects(printed.out or printed.err)
        return code, [valid(answer) for answer in answers]

    return run


def objects(text):
    """One object, or one a line."""
    try:
        return [json.loads(text)]
    except ValueError:
        return [json.loads(line) for line in text.splitlines()]


def valid(answer):
    jsonschema.Draft202012Validator(document_schema(answer.get("document", "event"))).validate(answer)
    return answer


def trial_of(project):
    return next(path.name[-12:] for path in sorted((project / "runs" / "tiny" / "trials").iterdir()))


CALLS = {
    "init": (["init", "--out", "first.yaml"], ["init"]),
    "plan": (["plan", "tiny.yaml", "--no-time", "--no-check"], ["plan"]),
    "train": (["train", "tiny/TRIAL", "--check"], ["check"]),
    "sweep": (["sweep", "tiny.yaml"], ["started", "ended"]),
    "submit": (["submit", "tiny.yaml", "--address", ADDRESS, "--wait"], ["submitted", "output", "job"]),
    "stop": (["stop", JOB, "--address", ADDRESS], ["job"]),
    "status": (["status", "--address", ADDRESS], ["jobs"]),
    "logs": (["logs", "tiny/TRIAL"], ["log", "proposed", "ended"]),
    "report": (["report", "tiny"], ["report"]),
    "show": (["show", "tiny/best", "--code", "--out", "then"], ["code"]),
    "test": (["test", "tiny"], ["report"]),
    "data build": (["data", "build", "tiny.yaml"], ["data"]),
    "data verify": (["data", "verify", "tiny.yaml"], ["data"]),
    "data stats": (["data", "stats", "digits"], ["data"]),
    "data show": (["data", "show", "digits", "--samples", "2"], ["data"]),
    "models": (["models"], ["models"]),
    "models show": (["models", "show", "lenet5"], ["model"]),
    "models compare": (["models", "alexnet", "lenet5"], ["compared_models"]),
    "doctor": (["doctor", "--quick"], ["doctor"]),
}
"""Command -> what is typed, and the documents and events that it must print in this order, first and last ones."""


def commands_with_json(command, path=()):
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands_with_json(inner, (*path, name))
    if any("--json" in parameter.opts for parameter in command.params):
        yield " ".join(path)


def test_no_command_is_left_out():
    assert set(commands_with_json(typer.main.get_command(cli.app))) == {*CALLS, "schema"}


@pytest.mark.parametrize("command", CALLS)
def test_its_answer_is_as_its_schema_says(project, call, command):
    words, wanted = CALLS[command]
    code, answers = call(*(word.replace("TRIAL", trial_of(project)) for word in words), "--json")
    assert code in (0, 3) if command == "doctor" else code == 0
    kinds = [kind for kind, _ in groupby(answer.get("document", answer.get("event")) for answer in answers)]
    if command == "logs":
        kinds = [kinds[0], kinds[1], next(kind for kind in reversed(kinds) if kind != "output")]
    assert kinds == wanted


@pytest.mark.parametrize("command", [*CALLS, "schema"])
def test_an_error_is_one_object_of_its_schema(call, command):
    code, (error,) = call(*command.split(), "--no-such-option", "--json")
    assert (code, error["document"], error["error"]) == (2, "error", "UsageError")


def test_what_was_begun_twice_is_one_thing(call):
    _, (again,) = call("submit", "tiny.yaml", "--address", ADDRESS, "--json")
    assert (again["already_running"], again["next"][0]["arguments"][:2]) == (True, ["expflow", "logs"])
    _, (started, ended) = call("sweep", "tiny.yaml", "--json")
    assert (started["trials"], ended["ran"], ended["done"]) == (2, 0, 2)


def test_the_same_training_again_is_equal_bit_for_bit(project, call):
    code, (answer,) = call("train", f"tiny/{trial_of(project)}", "--check", "--json")
    comparison = answer["comparison"]
    assert (code, comparison["equal"], comparison["weights_equal"], comparison["first_step"]) == (0, True, True, None)
    assert (comparison["steps"], comparison["began"], comparison["surroundings"]) == (2, 0, {})
    code, (answer,) = call("train", f"tiny/{trial_of(project)}", "--check", "--from", "2", "--json")
    comparison = answer["comparison"]
    assert (code, comparison["equal"], comparison["steps"], comparison["began"]) == (0, True, 1, 2)


def test_what_differs_is_said_with_its_step_and_its_size(project, call):
    words = ("train", f"tiny/{trial_of(project)}", "--check", "--set", "resources.cpus_per_rank=2")
    code, (answer,) = call(*words, "--json")
    comparison = answer["comparison"]
    assert (code, comparison["equal"], comparison["weights_equal"]) == (1, False, False)
    assert comparison["surroundings"] == {"threads": ["1", "2"]}
    assert comparison["first_step"] == 2
    loss = next(row for row in comparison["metrics"] if row["metric"] == "val/loss")
    assert loss["largest"] >= abs(loss["recorded"] - loss["again"]) > 0
    assert (comparison["weights"]["of"], 0 < comparison["weights"]["relative"] < 0.5) == (4, True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("tiny", "--check"), "which of its trials"),
        (("tiny/TRIAL", "--check", "--from", "4"), "ended at step 4"),
        (("tiny/TRIAL", "--check", "--from", "3"), "keeps no checkpoint of this step; it has 2, 4"),
        (("tiny/TRIAL", "--check", "--set", "optimizer.lr=1"), "changes its resources alone"),
        (("tiny.yaml", "--from", "2"), "needs --check"),
        (("tiny/TRIAL", "--check", "--fresh"), "do not go together"),
    ],
)
def test_what_cannot_be_checked_is_an_error(project, call, words, message):
    code, (error,) = call("train", *(word.replace("TRIAL", trial_of(project)) for word in words), "--json")
    assert code == 2
    assert message in error["message"]


def test_code_is_kept_and_its_difference_is_shown(project, call, capsys, monkeypatch):
    code, (answer,) = call("show", f"tiny/{trial_of(project)}", "--code", "--json")
    (module,) = answer["modules"]
    assert (code, module["path"], module["source"]) == (0, "tiny_net.py", NET)
    with monkeypatch.context() as edited:
        changed = NET.replace("nn.ReLU()", "nn.Sigmoid()")
        (project / "tiny_net.py").write_text(changed)
        edited.delitem(sys.modules, "tiny_net", raising=False)
        try:
            assert call("sweep", "tiny.yaml", "--json")[1][0]["error"] == "CodeChanged"
            words = ("sweep", "tiny.yaml", "--no-check", "--changed-code", "new", "--json")
            first, *_, last = call(*words)[1]
            assert (first["name"].startswith("tiny+code="), last["done"]) == (True, 2)
            assert call(*words)[1][-1]["ran"] == 0  # the same code again finds its results
            _, (comparison,) = call("show", "tiny/best", f"{first['name']}/best", "--json")
        finally:
            (project / "tiny_net.py").write_text(NET)
            sys.modules.pop("tiny_net", None)
    unchanged, difference = comparison["sources"]["tiny_net.py"]
    assert unchanged == ""
    assert "-        super().__init__(nn.Flatten(), nn.Linear(64, hidden), nn.ReLU()" in difference
    assert "+        super().__init__(nn.Flatten(), nn.Linear(64, hidden), nn.Sigmoid()" in difference
    (module,) = call("show", f"{first['name']}/best", "--code", "--json")[1][0]["modules"]
    assert module["source"] == changed


def test_kept_code_is_written_beside_nothing_else(project, call):
    out = project / "written"
    code, (answer,) = call("show", "tiny/best", "--code", "--out", out, "--json")
    assert (code, answer["modules"][0]["file"]) == (0, str(out / "tiny_net.py"))
    assert (out / "tiny_net.py").read_text() == NET
    (out / "tiny_net.py").write_text("# mine\n")
    code, (error,) = call("show", "tiny/best", "--code", "--out", out, "--json")
    assert (code, (out / "tiny_net.py").read_text()) == (2, "# mine\n")
    assert "is there, and differs" in error["message"]


def test_a_try_of_other_code_is_another_try(project, call):
    words = ("sweep", "wide.yaml", "--against", "tiny/best", "--campaign", "c", "--no-check", "--json")
    first = call(*words)[1][-1]
    assert call(*words)[1][-1]["tries"] == first["tries"]
    (project / "tiny_net.py").write_text(NET.replace("nn.ReLU()", "nn.Sigmoid()"))
    sys.modules.pop("tiny_net", None)
    try:
        code, (error,) = call(*words)
        assert (code, error["error"]) == (2, "CodeChanged")
        last = call(*words, "--changed-code", "new")[1][-1]
    finally:
        (project / "tiny_net.py").write_text(NET)
        sys.modules.pop("tiny_net", None)
    assert [attempt["number"] for attempt in last["tries"]] == [1, 2]
    assert last["answered_from"] == []  # what other code gave counts for nothing


@pytest.mark.parametrize("option", ["--fresh", "--keep-results", "--salvage"])
def test_what_is_not_for_a_try_is_refused_by_name(call, option):
    code, (error,) = call("sweep", "wide.yaml", "--against", "tiny/best", "--campaign", "c", option, "--json")
    assert code == 2
    assert option in error["message"]
