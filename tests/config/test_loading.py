import subprocess
import sys
from pathlib import Path

import pytest

from expflow.config import Site, load
from expflow.config.resources import Resources
from expflow.config.tree import plain
from expflow.errors import ExperimentInvalid, UserError
from expflow.tasks.specs import ScriptedSpec
from tests.config.files import BASE, loaded, write

ROOT = Path(__file__).parents[2]


def test_the_seeds_experiment():
    experiment = load(ROOT / "experiments/resnet_depth.yaml")
    assert experiment.name == "resnet_depth"
    recipe = experiment.experiment.recipe
    assert (recipe.model.depth, recipe.model.shortcut, recipe.optimizer.weight_decay) == (20, "pad", 1e-4)
    configs = experiment.grid()
    assert len(configs) == 8
    assert configs[0] == {"model.depth": 8, "model.shortcut": "none"}
    assert configs[1] == {"model.depth": 8, "model.shortcut": "pad"}
    assert experiment.experiment.sweep.seeds == (0, 1, 2)
    assert experiment.configure(configs[-1]).model.depth == 56
    assert len(experiment.experiment.report.contrasts) == 3


def test_slots_that_the_task_fills_by_itself(tmp_path):
    recipe = loaded(tmp_path, BASE).experiment
    assert (recipe.loss.name, recipe.schedule.name, recipe.trainer.epochs) == ("cross_entropy", "constant", 10)
    recipe = loaded(tmp_path, BASE + "loss: {label_smoothing: 0.1}\n").experiment
    assert (recipe.loss.name, recipe.loss.label_smoothing) == ("cross_entropy", 0.1)


def test_what_is_loaded_is_frozen(tmp_path):
    experiment = loaded(tmp_path, BASE).experiment
    with pytest.raises(ValueError, match="frozen"):
        experiment.model = None
    with pytest.raises(ValueError, match="frozen"):
        experiment.model.depth = 8


def test_extends_a_list_of_files_of_other_folders(tmp_path):
    (tmp_path / "recipes").mkdir()
    write(
        tmp_path / "recipes", "extends: deep.yaml\nname: other\nabout: {question: Old?}\nsweep: {seeds: 5}\n", "a.yaml"
    )
    write(tmp_path / "recipes", BASE, "deep.yaml")
    write(tmp_path / "recipes", "optimizer: adam\nschedule: cosine\n", "b.yaml")
    text = "extends: [recipes/a.yaml, recipes/b.yaml]\nmodel: {depth: 56}\nschedule: null\n"
    experiment = loaded(tmp_path, text)
    recipe = experiment.experiment
    assert (recipe.model.depth, recipe.optimizer.name, recipe.schedule.name) == (56, "adam", "constant")
    assert (experiment.name, recipe.about.question, recipe.sweep) == ("exp", "", None)
    assert experiment.text == text
    about_the_sweep = {"name", "about", "extends"}
    assert {key: value for key, value in plain(experiment.tree).items() if key not in about_the_sweep} == {
        "data": {"name": "digits"},
        "model": {"name": "resnet", "depth": 56},
        "task": {"name": "classification"},
        "optimizer": {"name": "adam"},
    }


@pytest.mark.parametrize(
    ("sets", "name"),
    [
        ([], "exp"),
        (["model.depth=56"], "exp+model.depth=56"),
        (["optimizer.lr=1e-1", "model.depth=56"], "exp+model.depth=56+optimizer.lr=0.1"),
        (["model.depth=8", "model.depth=56"], "exp+model.depth=56"),
        (["sweep.seeds=2", "about.time=now", "storage=/tmp/x", "resources.cpus_per_rank=2"], "exp"),
        (["data={name: folder, path: a/b c}"], "exp+data=folder%28path=a%2Fb%20c%29"),
        (["name=mine", "model.depth=8"], "mine+model.depth=8"),
    ],
)
def test_settings_and_the_name_they_make(tmp_path, sets, name):
    assert loaded(tmp_path, BASE, sets).name == name


@pytest.mark.parametrize("nothing", ["null", "~", ""])
def test_setting_nothing_deletes(tmp_path, nothing):
    text = BASE.replace("depth: 20", "depth: 20, width: 32")
    changed = loaded(tmp_path, text, [f"model.width={nothing}"])
    assert changed.experiment.recipe == loaded(tmp_path, BASE).experiment.recipe
    assert changed.name == "exp+model.width=null"


def test_a_setting_replaces_a_dimension_whole(tmp_path):
    text = BASE + "sweep: {space: {optimizer.lr: {uniform: [0, 1]}}, searcher: {name: random, trials: 3}}\n"
    experiment = loaded(tmp_path, text, ["sweep.space.optimizer.lr={loguniform: [1e-3, 1]}"])
    assert experiment.experiment.sweep.space[0].kind == "loguniform"


