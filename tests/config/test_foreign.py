import pytest

from expflow.config import user_modules
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
    ("text", "said"),
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
        ("{name: 'own_exit:Net'}", "SystemExit: 3"),
    ],
)
def test_what_is_wrong_with_it(tmp_path, text, said):
    (tmp_path / "own_net.py").write_text(NET)
    (tmp_path / "own_bad.py").write_text("raise RuntimeError('one\\nthe second line')\n")
    (tmp_path / "own_exit.py").write_text("raise SystemExit(3)\n")
    found = problems(tmp_path, own(text))
    assert any(said in each for each in found), "\n".join(found)


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
        " timm/<name>, torchvision/<name>, your own package.module:Name",
        "exp.yaml:2:1: loss: the task own_task:Task does not use this slot; remove it, or choose another task",
    ]


def test_two_folders_may_have_a_module_of_the_same_name(tmp_path):
    for name, argument in (("one", "a"), ("two", "b")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "own_same.py").write_text(f"def net({argument}=1): ...\n")
    for name, argument in (("one", "a"), ("two", "b"), ("one", "a")):
        loaded(tmp_path / name, own(f"{{name: 'own_same:net', {argument}: 2}}"))


def test_the_users_modules_are_hashed_and_no_others(tmp_path):
    files = {
        "own_pkg/__init__.py": "",
        "own_pkg/net.py": "import math\nfrom . import parts\nfrom .deep.inner import x\ndef net(): ...\n",
        "own_pkg/parts.py": "def later():\n    import own_late\n",
        "own_pkg/deep/__init__.py": "",
        "own_pkg/deep/inner.py": "from .. import parts\nx = 1\n",
        "own_pkg/unused.py": "",
        "own_late.py": "import expflow\n",
        "own_other.py": "def net(): ...\n",
        "own_not.py": "",
        ".venv/own_installed.py": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    text = own("'own_pkg.net:net'") + "sweep: {space: {model: ['own_pkg.net:net', {name: 'own_other:net'}]}}\n"
    before = user_modules(loaded(tmp_path, text))
    assert sorted(before) == [
        "own_late.py",
        "own_other.py",
        "own_pkg/__init__.py",
        "own_pkg/deep/__init__.py",
        "own_pkg/deep/inner.py",
        "own_pkg/net.py",
        "own_pkg/parts.py",
    ]
    assert all(len(value) == 64 for value in before.values())
    (tmp_path / "own_late.py").write_text("import expflow.errors\n")
    after = user_modules(loaded(tmp_path, text))
    assert [name for name in after if after[name] != before[name]] == ["own_late.py"]


def test_an_installed_component_is_not_the_users(tmp_path):
    assert user_modules(loaded(tmp_path, own("{name: 'collections:Counter'}"))) == {}
    assert user_modules(loaded(tmp_path, BASE)) == {}
