"""A folder of results is data: it is read whatever it names, and runs only what the experiment here names, too."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace

import pytest

from expflow import cli
from expflow.errors import CodeChanged, CodeRefused, UserError
from expflow.events import TrialEnded, TrialProposed, TrialReported, TrialStarted
from expflow.ledger import Ledger, load_state
from expflow.ledger.header import Header
from expflow.sweep.finished_trial import recorded_recipe
from expflow.sweep.recorded_code import admitted, experiment_file_here
from expflow.sweep.result_location import find_results

MODULE = "kept_net"
CODE = """
from pathlib import Path
Path(__file__).with_name("ran").touch()
from torch import nn
class Net(nn.Linear):
    def __init__(self, width: int = 3, api_key: str = "", num_classes: int = 2):
        super().__init__(width, num_classes)
"""
RECIPE = {
    "data": {"name": "digits"},
    "model": {"name": f"{MODULE}:Net", "width": 4},
    "task": {"name": "classification"},
    "loss": {"name": "cross_entropy"},
    "optimizer": {"name": "sgd", "lr": 0.1},
}
FILE = f"""\
data: digits
model: {{name: "{MODULE}:Net", width: 4}}
task: classification
loss: cross_entropy
optimizer: {{name: sgd, lr: 0.1}}
"""


@pytest.fixture(autouse=True)
def own_imports(monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    sys.modules.pop(MODULE, None)


def results(storage, file, *, recipe=RECIPE, code=None, name="mine"):
    """A ledger with one finished trial of a recipe that names code."""
    header = Header(name, "", str(file), recipe=recipe, code=code or {})
    with Ledger.open(storage / name, header) as ledger:
        ledger.append(TrialProposed("3fa9c2d1e0b4", "0" * 12, 0, {}, recipe, {"trainer.epochs": 1}))
        ledger.append(TrialStarted("3fa9c2d1e0b4", 1, "gang"))
        ledger.append(TrialReported("3fa9c2d1e0b4", 1, 3, {"val/top1": 0.5}, 1.0))
        ledger.append(TrialEnded("3fa9c2d1e0b4", 1, "done", 3, 1.0))
    return storage / name


@pytest.fixture
def project(tmp_path, monkeypatch):
    """The user's project, in which the command is given; beside it a stranger's archive."""
    folder = tmp_path / "project"
    folder.mkdir()
    (tmp_path / "strangers").mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("EXPFLOW_CACHE", str(tmp_path / "cache"))
    return folder


def run(*words):
    with pytest.raises(SystemExit) as left:
        cli.main([str(word) for word in words])
    return left.value.code


@pytest.mark.parametrize(
    "words", [("show", "mine/best", "--filters"), ("test", "mine"), ("show", "mine", "--ensemble")]
)
@pytest.mark.parametrize("where", ["beside", "inside", "project"])
def test_code_that_only_the_results_name_is_not_imported(project, tmp_path, capsys, words, where):
    """Wherever the module lies: beside a stranger's experiment, in the results, or in the user's own project."""
    strangers = tmp_path / "strangers"
    place = {"beside": strangers, "inside": strangers / "runs" / "mine", "project": project}[where]
    results(strangers / "runs", strangers / "mine.yaml")
    (strangers / "mine.yaml").write_text(FILE)
    (place / f"{MODULE}.py").write_text(CODE)
    code = run(*words, "--storage", strangers / "runs")
    printed = capsys.readouterr().err
    assert (code, printed.count("Traceback")) == (3, 0)
    assert f"{MODULE}:Net was not loaded" in printed
    assert "no mine.yaml in the project around" in printed
    assert not (place / "ran").exists()
    assert str(strangers) not in sys.path


def test_an_archive_that_was_unpacked_in_the_project_is_a_strangers_still(project, capsys):
    archive = project / "downloads" / "archive"
    archive.mkdir(parents=True)
    (archive / "mine.yaml").write_text(FILE)
    (archive / f"{MODULE}.py").write_text(CODE)
    results(archive / "runs", archive / "mine.yaml")
    assert run("test", "mine", "--storage", archive / "runs") == 3
    assert "was not loaded" in capsys.readouterr().err
    assert not (archive / "ran").exists()


def test_results_are_read_for_all_that(project, tmp_path, capsys):
    """Reading is refused for no owner, mode or link: shared results are usual."""
    results(tmp_path / "strangers" / "runs", tmp_path / "strangers" / "mine.yaml")
    (project / "runs").symlink_to(tmp_path / "strangers" / "runs")
    (tmp_path / "strangers" / "runs").chmod(0o777)
    for words in (("status", "mine"), ("show", "mine/best"), ("report", "mine")):
        with pytest.raises(SystemExit, match="0"):
            cli.main(list(words))
    assert f"{MODULE}:Net" in capsys.readouterr().out


def own(project, *, changed=False, code=None):
    """The user's own experiment and module, and results that they made."""
    from expflow.config import load
    from expflow.sweep.code_hashes import user_modules

    (project / "mine.yaml").write_text(FILE)
    (project / f"{MODULE}.py").write_text(CODE)
    hashes = user_modules(load(project / "mine.yaml")) if code is None else code
    results(project / "runs", project / "mine.yaml", code=hashes)
    if changed:
        (project / f"{MODULE}.py").write_text(CODE + "\n# changed\n")
    return find_results("mine")


