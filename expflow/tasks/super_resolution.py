"""Super-resolution (Dong et al. 2014): an image from one that was shrunk.

The image is shrunk by a factor and enlarged again, both bicubic, and the network is to give the original: so every
source of images has pairs. What enlarging alone would give is measured beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from expflow.data.dataspec import DataSpec
from expflow.errors import UserError
from expflow.tasks.autoencoder import AutoencoderTask
from expflow.tasks.base import Batch, check_fields, check_one_of_each
from expflow.tasks.generative_specs import SuperResolutionSpec
from expflow.tasks.image_metrics import psnr


class SuperResolution(AutoencoderTask):
    """Trains a network to give an image that it sees shrunk; measures as an autoencoder does, and the gain in PSNR.

    Args:
        factor: By which height and width are divided.
        slots: What :class:`~expflow.tasks.autoencoder.AutoencoderTask` takes.
    """

    def __init__(self, factor: int, **slots: Any) -> None:
        super().__init__(**slots)
        self._factor = factor

    def seen(self, image_bchw: Tensor) -> Tensor:
        """(b, c, h, w) uint8 -> (b, c, h, w) from 0 to 255: shrunk and enlarged again.

        Args:
            image_bchw: The images.
        """
        size = image_bchw.shape[2:]
        small = functional.interpolate(
            image_bchw.float(),
            size=[side // self._factor for side in size],
            mode="bicubic",
            antialias=True,
            align_corners=False,
        )
        return functional.interpolate(small, size=size, mode="bicubic", align_corners=False).clamp(0, 255)

    def further_sums(self, batch: Batch) -> tuple[Tensor, ...]:
        """(1,): the sum over valid images of the PSNR that enlarging alone has."""
        with torch.no_grad():
            enlarged = self.seen(batch["image"]).double() / 255
            ratios = psnr(enlarged, batch["image"].double() / 255)
            return (ratios.masked_fill(~batch["valid"], 0).sum()[None],)

    def measured(self, sums: Tensor) -> Mapping[str, Tensor]:
        """As of an autoencoder, and ``psnr_gain``, by how many decibels the network is above enlarging alone."""
        measured = dict(super().measured(sums[:-1]))
        return {**measured, "psnr_gain": measured["psnr"] - sums[-1] / sums[0]}

    def draw_samples(self, generator: torch.Generator) -> Tensor | None:
        """(images, 3, c, h, w): what is seen of the first images of val, what is made of it, and the images.

        Args:
            generator: Not used: nothing is random.
        """
        image = self._first.field("image")
        if image is None:
            return None
        return torch.stack([self.seen(image) / 255, self.reconstructed(image), image.float() / 255], 1)


def build(spec: SuperResolutionSpec, data_spec: DataSpec, **slots: Any) -> SuperResolution:
    """The task super_resolution, on images.

    Args:
        spec: What the user chose.
        data_spec: The images.
        slots: Network, loss, and factories of optimizer and schedule.

    Raises:
        UserError: A slot holds several components, the data have no images, or the factor does not divide their sides.
    """
    check_one_of_each(spec.name, **slots)
    check_fields(spec.name, data_spec, "image")
    height, width = data_spec.image_size
    if height % spec.factor or width % spec.factor:
        raise UserError(f"task.factor {spec.factor} does not divide images of {height}x{width} pixels; take another")
    return SuperResolution(spec.factor, spec=spec, data_spec=data_spec, **slots)
