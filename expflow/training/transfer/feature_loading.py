"""Gives a task the classifier in whose features it compares images."""

from __future__ import annotations

import torch
from torch import nn

from expflow import architectures
from expflow.data.dataspec import DataSpec
from expflow.errors import WeightsMissing
from expflow.tasks.feature_distance import ClassifierFeatures, distance_on
from expflow.tasks.measured_task import MeasuredTask
from expflow.training.contract import Attempt
from expflow.training.transfer.feature_network import feature_source
from expflow.training.transfer.weight_loading import load_fitting_weights, read_pretrained


def attach_features(attempt: Attempt, task: nn.Module, data_spec: DataSpec) -> None:
    """Have a task measure in the features that its recipe names; nothing happens where it names none.

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
    features = ClassifierFeatures(network, kept.data_spec, kept.weights.origin)
    task.compare_by(distance_on(features, data_spec))
