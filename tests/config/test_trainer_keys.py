"""The trainer's keys: what each one takes, and what a wrong value is told."""

import re

import pytest

from expflow.config.identity import config_id, dump, identity_tree, recipe_from_identity
from expflow.config.loading import load
from expflow.config.schema import Recipe, Trainer
from expflow.config.validation import check_model
from expflow.config.yaml_reader import parse
from expflow.errors import ExperimentInvalid
from expflow.tasks.specs import ScriptedSpec


def read(text):
    problems = []
    trainer = check_model(Trainer, parse(text, "x.yaml"), ("trainer",), problems)
    return trainer, [str(problem) for problem in problems]


@pytest.mark.parametrize(
    "text",
    [
        "precision: tf32",
        "compile: reduce-overhead",
        "ema: 0.999",
        "accumulate: 4",
        "clip_norm: 1",
        "early_stopping: {}",
        "early_stopping: {metric: val/mine, mode: max}",
        "image_sizes: [[0, 16], [10, 32]]",
    ],
)
def test_a_key_that_is_used_makes_another_config_and_reads_back(text):
    trainer, problems = read(text)
    assert problems == []
    plain, used = (Recipe(task=ScriptedSpec(name="scripted"), trainer=settings) for settings in (Trainer(), trainer))
    assert config_id(plain) != config_id(used)
    assert recipe_from_identity(identity_tree(used))["trainer"] == dump(trainer)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("precision: 16", "expected 32, tf32, 16-mixed or bf16-mixed, found 16"),
        ("ema: 1", "expected less than 1"),
        ("early_stopping: {metric: val/lss}", "x.yaml:1:26: trainer.early_stopping.metric: .* nearest: val/loss"),
        ("early_stopping: {patients: 2}", "unknown key; nearest valid key: patience"),
        ("image_sizes: [[3, 16], [1, 32]]", "x.yaml:1:14: trainer.image_sizes: expected rising epochs, found 3, 1"),
        ("image_sizes: [0, 16]", "expected a list, found 0"),
        ("clip_norm: 1\nclip_value: 2", "x.yaml:2:13: trainer.clip_value: give clip_norm or clip_value, not both"),
    ],
)
def test_a_wrong_value_is_told_what_is_right_and_where(text, message):
    trainer, problems = read(text)
    assert trainer is None
    assert re.search(message, problems[0])


@pytest.mark.parametrize(
    "key",
    [
        "accumulate: 2",
        'callbacks: ["pytorch_lightning.callbacks:LearningRateMonitor"]',
        "clip_norm: 1",
        "clip_value: 1",
        "compile: true",
        "early_stopping: {}",
        "ema: 0.9",
        "image_sizes: [[0, 8]]",
        "sync_batchnorm: true",
    ],
)
def test_a_key_about_steps_is_refused_where_a_task_is_fitted_once(tmp_path, key):
    file = tmp_path / "x.yaml"
    file.write_text(f"data: {{name: digits}}\ntask: {{name: bovw}}\ntrainer: {{epochs: 2, {key}}}\n")
    name = key.partition(":")[0]
    with pytest.raises(ExperimentInvalid, match=f"x.yaml:3:.* trainer.{name}: changes nothing: bovw is fitted once"):
        load(file)
