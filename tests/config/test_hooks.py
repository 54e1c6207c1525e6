"""Short names for the user's own components, by decorator and by entry points of installed packages."""

import json
import sys
import textwrap

import pytest

import expflow
from expflow import registry
from expflow.config import config_id, load
from expflow.errors import ExperimentInvalid, UserError
from expflow.registry import MODELS, REGISTRIES

NETS = """
import torch

class Tiny(torch.nn.Sequential):
    def __init__(self, in_channels, image_size, num_classes, hidden=8):
        super().__init__(torch.nn.Flatten(), torch.nn.Linear(in_channels * image_size[0] * image_size[1], hidden),
                         torch.nn.ReLU(), torch.nn.Linear(hidden, num_classes))
"""

SEARCH = """
class Halving:
    '''Halves a rate, from the highest end of the space.'''

    def __init__(self, space, mode, trials=3):
        self.key, self.value, self.left, self.mode = space[0].key, space[0].high, trials, mode
        self.told = []

    def suggest(self, recorded=None):
        if not self.left:
            return None
        self.left, self.value = self.left - 1, self.value / 2
        return {self.key: self.value}

    def complete(self, values, learned):
        self.told.append((values, learned.score))
"""


@pytest.fixture
def hooks(monkeypatch, tmp_path):
    """Registries as they are, hooks on, and a folder whose modules can be imported."""
    monkeypatch.setenv("EXPFLOW_HOOKS", "on")
    for registry_ in REGISTRIES.values():
        monkeypatch.setattr(registry_, "_short_names", {})
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    registry._all_entry_points.cache_clear()
    yield tmp_path
    registry._all_entry_points.cache_clear()
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in sys.modules[name].__file__:
            del sys.modules[name]


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))
    return path


def install(folder, package, entry_points):
    """A package as an installer leaves it: its metadata beside its module."""
    info = folder / f"{package}-1.0.dist-info"
    write(info / "METADATA", f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    write(info / "entry_points.txt", entry_points)
    registry._all_entry_points.cache_clear()


def experiment(folder, model, **more):
    content = {"data": "digits", "model": model, "task": "classification", "optimizer": "sgd", **more}
    return write(folder / "try.yaml", json.dumps(content))


def test_an_installed_package_names_its_network_and_the_recipe_holds_the_path(hooks):
    write(hooks / "my_nets.py", NETS)
    install(hooks, "my_package", "[expflow.model]\ntiny = my_nets:Tiny\n")
    short = load(experiment(hooks, {"name": "tiny", "hidden": 4})).experiment.recipe
    long = load(experiment(hooks, {"name": "my_nets:Tiny", "hidden": 4})).experiment.recipe
    assert short.model.name == "my_nets:Tiny"
    assert config_id(short) == config_id(long)


def test_arguments_of_a_named_network_are_checked_where_they_stand(hooks):
    write(hooks / "my_nets.py", NETS)
    install(hooks, "my_package", "[expflow.model]\ntiny = my_nets:Tiny\n")
    with pytest.raises(ExperimentInvalid, match=r"try\.yaml:1:\d+: model\.hiden: .*nearest: hidden"):
        load(experiment(hooks, {"name": "tiny", "hiden": 4}))


def test_a_misspelt_hooked_name_is_told_the_nearest(hooks):
    install(hooks, "my_package", "[expflow.model]\ntiny = my_nets:Tiny\n")
    with pytest.raises(ExperimentInvalid, match="no model is named 'tinny'; nearest: tiny"):
        load(experiment(hooks, "tinny"))


@pytest.mark.parametrize("name", ["resnet", "tiny"], ids=["one of ours", "another package's"])
def test_two_components_of_one_name_are_refused(hooks, name):
    install(hooks, "one", f"[expflow.model]\n{name} = one:A\n")
    install(hooks, "two", f"[expflow.model]\n{name} = two:B\n")
    with pytest.raises(UserError, match=f"the model '{name}' is registered twice.*EXPFLOW_HOOKS=off"):
        load(experiment(hooks, "something_else"))


def test_hooks_of_packages_can_be_turned_off(hooks, monkeypatch):
    install(hooks, "one", "[expflow.model]\nresnet = one:A\n")
    monkeypatch.setenv("EXPFLOW_HOOKS", "off")
    with pytest.raises(ExperimentInvalid, match="no model is named 'something_else'"):
        load(experiment(hooks, "something_else"))


def test_a_decorator_names_a_component_of_a_module(hooks):
    write(
        hooks / "my_nets.py",
        "import expflow\n" + NETS.replace("class Tiny", '@expflow.register("model", "tiny")\nclass Tiny'),
    )
    __import__("my_nets")
    assert load(experiment(hooks, "tiny")).experiment.recipe.model.name == "my_nets:Tiny"


def test_a_decorated_name_is_taken_only_once(hooks):
    give = expflow.register("model", "tiny")
    give(textwrap.TextWrapper)
    give(textwrap.TextWrapper)  # a module that is imported anew
    with pytest.raises(UserError, match="the model 'tiny' is registered twice: textwrap:TextWrapper and json"):
        give(json.JSONDecoder)
    with pytest.raises(UserError, match="the model 'resnet' is registered twice"):
        expflow.register("model", "resnet")(json.JSONDecoder)
    assert MODELS.path_of_short_name("resnet") is None


def test_what_other_processes_cannot_import_is_refused():
    class Inside:
        pass

    with pytest.raises(UserError, match="move it into a file of its own"):
        expflow.register("model", "inside")(Inside)
    with pytest.raises(UserError, match="no kind of component is called 'modle'; nearest: model"):
        expflow.register("modle", "x")


@pytest.mark.parametrize("name", ["my_search:Halving", "halving"])
def test_a_searcher_of_the_users_proposes(hooks, name):
    from expflow.sweep.plan import make_plan
    from expflow.sweep.trial_expansion import proposed_configs

    write(hooks / "my_search.py", SEARCH)
    install(hooks, "my_package", "[expflow.searcher]\nhalving = my_search:Halving\n")
    sweep = {"space": {"optimizer.lr": {"uniform": [0.01, 0.8]}}, "searcher": {"name": name, "trials": 2}}
    plan = make_plan(experiment(hooks, "linear", sweep=sweep), storage=hooks / "runs")
    assert [values["optimizer.lr"] for values in proposed_configs(plan)] == [0.4, 0.2]
    with pytest.raises(ExperimentInvalid, match=r"sweep\.searcher\.trails: .*nearest: trials"):
        make_plan(experiment(hooks, "linear", sweep={**sweep, "searcher": {"name": name, "trails": 2}}))
