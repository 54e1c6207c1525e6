"""Deep dreams (Mordvintsev et al. 2015, "Inceptionism"): images that excite a class or a layer more and more.

``expflow show NAME/best --dream`` does the same by a fixed recipe; here optimizer, schedule, steps and what holds the
images back are keys that can be compared.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from expflow.data.dataspec import DataSpec
from expflow.errors import UserError
from expflow.optim import OptimizerFactory, ScheduleFactory
from expflow.tasks.base import check_fields, check_one_of_each
from expflow.tasks.dream_scores import class_odds, layer_energy
from expflow.tasks.image_metrics import gradient_energy
from expflow.tasks.image_parameters import ImageParameterTask
from expflow.tasks.layer_features import LayerFeatures
from expflow.tasks.style_specs import DeepDreamSpec

MANY_STEPS = 2**32
"""Trials of different seeds have no shift of a step in common."""


class DeepDream(ImageParameterTask):
    """Moves the pixels of images towards what excites a class or a layer.

    Measures the probability of the class, or the mean square of the layer's output, and how sharp the images are.

    Args:
        data_spec: The images.
        optimizer: Factory of the optimizer.
        schedule: Factory of the schedule.
        spec: What the user chose.
    """

    def __init__(
        self, data_spec: DataSpec, optimizer: OptimizerFactory, schedule: ScheduleFactory, spec: DeepDreamSpec
    ) -> None:
        super().__init__(data_spec, optimizer, schedule, spec)
        self._spec, self._seed = spec, torch.initial_seed()

    def look_through(self, features: LayerFeatures) -> None:
        """Take the classifier.

        Raises:
            UserError: It has neither such a class nor such a layer.
        """
        if self._spec.of in features.classes:
            self._check_scores(features)
        else:
            try:
                features.check(self._shape, {"of": [self._spec.of]})
            except UserError as error:
                few = ", ".join([*features.classes[:10], *(["…"] if len(features.classes) > 10 else [])])
                raise UserError(f"{error}; nor is it a class ({few})") from error
        super().look_through(features)

    def _check_scores(self, features: LayerFeatures) -> None:
        features.check(self._shape, {})
        try:
            with torch.no_grad():
                self._excited(features, torch.full((2, *self._shape), 0.5))
        except RuntimeError as error:  # torch's words for a size that does not fit
            raise UserError(
                f"task.features: {features.origin} gives no scores for images of {self._shape} (channels, height,"
                f" width): {error}"
            ) from error

    def _excited(self, features: LayerFeatures, image_nchw: Tensor) -> tuple[Tensor, Tensor]:
        """What is climbed (n,), and what is shown of it (n,)."""
        if self._spec.of in features.classes:
            scores = features.scores(image_nchw)
            return class_odds(scores, len(features.classes), features.classes.index(self._spec.of))
        [output] = features.of(image_nchw, [self._spec.of])
        energy = layer_energy(output, self._spec.of)
        return energy, energy

    def values(self, image_nchw: Tensor) -> Tensor:
        """(4, n): the loss, what is excited, and the gradient energies of the images and of their contents."""
        climbed, shown = self._excited(self.features, self._shifted(image_nchw))
        energy = gradient_energy(image_nchw)
        loss = self._spec.smoothness * energy - climbed
        return torch.stack([loss, shown, energy, gradient_energy(self.content.float() / 255)])

    def _shifted(self, image_nchw: Tensor) -> Tensor:
        """The images, in training by as many pixels further as this step's number says, those of the border around."""
        if not self._spec.shift or not self.training:
            return image_nchw
        generator = torch.Generator().manual_seed(self._seed * MANY_STEPS % 2**63 + self.global_step)
        reach = self._spec.shift
        return image_nchw.roll(torch.randint(-reach, reach + 1, (2,), generator=generator).tolist(), (2, 3))

    def measured(self, sums: Tensor) -> Mapping[str, Tensor]:
        """``activation`` and ``loss``, means over images, and ``sharpness`` beside the contents."""
        return {"loss": sums[1] / sums[0], "activation": sums[2] / sums[0], "sharpness": sums[3] / sums[4]}


def build(
    spec: DeepDreamSpec, data_spec: DataSpec, *, optimizer: OptimizerFactory, schedule: ScheduleFactory
) -> DeepDream:
    """The task deep_dream, on images.

    Args:
        spec: What the user chose.
        data_spec: The images.
        optimizer: Factory of the optimizer.
        schedule: Factory of the schedule.

    Raises:
        UserError: A slot holds several components, or the data have no images.
    """
    check_one_of_each(spec.name, optimizer=optimizer, schedule=schedule)
    check_fields(spec.name, data_spec, "image")
    return DeepDream(data_spec, optimizer, schedule, spec)
