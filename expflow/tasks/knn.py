"""The kNN probe: how well frozen features tell classes apart, without anything that is trained or tuned.

Source: the weighted votes of Wu et al. 2018 ("Unsupervised Feature Learning via Non-Parametric Instance
Discrimination", section 3.4), as Caron et al. 2021 (DINO, appendix F.1) use them: features at length 1, the k nearest
training images by the cosine s, each of which adds exp(s / tau) to its class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from expflow.architectures.heads import heads_of
from expflow.data.dataspec import DataSpec
from expflow.errors import UserError
from expflow.tasks.base import Batch, at_least_single, check_fields, check_one_of_each
from expflow.tasks.fitted_classifier import FittedClassifier
from expflow.tasks.knn_spec import KnnSpec
from expflow.tasks.visual_words import room_for

NOBODY = -1
"""Class and number of a place in the bank that no image has taken."""

ITSELF = 1 - 1e-4
"""Cosine from which on an image of the bank with the same number as the one that is asked about is that image."""

SMALLEST_SHARE = 1e-6
"""Share of the votes that a class counts with in the loss where it has fewer."""


class KnnProbe(FittedClassifier):
    """Names the class of an image by its nearest training images; measures loss, top-1 and, of many classes, top-5.

    Scores are logarithms of each class's share of the votes, the loss is their cross-entropy. An image that is in the
    bank itself has no vote about itself, so that ``fit/*`` says something.

    Args:
        data_spec: The images and classes.
        model: The network; it stays as it is.
        spec: What the user chose.

    Raises:
        UserError: The network uses its head several times, there are fewer training images than neighbours, or their
            features do not fit into memory.
    """

    _mean: Tensor
    _std: Tensor
    features: Tensor
    labels: Tensor
    numbers: Tensor

    def __init__(self, data_spec: DataSpec, model: nn.Module, spec: KnnSpec) -> None:
        super().__init__(data_spec.num_classes)
        self.spec, self.model = spec, model.requires_grad_(requires_grad=False)
        self._head = heads_of(model)[0]
        mean = torch.tensor(data_spec.mean or [0.0] * data_spec.in_channels) * 255
        std = torch.tensor(data_spec.std or [1.0] * data_spec.in_channels) * 255
        self.register_buffer("_mean", mean.view(-1, 1, 1), persistent=False)
        self.register_buffer("_std", std.view(-1, 1, 1), persistent=False)
        samples, width = data_spec.samples.get("train", 0), self._width(data_spec)
        if samples < spec.neighbours:
            raise UserError(
                f"task.neighbours is {spec.neighbours}, and there are {samples} training images; ask for fewer"
            )
        if not room_for(width, samples):
            raise UserError(
                f"{width:,} features of each of {samples:,} training images do not fit into memory; take fewer images"
                " (data.limit) or a narrower network"
            )
        self.register_buffer("features", torch.zeros(samples, width))
        self.register_buffer("labels", torch.full((samples,), NOBODY))
        self.register_buffer("numbers", torch.full((samples,), NOBODY))

    def _width(self, data_spec: DataSpec) -> int:
        """How many features an image has."""
        device = next((parameter.device for parameter in self.model.parameters()), self._mean.device)
        image = torch.zeros(1, *data_spec.image_shape, device=device)
        return self._head_input(image).shape[1]

    @torch.no_grad()
    def _head_input(self, image_bchw: Tensor) -> Tensor:
        """(b, f) what the head is given for normalised images, of maps the means, in single precision and eval mode."""
        inputs: list[Tensor] = []
        modes = [(module, module.training) for module in self.model.modules()]
        handle = self.model.get_submodule(self._head).register_forward_pre_hook(
            lambda module, arguments: inputs.append(arguments[0])
        )
        try:
            with _single_precision(image_bchw.device):
                self.model.eval()(image_bchw)
        finally:
            handle.remove()
            for module, training in modes:
                module.training = training
        if len(inputs) != 1:
            raise UserError(
                f"the network's head, {self._head}, is used {len(inputs)} times for an image; knn needs once"
            )
        features = at_least_single(inputs[0])
        return (features.mean((2, 3)) if features.ndim == 4 else features).flatten(1)

    def embedded(self, image_bchw: Tensor) -> Tensor:
        """(b, c, h, w) uint8 images -> (b, f) features at length 1.

        Args:
            image_bchw: The images.
        """
        features = self._head_input((image_bchw.to(self._mean.device) - self._mean) / self._std)
        return torch.nn.functional.normalize(features, dim=1)

    def forward(self, image_bchw: Tensor) -> Tensor:
        """(b, c, h, w) uint8 images -> (b, classes) logarithms of the classes' shares of the votes."""
        return self._voted(self.embedded(image_bchw) @ self.features.T)

    def scores_of(self, batch: Batch) -> Tensor:
        """As :meth:`forward`, without the votes of images about themselves."""
        cosines = self.embedded(batch["image"]) @ self.features.T
        if "index" in batch:
            itself = (batch["index"][:, None] == self.numbers) & (cosines > ITSELF)
            cosines = cosines.masked_fill(itself, -torch.inf)
        return self._voted(cosines)

    def _voted(self, cosines_bn: Tensor) -> Tensor:
        """(b, classes) logarithms of shares."""
        nearest = cosines_bn.masked_fill(self.labels == NOBODY, -torch.inf).topk(self.spec.neighbours, dim=1)
        if self.spec.weighting == "exponential":
            weights = (nearest.values / self.spec.temperature).exp()
        else:  # of as many votes those of nearer images count for more
            weights = torch.where(nearest.values.isfinite(), 1 + nearest.values / (4 * self.spec.neighbours), 0)
        votes = weights.new_zeros(weights.shape[0], self._classes)
        votes = votes.scatter_add(1, self.labels[nearest.indices].clamp(min=0), weights)
        return (votes / votes.sum(1, keepdim=True)).clamp(min=SMALLEST_SHARE).log()

    def losses_of(self, scores_bc: Tensor, label_b: Tensor) -> Tensor:
        """(b,) minus the logarithm of the right class's share."""
        return -scores_bc.gather(1, label_b.clamp(0, self._classes - 1)[:, None])[:, 0]

    def fit(self, batches: Iterable[Batch], *, seed: int, samples: int, ask: Callable[[], None] = lambda: None) -> None:
        """Keep the features of all training images.

        Args:
            batches: The training images in a fixed order.
            seed: Not used: nothing is drawn.
            samples: How many images there are.
            ask: Called between batches; raises where the fit is to be left.

        Raises:
            UserError: Fewer images than neighbours could be read.
        """
        first = 0
        for batch in batches:
            ask()
            valid = batch["valid"]
            features = self.embedded(batch["image"][valid])
            here = slice(first, first + len(features))
            self.features[here], self.labels[here] = features, batch["label"][valid].to(self.labels.device)
            self.numbers[here] = batch["index"][valid].to(self.numbers.device)
            first += len(features)
        if first < self.spec.neighbours:
            raise UserError(
                f"task.neighbours is {self.spec.neighbours}, and {first} images could be read; ask for fewer"
            )


def _single_precision(device: torch.device) -> AbstractContextManager[Any]:
    """In the body nothing is computed in half precision: features of the fit and of validation are to be the same."""
    return nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)


def build(spec: KnnSpec, data_spec: DataSpec, *, model: nn.Module) -> KnnProbe:
    """The task knn, on images with labels.

    Args:
        spec: What the user chose.
        data_spec: The images and classes.
        model: The network whose features are probed.

    Raises:
        UserError: The slot model holds several networks, the data have no images or fewer than two classes, or they
            and the arguments do not fit.
    """
    check_one_of_each(spec.name, model=model)
    check_fields(spec.name, data_spec, "image", "label")
    if data_spec.num_classes < 2:
        raise UserError(f"task {spec.name} needs data with two classes or more; these have {data_spec.num_classes}")
    return KnnProbe(data_spec, model, spec)
