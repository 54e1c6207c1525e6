"""``self.logger``, ``trainer.callbacks`` and a ModelCheckpoint of the user's: what they give, and where it lies."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib import pyplot
from PIL import Image

from expflow.config import load
from expflow.config.identity import config_id, recipe_from_identity, recorded_tree
from expflow.config.lightning_arguments import DECIDED
from expflow.config.schema import Recipe, Trainer
from expflow.config.spec import UserComponent
from expflow.errors import ExperimentInvalid, UserError
from expflow.sweep.code_hashes import user_modules
from expflow.training import Artifact, Attempt, World, run_trial
from expflow.training.evaluation.evaluator import open_evaluator
from expflow.training.lightning_switches import ARGUMENTS, SWITCHES
from expflow.training.logged_images import as_image
from expflow.training.step_timing import measure_steps
from expflow.training.user_callbacks import within
from tests.training import logging_code
from tests.training.test_run_trial import plain

CODE = logging_code.__name__
FILE = """\
data: {{name: "tests.training.user_code:Blobs"}}
task: {{name: "tests.training.user_code:Plain"}}
trainer:
  epochs: 2
  {trainer}
"""


def trained(folder, task="Logged", epochs=2, callbacks=(), **arguments):
    recipe = Recipe(
        data=UserComponent(name="tests.training.user_code:Blobs"),
        task=UserComponent(name=f"{CODE}:{task}", **arguments),
        trainer=Trainer(epochs=epochs, callbacks=callbacks),
    )
    return train(recipe, folder)


def train(recipe, folder, **attempt):
    reports, notices = [], []
    run_trial(
        Attempt(recipe, 0, folder=folder, **attempt),
        World(),
        lambda report: reports.append(report.metrics) or True,
        on_notice=notices.append,
    )
    return reports, [notice for notice in notices if isinstance(notice, Artifact)]


def table(path):
    return list(csv.reader(path.read_text().splitlines()))


def test_what_the_logger_is_given_joins_reports_and_artifacts(tmp_path, caplog):
    reports, artifacts = trained(tmp_path)
    assert [report["mine/scalar"] for report in reports] == [0.25, 0.25]
    assert (reports[0]["mine/one"], reports[0]["mine/two"]) == (1, 2)
    assert reports[0]["mine/step"] < reports[1]["mine/step"]
    assert not {"mine/missing", "epoch", "step", "train/loss_step"} & reports[1].keys()
    names = {(artifact.name, artifact.kind) for artifact in artifacts}
    pictures = {"every_step", "several", "figure", "array", "named.0", "named.1", "plot"}
    tables = {"weights", "rows"}
    assert names == {
        *((name, "image") for name in pictures),
        *((name, "table") for name in tables),
        ("notes", "text"),
        ("hyperparameters", "text"),
    }
    assert sum(artifact.name == "every_step" for artifact in artifacts) == 2  # the newest of each name and step
    first = {artifact.name: artifact.path for artifact in reversed(artifacts)}
    with Image.open(first["several"]) as several:
        assert several.size == (18, 8)  # five pictures of 6x4, three to a row
    assert table(first["rows"]) == [["a", "b"], ["1", "x,y"], ["2", "z"]]
    assert first["hyperparameters"].read_text() == "bad: \n"
    assert pyplot.get_fignums() == []
    assert (reports[0]["mine/wandb"], caplog.text.count("add_mesh"), caplog.text.count("log(object)")) == (0.5, 1, 1)


@pytest.mark.parametrize(
    ("bad", "message"), [("text", "the metric 'mine/text': a number is needed"), ("picture", "str where pixels")]
)
def test_what_is_neither_is_refused(bad, message, tmp_path):
    with pytest.raises(UserError, match=message):
        trained(tmp_path, bad=bad)


@pytest.mark.parametrize(
    ("image", "formats", "size"),
    [
        (torch.rand(3, 4, 6), "", (6, 4)),
        (torch.rand(4, 6, 3), "", (6, 4)),
        (torch.rand(4, 6), "HW", (6, 4)),
        (torch.rand(1, 4, 6), "CHW", (6, 4)),
        (torch.rand(7, 4, 6), "NHW", (18, 12)),
        (torch.rand(2, 4, 6, 3), "NHWC", (12, 4)),
        (torch.rand(2, 3, 4, 6, dtype=torch.bfloat16), "", (12, 4)),
        (np.full((4, 6), 300), "", (6, 4)),
        (Image.new("RGB", (6, 4)), "", (6, 4)),
    ],
)
def test_pictures_come_in_many_forms(image, formats, size):
    pixels = as_image(image, formats)
    assert pixels.dtype == np.uint8
    assert pixels.shape[1::-1] == size


def test_numbers_from_0_to_1_are_shades_and_bytes_stay():
    assert as_image(torch.tensor([[0.0, 0.5, 1.0]])).tolist() == [[0, 128, 255]]
    assert as_image(np.array([[0, 1, 255]], np.uint8)).tolist() == [[0, 1, 255]]
    with pytest.raises(UserError, match=r"shape \(2, 3\) was given as CHW"):
        as_image(np.zeros((2, 3)), "CHW")


CALLBACKS = (
    UserComponent(name=f"{CODE}:Watch", every=2),
    UserComponent(name=f"{CODE}:make_watch", every=1),
    UserComponent(name="lightning.pytorch.callbacks:LearningRateMonitor"),
    UserComponent(name="pytorch_lightning.callbacks:ModelCheckpoint", filename="{epoch}", dirpath="kept/here"),
)


def test_callbacks_run_as_the_file_names_them(tmp_path):
    reports, _ = trained(tmp_path, callbacks=CALLBACKS)
    assert [report.get("watch/seen") for report in reports] == [None, 2]
    assert [report["watch/made"] for report in reports] == [1, 2]
    assert [report["lr-SGD"] for report in reports] == [0.05, 0.05]


def test_a_model_checkpoint_writes_into_the_trials_folder(tmp_path, monkeypatch):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    usual = UserComponent(name="pytorch_lightning.callbacks:ModelCheckpoint", monitor="val/top1", filename="usual")
    trained(tmp_path / "trial", callbacks=(CALLBACKS[3], usual))
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.ckpt")}
    assert files == {"trial/lightning/kept/here/epoch=1.ckpt", "trial/lightning/checkpoints/usual.ckpt"}
    assert torch.load(tmp_path / "trial/lightning/checkpoints/usual.ckpt", weights_only=False)["state_dict"]
    assert list((tmp_path / "trial/checkpoints").glob("step-*"))
    assert list(here.iterdir()) == []
    again, _ = trained(tmp_path / "trial", epochs=3, callbacks=(CALLBACKS[3], usual))
    assert [report["progress/epoch"] for report in again] == [3]


def test_where_files_of_a_model_checkpoint_go(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = Path("/results/trial/lightning")
    assert within(folder, str(tmp_path / "a/b")) == folder / "a/b"
    assert within(folder, "/elsewhere/kept") == folder / "kept"
    assert within(folder, str(folder / "kept")) == folder / "kept"
    with pytest.raises(UserError, match="all trials would write the same files"):
        within(folder, "s3://bucket/kept")


def test_nothing_is_written_where_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = Recipe(
        data=UserComponent(name="tests.training.user_code:Blobs"),
        task=UserComponent(name=f"{CODE}:Logged"),
        trainer=Trainer(epochs=1, callbacks=CALLBACKS),
    )
    train(recipe, None)
    assert measure_steps(recipe, tmp_path).train > 0
    with open_evaluator(Attempt(recipe, 0), World()) as evaluator:
        assert "val/top1" in evaluator.evaluate(evaluator.task.state_dict(), "val").metrics
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (f"{CODE}:Refusing", r"trainer\.callbacks\.0: .*:Refusing cannot be built: RuntimeError: not today"),
        (f"{CODE}:Figure", r"trainer\.callbacks\.0: .* is a Figure; a Callback of Lightning's is needed"),
    ],
)
def test_what_is_no_callback_is_refused(name, message, tmp_path):
    with pytest.raises(UserError, match=message):
        trained(tmp_path, callbacks=(UserComponent(name=name),))


def test_two_callbacks_that_lightning_cannot_tell_apart_are_an_error_of_the_file(tmp_path):
    twice = UserComponent(name="pytorch_lightning.callbacks:ModelCheckpoint")
    with pytest.raises(UserError, match=r"trainer\.callbacks are refused by Lightning: Found more than one"):
        trained(tmp_path, callbacks=(twice, twice))


def test_bars_and_summaries_are_left_out(tmp_path, caplog):
    bars = [f"pytorch_lightning.callbacks:{name}" for name in ("TQDMProgressBar", "ModelSummary")]
    trained(tmp_path, epochs=1, callbacks=tuple(UserComponent(name=name) for name in bars))
    assert caplog.text.count("is left out") == 2


def written(folder, trainer):
    path = folder / "exp.yaml"
    path.write_text(FILE.format(trainer=trainer))
    return path


def test_callbacks_are_read_from_the_file_and_are_a_part_of_the_recipe(tmp_path):
    text = f'callbacks: [{{name: "{CODE}:Watch", every: 2}}, "{CODE}:Watch"]'
    loaded = load(written(tmp_path, text))
    recipe = loaded.experiment.recipe
    watch = UserComponent(name=f"{CODE}:Watch")
    assert recipe.trainer.callbacks == (UserComponent(name=watch.name, every=2), watch)
    without = load(written(tmp_path, "")).experiment.recipe
    default = load(written(tmp_path, f'callbacks: [{{name: "{CODE}:Watch", every: 1}}]')).experiment.recipe
    bare = load(written(tmp_path, f'callbacks: ["{CODE}:Watch"]')).experiment.recipe
    assert config_id(default) == config_id(bare)
    assert len({config_id(recipe), config_id(bare), config_id(without)}) == 3
    assert config_id(without) == config_id(plain(2))
    record = recorded_tree(default)
    assert record["trainer"]["callbacks"] == [{"name": f"{CODE}:Watch", "every": 1}]
    assert recipe_from_identity(record)["trainer"]["callbacks"] == record["trainer"]["callbacks"]
    assert any(path.endswith("logging_code.py") for path in user_modules(loaded))


@pytest.mark.parametrize(
    ("trainer", "place", "message"),
    [
        (f'callbacks: [{{name: "{CODE}:Watch", evry: 2}}]', "trainer.callbacks.0.evry", "nearest: every"),
        (f'callbacks: ["{CODE}:Wach"]', "trainer.callbacks.0.name", f"nearest: {CODE}:Watch"),
        (f'callbacks: ["{CODE}:make_watch"]', "trainer.callbacks.0.every", "needs this argument"),
        ("callbacks: [Watch]", "trainer.callbacks.0.name", "expected package.module:Name"),
        ("callbacks: [{every: 2}]", "trainer.callbacks.0.name", "missing"),
        ("callbacks: [3]", "trainer.callbacks.0", "expected"),
        ("lightning: {logger: true}", "trainer.lightning.logger", "self.logger is there"),
        ("lightning: {max_epochs: 3}", "trainer.lightning.max_epochs", "trainer.epochs says how long"),
        ("lightning: {callbacks: []}", "trainer.lightning.callbacks", "name them under trainer.callbacks"),
        ("lightning: {strategy: fsdp}", "trainer.lightning.strategy", "train by DDP, so expected one of auto, ddp"),
        (
            "lightning: {use_distributed_sampler: 1}",
            "trainer.lightning.use_distributed_sampler",
            "expected true or false",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused_when_the_file_is_read(trainer, place, message, tmp_path):
    with pytest.raises(ExperimentInvalid) as caught:
        load(written(tmp_path, trainer))
    [problem] = caught.value.problems
    assert (problem.key, problem.line) == (place, 5)
    assert message in problem.message


def test_strategies_by_which_ranks_share_a_network_may_be_named(tmp_path):
    recipe = load(written(tmp_path, "lightning: {strategy: ddp, use_distributed_sampler: false}")).experiment.recipe
    reports, _ = train(recipe, None)
    assert len(reports) == 2


def test_the_documents_list_every_switch_and_every_refused_argument():
    page = (Path(__file__).parents[2] / "docs/python.md").read_text()
    rows = dict(re.findall(r"^\| `?([^|`]+)`? \| (.+?) \|$", page, re.MULTILINE))
    for switch in SWITCHES:
        assert rows.get(switch.name) == switch.instead
    names = " ".join(switch.name for switch in SWITCHES)
    assert all(argument in names for argument in ARGUMENTS)
    assert [argument for argument in DECIDED if argument not in page] == []
