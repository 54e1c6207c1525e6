"""CycleGAN (Zhu et al. 2017, "Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks").

G makes images y' = G(x) of conditions x, F conditions x' = F(y) of images y. A discriminator each tells made from real
ones of its kind. Both generators minimise what the discriminators take for made, plus lambda times how far the way
there and back leads from where it began, |F(G(x)) - x| + |G(F(y)) - y| (equation 2), plus what they change of the right
kind, |G(y) - y| + |F(x) - x|, by its factor (section 5.2).

No loss compares G(x) with the image that x was made of; validation does, where the data have it. Where x and y come
from two sources, they have not: validation then compares the distributions of made and real images, both ways.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from expflow.data.dataspec import DataSpec
from expflow.tasks.adversarial import DISCRIMINATOR, GENERATOR, check_made, check_networks
from expflow.tasks.adversarial_losses import mean_per_image, valid_mean
from expflow.tasks.adversarial_specs import CycleGANSpec
from expflow.tasks.base import Batch
from expflow.tasks.image_conditions import IMAGE, check_condition
from expflow.tasks.image_translation import ImageTranslation
from expflow.tasks.sliced_distance import SlicedDistance, sliced_distance


class CycleGAN(ImageTranslation):
    """Trains generators from conditions to images and back; measures how far made images lie from the true ones.

    Args:
        data_spec: The images.
        model: ``to_image`` (G), ``to_condition`` (F), ``image_judge`` and ``condition_judge``; all of (b, c, h, w) from
            -1 to 1.
        optimizer: Factory of the optimizers, one for both generators and one for both discriminators.
        schedule: Factory of their schedules.
        spec: What the user chose.
    """

    def __init__(
        self, data_spec: DataSpec, model: nn.ModuleDict, optimizer: Any, schedule: Any, spec: CycleGANSpec
    ) -> None:
        super().__init__(data_spec, model, optimizer, schedule, spec)
        self._cycle, self._same = spec.cycle, spec.same
        numbers = math.prod(data_spec.image_shape)
        self._distances = (
            {"swd": SlicedDistance(numbers), "condition_swd": SlicedDistance(numbers)}
            if spec.condition == "source"
            else {}
        )

    def players(self) -> Mapping[str, nn.Module]:
        """Both generators, and both discriminators."""
        model = self.model
        return {
            GENERATOR: nn.ModuleList([model["to_image"], model["to_condition"]]),
            DISCRIMINATOR: nn.ModuleList([model["image_judge"], model["condition_judge"]]),
        }

    def forward(self, image_bchw: Tensor) -> Tensor:
        """(b, c, h, w) uint8 conditions -> (b, c, h, w) images from 0 to 1."""
        return (self._by("to_image", self.scaled(image_bchw)) + 1) / 2

    def _by(self, name: str, image_bchw: Tensor) -> Tensor:
        """What a generator makes."""
        return check_made(self.model[name], self.model[name](image_bchw), tuple(image_bchw.shape))

    def made(self, batch: Batch, batch_idx: int) -> Mapping[str, Tensor]:
        """x' and y', ``condition`` and ``image``, and what they were made of, ``from_image`` and ``from_condition``."""
        x, y = self.condition(batch), self.scaled(batch[IMAGE])
        made = {IMAGE: self._by("to_image", x), "condition": self._by("to_condition", y)}
        return {**made, "from_condition": x, "from_image": y}

    def discriminator_loss(self, batch: Batch, made: Mapping[str, Tensor]) -> Tensor:
        """() half of both discriminators' losses."""
        judge_y, judge_x = self.model["image_judge"], self.model["condition_judge"]
        of_y = self.real_and_made_loss(judge_y, made["from_image"], made[IMAGE], batch["valid"])
        of_x = self.real_and_made_loss(judge_x, made["from_condition"], made["condition"], batch["valid"])
        return (of_y + of_x) / 2

    def generator_loss(self, batch: Batch, made: Mapping[str, Tensor]) -> Tensor:
        """() both adversarial losses, lambda times the cycle's, and its share for what is of the right kind."""
        x, y, valid = made["from_condition"], made["from_image"], batch["valid"]
        loss = self.deceived_loss(self.model["image_judge"], made[IMAGE], valid)
        loss = loss + self.deceived_loss(self.model["condition_judge"], made["condition"], valid)
        if self._cycle:
            back = _distance(self._by("to_condition", made[IMAGE]), x) + _distance(
                self._by("to_image", made["condition"]), y
            )
            loss = loss + self._cycle * valid_mean(back, valid)
        if self._same:
            same = _distance(self._by("to_image", y), y) + _distance(self._by("to_condition", x), x)
            loss = loss + self._same * valid_mean(same, valid)
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Adds the batch to the epoch's sums, and to the distances where there are no true images."""
        if not self._distances:
            super().validation_step(batch, batch_idx)
            return
        self._first.follow(batch, batch_idx)
        made = self.made(batch, batch_idx)
        self._distances["swd"].add(made["from_image"], made[IMAGE], batch["valid"])
        self._distances["condition_swd"].add(made["from_condition"], made["condition"], batch["valid"])
        self.compare(batch[IMAGE], (made[IMAGE] + 1) / 2, batch["valid"])
        self.validation_losses(batch, made)

    def on_validation_epoch_end(self) -> None:
        """Logs ``val/*``, the distances over the images of all ranks."""
        for name, distance in self._distances.items():
            rows = distance.take()
            gathered: Any = self.all_gather(rows)
            self.log(f"val/{name}", sliced_distance(gathered.reshape(-1, rows.shape[1])), rank_zero_only=False)
        super().on_validation_epoch_end()

    def draw_samples(self, generator: torch.Generator) -> Tensor | None:
        """(images, 4, c, h, w): x, y' = G(x), y (the true image where there is one), x' = F(y), of the first of val."""
        batch = self.condition.first(self._first)
        if batch is None:
            return None
        made = self.made(batch, 0)
        return (torch.stack([made["from_condition"], made[IMAGE], made["from_image"], made["condition"]], 1) + 1) / 2


def _distance(image_bchw: Tensor, other_bchw: Tensor) -> Tensor:
    """(b,) mean absolute differences."""
    return mean_per_image((image_bchw - other_bchw).abs())


def build(spec: CycleGANSpec, data_spec: DataSpec, *, model: nn.ModuleDict, optimizer: Any, schedule: Any) -> CycleGAN:
    """The task cyclegan, on images.

    Args:
        spec: What the user chose.
        data_spec: The images, with masks where they are the condition.
        model: Two generators and two discriminators.
        optimizer: Factory of the optimizers.
        schedule: Factory of their schedules.

    Raises:
        UserError: A network is missing, the data lack a field, or grey images would be made of grey ones.
    """
    check_networks(spec, model)
    check_condition(spec.name, spec.condition, data_spec)
    return CycleGAN(data_spec, model, optimizer, schedule, spec)