def test_several_components_under_names_of_the_users(tmp_path):
    from expflow.config import config_id

    text = """\
    model: {critic: {name: mlp, hidden: 8}, generator: mlp}
    task: "own_gan:Gan"
    sweep: {space: {model.critic.hidden: [8, 16]}}
    """
    (tmp_path / "own_gan.py").write_text("class Gan:\n    def __init__(self, model, lr=0.1): pass\n")
    experiment = loaded(tmp_path, text)
    assert experiment.experiment.model["critic"].hidden == 8
    assert experiment.experiment.model["generator"].name == "mlp"
    configs = [experiment.configure(values) for values in experiment.grid()]
    assert [config.model["critic"].hidden for config in configs] == [8, 16]
    assert len({config_id(config) for config in configs}) == 2


def test_searched_mappings_replace_or_merge_by_name(tmp_path):
    text = (
        BASE
        + """\
sweep:
  space:
    model: [{name: resnet, shortcut: none}, {name: mlp, hidden: 8}, linear]
    optimizer.name: [sgd, adam]
    optimizer.lr: [0.5]
    optimizer.momentum: {choice: [0.5, 0.9], when: {optimizer.name: sgd}}
"""
    )
    experiment = loaded(tmp_path, text)
    experiment.check()
    configs = experiment.grid()
    assert len(configs) == 3 * (2 + 1)
    first = experiment.configure(configs[0])
    assert (first.model.depth, first.model.shortcut, first.optimizer.momentum) == (20, "none", 0.5)
    assert configs[2] == {
        "model": {"name": "resnet", "shortcut": "none"},
        "optimizer.name": "adam",
        "optimizer.lr": 0.5,
    }
    assert experiment.configure(configs[-1]).model.name == "linear"


def test_values_that_make_the_same_config_are_one(tmp_path):
    text = BASE + "sweep: {space: {model.shortcut: [null, pad, none], optimizer.lr: [0.1, 1e-1]}}\n"
    assert loaded(tmp_path, text).grid() == [
        {"model.shortcut": None, "optimizer.lr": 0.1},
        {"model.shortcut": "none", "optimizer.lr": 0.1},
    ]


def test_a_drawn_value_that_is_wrong_is_said_at_its_dimension(tmp_path):
    text = BASE + "sweep:\n  searcher: {name: random, trials: 3}\n  space:\n    model.depth: {int: [8, 20]}\n"
    experiment = loaded(tmp_path, text)
    with pytest.raises(ExperimentInvalid, match=r"exp.yaml:8:18: model.depth: depth 9 is not 6n\+2"):
        experiment.configure({"model.depth": 9})


def test_the_ends_of_an_interval_are_checked(tmp_path):
    text = BASE + "sweep:\n  searcher: {name: random, trials: 3}\n  space:\n    optimizer.momentum: {uniform: [0, 1]}\n"
    with pytest.raises(ExperimentInvalid, match=r"exp.yaml:8:25: optimizer.momentum: expected less than 1, found 1.0"):
        loaded(tmp_path, text).check()


def test_a_continuous_space_has_no_grid(tmp_path):
    text = BASE + "sweep: {searcher: {name: random, trials: 3}, space: {optimizer.lr: {uniform: [0.1, 1]}}}\n"
    with pytest.raises(UserError, match="continuous"):
        loaded(tmp_path, text).grid()


def test_an_experiment_without_a_sweep_is_one_config(tmp_path):
    experiment = loaded(tmp_path, BASE)
    experiment.check()
    assert experiment.grid() == [{}]
    assert experiment.configure({}) == experiment.experiment.recipe


def test_the_site_gives_defaults_for_resources(tmp_path):
    site = Site(cache=Path("c"), resources=Resources(cpus_per_rank=3, max_concurrent=2))
    experiment = load(write(tmp_path, BASE + "resources: {max_concurrent: 1}\n"), site=site).experiment
    assert (experiment.resources.cpus_per_rank, experiment.resources.max_concurrent) == (3, 1)


def test_configuration_needs_no_heavy_import():
    code = (
        "import sys; from expflow.config import load; load('experiments/resnet_depth.yaml').check();"
        "print([name for name in ('torch', 'ray', 'mlflow', 'numpy', 'pytorch_lightning') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_sweep_without_a_metric_is_judged_by_its_tasks_main_metric(tmp_path, monkeypatch):
    file = tmp_path / "exp.yaml"
    file.write_text("task: scripted\ntrainer: {epochs: 1}\nsweep: {space: {task.value: [0.1, 0.2]}}\n")
    monkeypatch.setattr(ScriptedSpec, "main_metric", "val/loss")
    assert load(file).experiment.sweep.metric == "val/loss"
    file.write_text(file.read_text().replace("sweep: {", "sweep: {metric: val/top5, "))
    assert load(file).experiment.sweep.metric == "val/top5"
