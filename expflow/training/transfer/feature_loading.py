"""Gives a task the classifier in whose features it compares images, or through whose layers it looks at them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from expflow import architectures
from expflow.data.dataspec import DataSpec
from expflow.data.source_spec import ShardedSourceSpec
from expflow.errors import UserError, WeightsMissing
from expflow.tasks.feature_distance import ClassifierFeatures, distance_on
from expflow.tasks.layer_features import LayerFeatures, LayerFeatureTask, PictureChoice
from expflow.tasks.measured_task import MeasuredTask
from expflow.training.contract import Attempt, World
from expflow.training.transfer.trained_classifier import feature_source
from expflow.training.transfer.weight_loading import load_fitting_weights, read_pretrained
from expflow.training.trial_data import open_trial_data

LOOKED_AT = 512
"""Pictures of which some are drawn: a large split is not read for the sake of a few."""


def attach_features(attempt: Attempt, task: nn.Module, data_spec: DataSpec) -> None:
    """Have a task use the classifier that its recipe names; nothing happens where it names none.

    The classifier is no part of the task: neither its checkpoints nor its counts know it.

    Args:
        attempt: The trial, with the classifier's weights.
        task: The module that is trained.
        data_spec: The data of the trial.

    Raises:
        WeightsMissing: The classifier was not looked up before, or a file is not there.
        CheckpointDamaged: A file is not what it was.
        UserError: The classifier does not fit the images, or there are too few of them.
    """
    source = feature_source(attempt.recipe.task)
    if not source or not isinstance(task, MeasuredTask):
        return
    if attempt.features is None:
        raise WeightsMissing(
            f"task.features: {source} was not looked up; whoever starts the trial has to say where it is"
        )
    kept = attempt.features
    with torch.random.fork_rng(devices=[]):  # the trial's own weights are drawn as without it
        network = architectures.build(kept.model, kept.data_spec)
    load_fitting_weights(network, read_pretrained(kept.weights), head="keep", origin=kept.weights.origin)
    if isinstance(task, LayerFeatureTask):
        task.look_through(LayerFeatures(network, kept.data_spec, kept.weights.origin))
        _give_pictures(attempt, task)
        return
    features = ClassifierFeatures(network, kept.data_spec, kept.weights.origin)
    task.compare_by(distance_on(features, data_spec))


def _give_pictures(attempt: Attempt, task: LayerFeatureTask) -> None:
    """Give a task the pictures of the data that it asks for: of whole splits, whatever ``data.limit`` is, and all of
    them on each rank.
    """
    recipe = attempt.recipe
    if isinstance(recipe.data, ShardedSourceSpec):
        recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"limit": None})})
    whole = open_trial_data(replace(attempt, recipe=recipe), World())
    if whole.module is not None:
        raise UserError("task.features: pictures are taken of prepared data, and these are a data module of your own")
    for name, choice in task.picture_choices().items():
        batches = whole.train_in_order if choice.split == "train" else whole.val
        if batches is None:
            raise UserError(f"task.{choice.key}: there is no split {choice.split} (data.val_fraction, trainer.fit_on)")
        pictures = _pictures(choice, batches, whole.spec.classes)
        if choice.drawn:
            order = torch.randperm(len(pictures), generator=torch.Generator().manual_seed(attempt.seed))
            pictures = pictures[order]
        task.take_pictures(name, pictures[: choice.number])


def _pictures(choice: PictureChoice, batches: Iterable[Any], classes: tuple[str, ...]) -> Tensor:
    """(n, c, h, w) uint8, those that are looked at. Raises UserError where there are fewer than are asked for."""
    chosen: list[Tensor] = []
    most = max(choice.number, LOOKED_AT) if choice.drawn else choice.number
    for batch in batches:
        wanted = batch["valid"].clone()
        if choice.of:
            wanted &= batch["label"] == classes.index(choice.of)
        if choice.but:
            wanted &= batch["label"] != classes.index(choice.but)
        chosen += batch["image"][wanted].unbind()
        if len(chosen) >= most:
            break
    if len(chosen) >= choice.number:
        return torch.stack(chosen[:most])
    of = f" of the class {choice.of}" if choice.of else f" of other classes than {choice.but}" if choice.but else ""
    raise UserError(
        f"task.{choice.key}: {choice.number} images{of} are asked for, and {choice.split} has {len(chosen)}"
    )
