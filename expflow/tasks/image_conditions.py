"""What images are translated from: pictures made of them, or of the masks that belong to them, on the device."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from expflow.data.dataspec import VOID, DataSpec
from expflow.data.slots import slot_field
from expflow.errors import UserError
from expflow.tasks.adversarial_specs import TranslatedFrom
from expflow.tasks.base import Batch, check_fields
from expflow.tasks.samples import FirstSamples

IMAGE, MASK = "image", "mask"
SOURCE = slot_field("condition", IMAGE)
"""Images of the data's slot ``condition``."""

GREY_WEIGHTS = (0.299, 0.587, 0.114)
"""Of red, green and blue in brightness (ITU-R BT.601)."""


class ImageCondition(nn.Module):
    """Batch -> (b, c, h, w) conditions from -1 to 1.

    Args:
        kind: What they are.
        data_spec: The images, with masks where they are the condition.
    """

    _colours: Tensor

    def __init__(self, kind: TranslatedFrom, data_spec: DataSpec) -> None:
        super().__init__()
        self._kind, self._channels = kind, data_spec.in_channels
        self.fields = fields_of(kind)
        self.register_buffer("_colours", class_colours(data_spec.num_classes, self._channels), persistent=False)

    def forward(self, batch: Batch) -> Tensor:
        """The conditions of a batch."""
        if self._kind == MASK:
            return self._colours[batch[MASK].long()].movedim(-1, 1)
        if self._kind == "source":
            return 2 * (batch[SOURCE] / 255) - 1
        grey_b1hw = brightness(batch[IMAGE] / 255)
        if self._kind == "edges":
            grey_b1hw = edges(grey_b1hw)
        return (2 * grey_b1hw - 1).expand(-1, self._channels, -1, -1)

    def first(self, kept: FirstSamples) -> Batch | None:
        """What was kept of a validation, as a batch; None before there is anything.

        Args:
            kept: What keeps :attr:`fields`.
        """
        kept_fields: Mapping[str, Tensor | None] = {name: kept.field(name) for name in self.fields}
        return {name: value for name, value in kept_fields.items() if value is not None} or None


def fields_of(kind: TranslatedFrom) -> tuple[str, ...]:
    """The fields of a batch that a kind of condition is made of.

    Args:
        kind: What it is.
    """
    return {"mask": (IMAGE, MASK), "source": (IMAGE, SOURCE)}.get(kind, (IMAGE,))


def check_condition(task: str, kind: TranslatedFrom, data_spec: DataSpec) -> None:
    """Require that the data have what images are to be made from.

    Args:
        task: The task's name.
        kind: What that is.
        data_spec: The data.

    Raises:
        UserError: They have not, or they are grey already.
    """
    check_fields(task, data_spec, *fields_of(kind))
    if kind == "grey" and data_spec.in_channels == 1:
        raise UserError("task.condition: the data's images are grey already; edges makes them of their edges")


def brightness(image_bchw: Tensor) -> Tensor:
    """(b, c, h, w) -> (b, 1, h, w): the weighted mean of red, green and blue, or the plain one of other channels.

    Args:
        image_bchw: Images.
    """
    if image_bchw.shape[1] != len(GREY_WEIGHTS):
        return image_bchw.mean(1, keepdim=True)
    return (image_bchw * image_bchw.new_tensor(GREY_WEIGHTS).view(-1, 1, 1)).sum(1, keepdim=True)


def edges(grey_b1hw: Tensor) -> Tensor:
    """(b, 1, h, w) brightness from 0 to 1 -> how steep it is by Sobel's filters, cut off at 1.

    Args:
        grey_b1hw: Brightness.
    """
    across = grey_b1hw.new_tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]) / 4
    padded = functional.pad(grey_b1hw, (1, 1, 1, 1), mode="replicate")
    steep = functional.conv2d(padded, torch.stack([across, across.T])[:, None])
    return steep.square().sum(1, keepdim=True).sqrt().clamp(max=1)


def class_colours(classes: int, channels: int) -> Tensor:
    """(256, channels) a colour from -1 to 1 for each class; black for the rest, void among them.

    Args:
        classes: How many classes there are.
        channels: Channels of the images.
    """
    colours = torch.full((VOID + 1, channels), -1.0)
    for number in range(classes):
        turns = torch.tensor([(number + 1) * (channel + 1) * 0.618034 for channel in range(channels)])
        colours[number] = 2 * (turns % 1) - 1
    return colours
