"""docs/models.md: its commands run, its models are built, its messages are those that plan gives."""

import re
import shlex
from pathlib import Path

import pytest

from expflow import cli
from expflow.architectures import count
from expflow.config import load
from tests.architectures.nets import data
from tests.architectures.test_refusals import NOTHING_LEFT

PAGE = (Path(__file__).parents[2] / "docs" / "models.md").read_text()
COMMANDS = re.findall(r"^(expflow models.*)$", PAGE, re.MULTILINE)
MODELS = [line.split("  #")[0] for line in re.findall(r"^model: (.*)$", PAGE, re.MULTILINE)]


@pytest.mark.parametrize("command", COMMANDS)
def test_its_commands_run(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as left:
        cli.main(shlex.split(command)[1:])
    assert left.value.code == 0
    assert capsys.readouterr().out
    assert len(list(tmp_path.glob("*.png"))) == command.count(".png")


@pytest.mark.parametrize("model", MODELS)
def test_its_models_are_built(model, tmp_path):
    file = tmp_path / "exp.yaml"
    file.write_text(f"data: digits\nmodel: {model}\ntask: classification\noptimizer: sgd\n")
    assert count(load(file).experiment.recipe.model, data()).macs


def test_it_has_something_to_test():
    assert (len(COMMANDS), len(MODELS)) == (6, 5)


def test_its_messages_are_those_that_are_given():
    assert "6 heads do not divide a width of 512; nearest: 4 and 8" in PAGE
    assert f"model alexnet cannot take images of 8x8 pixels: {NOTHING_LEFT}: 67x67" in PAGE
