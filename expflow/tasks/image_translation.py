"""What tasks that make images from conditions have in common: the conditions, and what is measured of made images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from expflow.data.dataspec import DataSpec
from expflow.tasks.adversarial import AdversarialTask
from expflow.tasks.adversarial_specs import CycleGANSpec, Pix2PixSpec
from expflow.tasks.base import Batch
from expflow.tasks.image_conditions import IMAGE, ImageCondition
from expflow.tasks.image_metrics import reconstruction_metrics, reconstruction_sums
from expflow.tasks.samples import FirstSamples


class ImageTranslation(AdversarialTask):
    """Base of adversarial tasks whose :meth:`made` holds ``image``, made from a condition of the true image.

    Args:
        data_spec: The images.
        model: The networks.
        optimizer: Factory of the optimizers.
        schedule: Factory of their schedules.
        spec: What the user chose.
    """

    def __init__(
        self, data_spec: DataSpec, model: nn.ModuleDict, optimizer: Any, schedule: Any, spec: Pix2PixSpec | CycleGANSpec
    ) -> None:
        super().__init__(model, optimizer, schedule, spec)
        self.condition = ImageCondition(spec.condition, data_spec)
        self._first = FirstSamples(spec.samples, *self.condition.fields)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Adds the batch to the epoch's sums."""
        self._first.follow(batch, batch_idx)
        made = self.made(batch, batch_idx)
        sums = reconstruction_sums((made[IMAGE] + 1) / 2, batch[IMAGE] / 255, batch["valid"])
        self.compare(batch[IMAGE], (made[IMAGE] + 1) / 2, batch["valid"])
        self.validation_losses(batch, made, sums)

    def measured(self, sums: Tensor) -> Mapping[str, Tensor]:
        """Both losses, and in validation :func:`~expflow.tasks.image_metrics.reconstruction_metrics` of images."""
        distances = reconstruction_metrics(sums[4:], sums[0]) if len(sums) > 4 else {}
        return {**super().measured(sums), **distances}
