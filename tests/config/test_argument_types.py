"""Arguments of the user's components against the annotations of their constructors; modules that do what scripts do."""

import os
import sys
from typing import Any

import pytest

from expflow.config.argument_types import plain_annotation
from tests.config.files import BASE, loaded, problems

FUTURE = "from __future__ import annotations\n"

NET = """\
from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Optional, Union

if TYPE_CHECKING:
    from torch import nn


class Net:
    def __init__(
        self,
        num_classes: int,
        width: int = 8,
        rate: float = 0.1,
        deep: bool = False,
        sizes: Sequence[int] = (1, 2),
        pair: tuple[int, int] = (3, 3),
        norm: Literal["batch", "group"] = "batch",
        either: Union[int, list[float]] = 1,
        table: dict[str, float] | None = None,
        old: Optional[int] = None,
        folder: Path = Path(),
        layer: nn.Module | None = None,
        call: Callable[[int], int] | None = None,
        free=None,
        anything: Any = None,
        schema: int = 1,
        model_dump: int = 1,
    ) -> None: ...


def build(num_classes, width: "int" = 8): ...


class Child(Net):
    pass
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "my_net.py").write_text(NET)
    return tmp_path


def model(arguments, name="Net"):
    return BASE.replace("{name: resnet, depth: 20}", f"{{name: 'my_net:{name}', {arguments}}}")


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("width: big", "model.width: expected a whole number, found 'big'"),
        ("width: 2.5", "model.width: expected a whole number, found 2.5"),
        ("width: true", "model.width: expected a whole number, found true"),
        ("rate: high", "model.rate: expected a number, found 'high'"),
        ("deep: 1", "model.deep: expected true or false, found 1"),
        ("sizes: 3", "model.sizes: expected a list, found 3"),
        ("sizes: [1, two]", "model.sizes.1: expected a whole number, found 'two'"),
        ("pair: [1, 2, 3]", "model.pair: expected at most 2 items"),
        ("norm: bach", "model.norm: expected batch or group, found 'bach'; nearest: batch"),
        ("either: text", "model.either: expected a whole number or a list, found 'text'"),
        ("table: {a: b}", "model.table.a: expected a number, found 'b'"),
        ("old: x", "model.old: expected a whole number, found 'x'"),
        ("schema: x", "model.schema: expected a whole number, found 'x'"),
        ("model_dump: x", "model.model_dump: expected a whole number, found 'x'"),
    ],
)
def test_a_value_that_does_not_fit_is_refused(folder, argument, expected):
    (problem,) = problems(folder, model(argument))
    assert expected in problem
    assert problem.startswith("exp.yaml:2:")


@pytest.mark.parametrize(
    "argument",
    [
        "width: 16",
        "rate: 1",
        "sizes: []",
        "pair: [1, 2]",
        "either: [1, 2.5]",
        "table: {a: 1, b: 2.5}",
        "old: 3",
        "folder: here",
        "layer: relu",
        "call: relu",
        "free: [1, {a: b}]",
        "anything: {a: [1]}",
    ],
)
def test_a_value_that_fits_or_that_no_annotation_speaks_of_is_taken(folder, argument):
    assert loaded(folder, model(argument)).experiment.recipe.model.name == "my_net:Net"


@pytest.mark.parametrize("name", ["build", "Child"])
def test_functions_and_inherited_constructors_are_looked_at(folder, name):
    (problem,) = problems(folder, model("width: big", name))
    assert "model.width: expected a whole number, found 'big'" in problem


def test_searched_values_are_checked_each_where_it_stands(folder):
    text = model("width: 4") + "sweep: {space: {model.width: [4, 8.5, wide]}}\n"
    refused = problems(folder, text, check=True)
    assert [problem.split(": ", 1)[1] for problem in refused] == [
        "model.width: expected a whole number, found 8.5",
        "model.width: expected a whole number, found 'wide'",
    ]


def test_an_annotation_that_is_no_type_is_passed_over():
    for strange in (3, "unknown", [int], object(), lambda: 1):
        assert plain_annotation(strange) is Any


SCRIPTS = {
    "parses arguments": "import argparse\nargparse.ArgumentParser().parse_args()\n",
    "parses known ones": "import argparse\nARGS, REST = argparse.ArgumentParser().parse_known_args()\n",
    "exits": "import sys\nsys.exit(0)\n",
    "exits with a text": "raise SystemExit('usage: my_net.py FILE')\n",
    "exits at once": "import os\nos._exit(3)\n",
}
WORDS = {
    "parses arguments": "my_net parses command-line arguments when it is imported",
    "parses known ones": "my_net parses command-line arguments when it is imported",
    "exits": "my_net exits when it is imported (0)",
    "exits with a text": "my_net exits when it is imported (usage: my_net.py FILE)",
    "exits at once": "my_net exits when it is imported (3)",
}


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("space", ["", "sweep: {space: {model.width: [4, 8]}}\n"])
def test_a_module_that_does_what_a_script_does_is_named_once(tmp_path, monkeypatch, capsys, script, space):
    monkeypatch.setattr(sys, "argv", ["expflow", "plan", "exp.yaml"])
    (tmp_path / "my_net.py").write_text(FUTURE + SCRIPTS[script] + NET.removeprefix(FUTURE))
    (problem,) = problems(tmp_path, model("width: 4") + space, check=bool(space))
    assert WORDS[script] in problem
    assert 'if __name__ == "__main__":' in problem
    assert capsys.readouterr() == ("", "")


def test_arguments_that_a_module_makes_itself_are_its_own(tmp_path):
    text = "import argparse\nargparse.ArgumentParser().parse_args([])\n"
    (tmp_path / "my_net.py").write_text(FUTURE + text + NET.removeprefix(FUTURE))
    assert loaded(tmp_path, model("width: 4")).experiment.recipe.model.width == 4


def test_a_process_that_a_module_forks_may_end(tmp_path):
    text = "import os\nchild = os.fork()\nif not child:\n    os._exit(0)\nSTATUS = os.waitpid(child, 0)[1]\n"
    (tmp_path / "my_net.py").write_text(FUTURE + text + NET.removeprefix(FUTURE))
    assert loaded(tmp_path, model("width: 4")).experiment.recipe.model.width == 4
    assert sys.modules["my_net"].STATUS == 0
    assert os._exit.__module__ == "posix"
