"""A wrong name gives one error with what was meant; options and settings are read as they are typed."""

import pytest

from expflow.config import load
from expflow.config.nearest_component import nearest_user_component
from tests.config.files import BASE, loaded, problems, write

NET = """\
class MyNet:
    def __init__(self, in_channels, num_classes, width: int = 8): ...


class _Hidden: ...


def small_net(num_classes): ...
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "my_net.py").write_text(NET)
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets" / "__init__.py").write_text("")
    (tmp_path / "nets" / "wide.py").write_text("class Wide: ...\n")
    (tmp_path / "broken.py").write_text("class (:\n")
    return tmp_path


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("my_net.MyNet", "my_net:MyNet"),
        ("my_net.py:MyNet", "my_net:MyNet"),
        ("./my_net.py:MyNet", "my_net:MyNet"),
        ("my_nett:MyNet", "my_net:MyNet"),
        ("my-net:MyNet", "my_net:MyNet"),
        ("MyNet", "my_net:MyNet"),
        ("mynet", "my_net:MyNet"),
        ("nets/wide.py:Wide", "nets.wide:Wide"),
        ("nets.wide.Wide", "nets.wide:Wide"),
        ("my_net.small_nets", "my_net:small_net"),
    ],
)
def test_what_was_meant_is_said(folder, written, meant):
    (problem,) = problems(folder, BASE.replace("{name: resnet, depth: 20}", f"{{name: '{written}'}}"))
    assert problem.startswith("exp.yaml:2:15: model.name: ")
    assert problem.endswith(f"did you mean {meant}?")


def test_nothing_is_made_up(folder):
    assert nearest_user_component("transformer", folder) == ""
    assert nearest_user_component("_Hidden", folder) == ""
    (problem,) = problems(folder, BASE.replace("name: resnet", "name: resnett"))
    assert problem.endswith("nearest: resnet")


@pytest.mark.parametrize(
    ("text", "sweep", "place"),
    [
        (BASE.replace("name: resnet", "name: resnett"), "{space: {model.depth: [20, 32]}}", "model.name"),
        (BASE.replace("name: sgd", "name: sdg"), "{space: {optimizer.momentum: [0.0, 0.9]}}", "optimizer.name"),
        (BASE.replace("data: digits", "data: digitz"), "{space: {data.batch_size: [32, 64]}}", "data.name"),
        (BASE.replace("task: classification", "task: clasification"), "{space: {model.depth: [20]}}", "task.name"),
        (BASE.replace("classification", "clasification"), "{space: {schedule.warmup_epochs: [0, 2]}}", "task.name"),
        (BASE + "schedule: cosin\n", "{space: {schedule.warmup_epochs: [0, 2]}}", "schedule.name"),
        (BASE, "{space: {optimizer.lr: {uniform: [0.1, 1]}}, searcher: rando}", "sweep.searcher.name"),
        (BASE, "{space: {optimizer.lr: [0.1, 1]}, scheduler: ashaa}", "sweep.scheduler.name"),
        (BASE, "{space: {model: [{name: resnett, depth: 8}], model.width: [8]}}", "model.name"),
    ],
)
def test_a_wrong_name_is_one_error(tmp_path, text, sweep, place):
    (problem,) = problems(tmp_path, text + f"sweep: {sweep}\n", check=True)
    assert f": {place}: no " in problem


def test_an_own_module_that_does_not_import_is_one_error(tmp_path):
    (tmp_path / "bad.py").write_text("raise RuntimeError('no')\n")
    text = BASE.replace("{name: resnet, depth: 20}", "{name: 'bad:Net', width: 4}")
    (problem,) = problems(tmp_path, text + "sweep: {space: {model.width: [4, 8]}}\n", check=True)
    assert "cannot import bad" in problem


@pytest.mark.parametrize("setting", ["optimizer.lr = 3", " optimizer.lr=3", "optimizer.lr =3", "optimizer . lr = 3 "])
def test_blanks_around_a_setting_say_nothing(tmp_path, setting):
    experiment = load(write(tmp_path, BASE), [setting])
    assert experiment.experiment.recipe.optimizer.lr == 3
    assert experiment.name == "exp+optimizer.lr=3"


def test_blanks_in_a_key_that_is_unknown_do_not_hide_the_nearest(tmp_path):
    (problem,) = problems(tmp_path, BASE, ["optimizr.lr = 3"])
    assert problem.endswith("unknown key; nearest valid key: optimizer")


def test_blanks_inside_of_a_text_stay(tmp_path):
    assert loaded(tmp_path, BASE, ["about.question = Is it so?"]).experiment.about.question == "Is it so?"
