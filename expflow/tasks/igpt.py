"""Image GPT (Chen et al. 2020, "Generative Pretraining from Pixels"): an image is read pixel by pixel, row by row, and
each is to be named from those before it, in the colours of a palette.

The loss is the cross-entropy, mean over pixels. In bits it is how many the network needs for each value of an image
that consists of the palette's colours; images in two palettes cannot be compared by it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from expflow.architectures.igpt import IGPT, Past, palette_field
from expflow.data.dataspec import DataSpec
from expflow.errors import UserError
from expflow.optim import OptimizerFactory, ScheduleFactory
from expflow.tasks.base import Batch, ImageTask, at_least_single, check_one_of_each, own_loss
from expflow.tasks.generative_specs import IGPTTaskSpec
from expflow.tasks.samples import FirstSamples


class ImageGPT(ImageTask):
    """Trains a network to name each pixel from those before it; measures bits per value, and draws by it.

    Args:
        data_spec: The images, with their palette.
        model: The network.
        optimizer: Factory of the optimizer.
        schedule: Factory of the schedule.
        spec: What the user chose.
    """

    _palette: Tensor

    def __init__(
        self,
        data_spec: DataSpec,
        model: IGPT,
        optimizer: OptimizerFactory,
        schedule: ScheduleFactory,
        spec: IGPTTaskSpec,
    ) -> None:
        super().__init__(data_spec, model, own_loss, optimizer, schedule, spec.penalty, spec.penalty_strength)
        field = palette_field(data_spec)
        self.register_buffer("_palette", torch.tensor(field.palette, dtype=torch.float32), persistent=False)
        self._network, self._shape, self._temperature = (model,), field.shape, spec.temperature
        self._first = FirstSamples(spec.samples, "image")

    def colours(self, image_bchw: Tensor) -> Tensor:
        """(b, c, h, w) uint8 images -> (b, t) the nearest colours of the palette, row by row.

        Args:
            image_bchw: The images.
        """
        pixels_btc = image_bchw.float().flatten(2).transpose(1, 2)
        distances_btk = (pixels_btc[:, :, None] - self._palette).square().sum(3)
        return distances_btk.argmin(2)

    def forward(self, image_bchw: Tensor) -> Tensor:
        """(b, c, h, w) uint8 images -> (b, t, k) scores of each pixel's colour, from those before it."""
        colours = self.colours(image_bchw)
        start = torch.full_like(colours[:, :1], self._network[0].start)
        return at_least_single(self.model(torch.cat([start, colours[:, :-1]], 1)))

    def _add(self, batch: Batch) -> tuple[Tensor, Tensor]:
        target, scores = self.colours(batch["image"]), self.forward(batch["image"])
        values = nn.functional.cross_entropy(scores.flatten(0, 1), target.flatten(), reduction="none")
        valid = batch["valid"]
        samples = valid.sum()
        loss = torch.where(valid, values.view_as(target).mean(1), 0).sum() / samples.clamp(min=1)
        self._epoch_means.add(samples, loss.detach())
        return loss, samples

    def training_loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The batch's mean cross-entropy over pixels (), and its samples ()."""
        return self._add(batch)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Adds the batch to the epoch's sums."""
        self._first.follow(batch, batch_idx)
        self._add(batch)

    def measured(self, sums: Tensor) -> Mapping[str, Tensor]:
        """``loss`` in nats for a pixel, and ``bits_per_dim``, in bits for a value of one channel."""
        loss = sums[1] / sums[0]
        return {"loss": loss, "bits_per_dim": loss / (math.log(2) * self._shape[0])}

    def drawn(self, known_bt: Tensor, generator: torch.Generator) -> Tensor:
        """(b, t) colours, -1 where none is known -> (b, t) colours, drawn one after the other where none was known.

        Args:
            known_bt: The colours.
            generator: Of random numbers.
        """
        network, pasts = self._network[0], list[Past]()
        before = torch.full_like(known_bt[:, 0], network.start)
        columns = []
        for place in range(known_bt.shape[1]):
            shares = (at_least_single(network.next_scores(before, place, pasts)) / self._temperature).softmax(1)
            chosen = torch.multinomial(shares.cpu(), 1, generator=generator)[:, 0].to(known_bt.device)
            before = torch.where(known_bt[:, place] < 0, chosen, known_bt[:, place])
            columns.append(before)
        return torch.stack(columns, 1)

    def _images(self, colours_bt: Tensor) -> Tensor:
        """(b, t) colours -> (b, c, h, w) from 0 to 1; -1 is grey."""
        pixels_btc = torch.where(colours_bt[..., None] < 0, 0.5, self._palette[colours_bt.clamp(min=0)] / 255)
        return pixels_btc.transpose(1, 2).unflatten(2, tuple(self._shape[1:]))

    def draw_samples(self, generator: torch.Generator) -> Tensor | None:
        """(images, 4, c, h, w): the upper half of the first images of val, its completion, the image, and a new one.

        Args:
            generator: Of random numbers.
        """
        image = self._first.field("image")
        if image is None:
            return None
        colours = self.colours(image)
        upper, nothing = colours.clone(), torch.full_like(colours, -1)
        upper[:, self._shape[1] // 2 * self._shape[2] :] = -1
        completed, new = self.drawn(torch.cat([upper, nothing]), generator).chunk(2)
        return torch.stack([self._images(part) for part in (upper, completed, colours, new)], 1)


def build(
    spec: IGPTTaskSpec,
    data_spec: DataSpec,
    *,
    model: nn.Module,
    optimizer: OptimizerFactory,
    schedule: ScheduleFactory,
) -> ImageGPT:
    """The task igpt, on images with a palette.

    Args:
        spec: What the user chose.
        data_spec: The images.
        model: The network.
        optimizer: Factory of the optimizer.
        schedule: Factory of the schedule.

    Raises:
        UserError: A slot holds several components, the images have no palette, or the network is no image GPT.
    """
    check_one_of_each(spec.name, model=model, optimizer=optimizer, schedule=schedule)
    palette_field(data_spec)
    if not isinstance(model, IGPT):
        raise UserError("task igpt needs model igpt, or one of your own that derives from its class")
    return ImageGPT(data_spec, model, optimizer, schedule, spec)
