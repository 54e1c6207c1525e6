"""Which of the one-shot searches a recipe is of."""

from __future__ import annotations

from torch import nn

from expflow.architectures.supernet import Supernet
from expflow.data.dataspec import DataSpec
from expflow.errors import UserError
from expflow.losses import Loss
from expflow.optim import OptimizerFactory, ScheduleFactory
from expflow.tasks.base import check_one_of_each
from expflow.tasks.one_shot import OneShot
from expflow.tasks.one_shot_paths import SampledPaths
from expflow.tasks.specs import OneShotSpec


def build(
    spec: OneShotSpec,
    data_spec: DataSpec,
    *,
    model: nn.Module,
    loss: Loss,
    optimizer: OptimizerFactory,
    schedule: ScheduleFactory,
) -> OneShot:
    """The task one_shot, on images with labels.

    Args:
        spec: What the user chose.
        data_spec: The images and classes.
        model: The network; a supernet.
        loss: The loss.
        optimizer: Factory of the optimizer of the network's weights.
        schedule: Factory of its schedule.

    Raises:
        UserError: A slot holds several components, the data have no images or no classes, or the model is no supernet.
    """
    check_one_of_each(spec.name, model=model, loss=loss, optimizer=optimizer, schedule=schedule)
    if data_spec.num_classes == 0 or "image" not in data_spec.fields:
        raise UserError("task one_shot needs data with the field image and with classes")
    if not isinstance(model, Supernet):
        raise UserError("task one_shot searches in a network of all children: model: {name: supernet}")
    return (SampledPaths if spec.paths else OneShot)(spec, data_spec, model, loss, optimizer, schedule)
