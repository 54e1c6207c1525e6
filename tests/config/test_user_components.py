import pytest

from expflow.registry import MODELS
from tests.config.files import BASE, loaded, problems

NET = """\
class Net:
    def __init__(self, in_channels, num_classes, hidden, depth=2): ...
NUMBER = 3
"""


def own(text):
    return BASE.replace("{name: resnet, depth: 20}", text)


def test_the_users_own_component(tmp_path):
    (tmp_path / "own_net.py").write_text(NET)
    recipe = loaded(tmp_path, own("{name: 'own_net:Net', hidden: 8}")).experiment
    assert (recipe.model.name, recipe.model.arguments) == ("own_net:Net", {"hidden": 8})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "{name: 'own_net:Net', hiden: 8}",
            "exp.yaml:2:30: model.hiden: own_net:Net takes no argument of this name; nearest: hidden",
        ),
        ("{name: 'own_net:Net', depth: 8}", "exp.yaml:2:8: model.hidden: missing; own_net:Net needs this argument"),
        ("{name: 'own_nut:Net'}", "exp.yaml:2:15: model.name: cannot import own_nut (its folder is "),
        ("{name: 'own_net:Nut'}", "exp.yaml:2:15: model.name: own_net (own_net.py) has no Nut; nearest: own_net:Net"),
        (
            "{name: 'own_net:NUMBER'}",
            "exp.yaml:2:15: model.name: own_net:NUMBER is a int; expected a class or a function",
        ),
        ("{name: 'own net:X'}", "exp.yaml:2:15: model.name: expected package.module:Name, found 'own net:X'"),
        ("{name: 'own_bad:Net'}", "RuntimeError: the second line"),
        ("{name: 'own_exit:Net'}", "own_exit exits when it is imported (3): put what only a script does under"),
    ],
)
def test_what_is_wrong_with_it(tmp_path, text, expected):
    (tmp_path / "own_net.py").write_text(NET)
    (tmp_path / "own_bad.py").write_text("raise RuntimeError('one\\nthe second line')\n")
    (tmp_path / "own_exit.py").write_text("raise SystemExit(3)\n")
    messages = problems(tmp_path, own(text))
    assert any(expected in message for message in messages), "\n".join(messages)


def test_a_searched_argument_that_it_does_not_take(tmp_path):
    (tmp_path / "own_net.py").write_text(NET)
    text = own("{name: 'own_net:Net', hidden: 8}") + "sweep: {space: {model.hiden: [1, 2]}}\n"
    assert problems(tmp_path, text) == [
        "exp.yaml:5:17: sweep.space.model.hiden: unknown key; nearest valid key: model.hidden"
    ]
    (tmp_path / "own_any.py").write_text("def net(**arguments): ...\n")
    text = own("{name: 'own_any:net'}") + "sweep: {space: {model.hiden: [1, 2]}}\n"
    assert len(loaded(tmp_path, text).grid()) == 2


def test_a_task_of_the_users_takes_the_slots_that_it_names(tmp_path):
    (tmp_path / "own_task.py").write_text(
        "class Task:\n    def __init__(self, model, optimizer=None, num_classes=1, lr=1): ...\nclass Plain: ...\n"
    )
    assert loaded(tmp_path, "data: digits\nmodel: mlp\ntask: {name: 'own_task:Task', lr: 2}\n").experiment.loss is None
    assert loaded(tmp_path, "data: digits\ntask: 'own_task:Plain'\n").experiment.model is None
    assert problems(tmp_path, "task: 'own_task:Task'\nloss: cross_entropy\n") == [
        f"exp.yaml:1:7: model: missing; the task own_task:Task needs it: one of {', '.join(MODELS.names())},"
        " smp/<name>, timm/<name>, torchvision/<name>, your own package.module:Name",
        "exp.yaml:2:1: loss: the task own_task:Task does not use this slot; remove it, or choose another task",
    ]


OWN_LOADERS = """\
import pytorch_lightning as pl
class Net(pl.LightningModule):
    def __init__(self, width: int = 8): ...
    def train_dataloader(self): ...
class Derived(Net): ...
class Without(pl.LightningModule): ...
class Letters(pl.LightningDataModule): ...
def made(width: int = 8): ...
"""


@pytest.mark.parametrize("name", ["Net", "Derived", "made"])
def test_a_module_that_brings_its_loaders_needs_no_data(name, tmp_path):
    (tmp_path / "own_loaders.py").write_text(OWN_LOADERS)
    assert loaded(tmp_path, f"task: 'own_loaders:{name}'\n").experiment.data is None


def test_a_module_without_loaders_needs_data(tmp_path):
    (tmp_path / "no_loaders.py").write_text(OWN_LOADERS)
    assert problems(tmp_path, "task: 'no_loaders:Without'\n") == [
        "exp.yaml:1:7: data: missing; the task no_loaders:Without has no train_dataloader of its own; say where its"
        ' samples come from: "no_loaders:Letters"'
    ]
    (tmp_path / "no_loaders_either.py").write_text(OWN_LOADERS.replace("class Letters", "class _Letters"))
    (message,) = problems(tmp_path, "task: 'no_loaders_either:Without'\n")
    assert message.endswith('"package.module:YourDataModule"')


def test_two_folders_may_have_a_module_of_the_same_name(tmp_path):
    for name, argument in (("one", "a"), ("two", "b")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "own_same.py").write_text(f"def net({argument}=1): ...\n")
    for name, argument in (("one", "a"), ("two", "b"), ("one", "a")):
        loaded(tmp_path / name, own(f"{{name: 'own_same:net', {argument}: 2}}"))
