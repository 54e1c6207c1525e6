"""Both names of Lightning lead to the same classes, whichever was imported first, and faults of the two are named."""

import importlib.metadata
import subprocess
import sys

import pytest

from expflow import lightning_alias
from expflow.config import load
from expflow.errors import ExperimentInvalid

ONE = """
import sys
{first}
from expflow.lightning_alias import two_lightnings, unify_lightning
unify_lightning()
unify_lightning()
import lightning as L
import lightning.pytorch as pl
import pytorch_lightning
from lightning.fabric.plugins import ClusterEnvironment
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning_fabric.plugins import ClusterEnvironment as OurEnvironment
from pytorch_lightning.callbacks import ModelCheckpoint as OurCheckpoint
assert L.LightningModule is pytorch_lightning.LightningModule is pl.LightningModule
assert ModelCheckpoint is OurCheckpoint
assert ClusterEnvironment is OurEnvironment
assert L.__version__ == pytorch_lightning.__version__
assert two_lightnings() == ""
trainers = [module for name, module in sys.modules.items() if name.endswith("trainer.trainer") and "lightning" in name]
assert len(set(map(id, trainers))) == 1
print(L.Trainer.__module__)
"""


@pytest.mark.parametrize(
    ("first", "tree"),
    [("", "pytorch_lightning"), ("import pytorch_lightning", "pytorch_lightning"), ("import lightning", "lightning")],
)
def test_the_first_one_stands_for_both(first, tree):
    assert outcome(ONE.format(first=first)).partition(".")[0] == tree


def outcome(program):
    done = subprocess.run([sys.executable, "-W", "error::ImportWarning", "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_where_both_were_imported_before_it_is_said_what_to_do(monkeypatch):
    pairs = (("json", "csv"), ("lightning_fabric", "none_such"))
    monkeypatch.setattr(lightning_alias, "TREES", pairs)
    assert "json and csv were both imported in this process" in lightning_alias.two_lightnings()
    assert "begin a new process" in lightning_alias.two_lightnings()


FILE = """\
task: {name: "uses_it:Net"}
"""


@pytest.mark.parametrize("package", ["lightning", "no_such_package.deep"])
def test_a_package_that_is_missing_is_named_before_anything_starts(package, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package.partition(".")[0], None)  # what is not to be found
    with pytest.raises(ExperimentInvalid) as caught:
        load(written(tmp_path, f"import {package}"))
    [problem] = caught.value.problems
    assert (problem.key, problem.line) == ("task.name", 1)
    assert "cannot import uses_it" in problem.message
    assert f"the package {package.partition('.')[0]!r} is not installed" in problem.message


def test_two_versions_are_refused_with_the_command_that_makes_them_one(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "lightning"]:
        monkeypatch.delitem(sys.modules, name)
    installed = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "2.5.1" if name == "lightning" else installed(name))
    with pytest.raises(ExperimentInvalid) as caught:
        load(written(tmp_path, "import lightning.pytorch"))
    message = caught.value.problems[0].message
    assert "lightning 2.5.1 and pytorch-lightning" in message
    assert f"pip install lightning=={installed('pytorch-lightning')}" in message


def written(folder, line):
    (folder / "uses_it.py").write_text(f"{line}\n\n\nclass Net:\n    pass\n")
    (folder / "exp.yaml").write_text(FILE)
    return folder / "exp.yaml"