def test_code_that_the_experiment_here_names_is_imported(project):
    tree, folder = admitted(own(project), RECIPE)
    assert (tree, folder) == (RECIPE, project)


def test_code_that_changed_since_is_not_used(project):
    with pytest.raises(CodeChanged, match=rf"{MODULE}:Net was not used, because {MODULE}\.py is not what"):
        admitted(own(project, changed=True), RECIPE)


def test_code_whose_hash_was_never_recorded_is_not_used(project):
    with pytest.raises(CodeChanged, match="is not what the results"):
        admitted(own(project, code={"other.py": "0" * 64}), RECIPE)


@pytest.mark.parametrize(
    "recipe",
    [
        RECIPE | {"loss": {"name": "os:system", "command": "touch ran"}},
        RECIPE | {"trainer": {"checkpoint": {"allow": [f"{MODULE}:Net", "subprocess:Popen"]}}},
        {"data": {"a": {"name": "digits"}, "b": {"name": "runpy:run_path", "path_name": "x.py"}}},
        RECIPE | {"trainer": {"callbacks": [{"name": "os:system", "command": "touch ran"}]}},
        {"task": {"name": "runpy:run_path", "path_name": "x.py"}},
    ],
    ids=["a component", "a class that checkpoints may hold", "one of several", "a callback", "a task that brings data"],
)
def test_whatever_else_a_record_names_is_refused(project, recipe):
    with pytest.raises(CodeRefused, match=r"(os:system|subprocess:Popen|runpy:run_path) was not loaded.*nothing in"):
        admitted(own(project), recipe)


def test_the_file_that_was_given_counts_wherever_it_lies(project, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(own(project).folder.parent.parent, elsewhere)
    (project / "mine.yaml").unlink()
    location = find_results(str(elsewhere / "mine.yaml"), elsewhere / "runs")
    assert experiment_file_here(location) == elsewhere / "mine.yaml"
    assert admitted(location, RECIPE) == (RECIPE, elsewhere)


def test_a_recorded_recipe_gets_its_secrets_back_from_the_file(project):
    secret = RECIPE | {"model": {**RECIPE["model"], "api_key": "s3cr3t-9"}}
    location = own(project)
    (project / "mine.yaml").write_text(FILE.replace("width: 4", "width: 4, api_key: s3cr3t-9"))
    results(project / "runs", project / "mine.yaml", recipe=secret, code=location.state.header.code, name="with")
    kept = find_results("with")
    assert kept.state.header.recipe["model"]["api_key"] == "REDACTED"
    assert admitted(kept, kept.state.header.recipe)[0]["model"]["api_key"] == "s3cr3t-9"


def test_a_secret_that_no_file_holds_is_named(project):
    address = {"name": "shards", "path": "https://h/x?sig=abc"}
    results(project / "runs", project / "mine.yaml", recipe=RECIPE | {"data": address, "model": {"name": "mlp"}})
    location = find_results("mine")
    with pytest.raises(UserError, match=r"data\.path held a secret, which is not recorded, and no mine\.yaml"):
        recorded_recipe(location, replace(location.state.trials["3fa9c2d1e0b4"]))
    assert "abc" not in str(load_state(project / "runs" / "mine").header)
