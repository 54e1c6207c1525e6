"""The bag of visual words: what came before convolutional networks, as a baseline (Csurka et al. 2004).

Small patches are described, the descriptors of all training images make a vocabulary, an image becomes a histogram of
its words (or a Fisher vector), for each cell of a pyramid, and a linear SVM tells the classes apart.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from expflow.data.dataspec import DataSpec
from expflow.errors import UserError
from expflow.tasks.base import Batch, check_fields
from expflow.tasks.bovw_spec import MOST_FEATURES, BovwSpec
from expflow.tasks.fitted_classifier import FittedClassifier
from expflow.tasks.local_descriptors import LocalDescriptors, describe, descriptor_width
from expflow.tasks.visual_words import (
    DescriptorSample,
    fisher_scores,
    normalised,
    pooled,
    pyramid_cells,
    room_for,
    words_histogram,
)

logger = logging.getLogger(__name__)

NUMBERS_AT_ONCE = 2**25
"""Most numbers that descriptors are made into before they are added up: of as many images as these allow."""
MOST_ROUNDS = 5000
"""Passes of the SVM's solver at most."""
SMALLEST_VARIANCE = 1e-4
"""Added to the variances of the mixture: patches without contrast are all alike."""

Ask = Callable[[], None]
"""Called between batches; raises where the fit is to be left."""


class BovwTask(FittedClassifier):
    """Names the class of an image by its visual words; measures loss, top-1 and, with more than five classes, top-5.

    The loss is what the SVM makes small beside its weights: for a sample, the sum over classes k of
    max(0, 1 - y s_k)^2 with y = 1 for its own class and -1 for the others.

    Args:
        data_spec: The images and classes.
        spec: What the user chose.

    Raises:
        UserError: A patch is larger than an image, or an image would have too many features.
    """

    def __init__(self, data_spec: DataSpec, spec: BovwSpec) -> None:
        super().__init__(data_spec.num_classes)
        self.spec = spec
        if spec.patch > (side := min(data_spec.image_shape[1:])):
            raise UserError(f"task.patch is {spec.patch}, and the images have {side} pixels; take a smaller patch")
        width, words = descriptor_width(spec, data_spec.in_channels), spec.words
        of_word = 2 * width if spec.encoding == "fisher" else 1
        self.features = pyramid_cells(spec.pyramid) * words * of_word
        if self.features > MOST_FEATURES:
            raise UserError(
                f"task bovw makes {self.features:,} numbers of an image, and at most {MOST_FEATURES:,} are allowed;"
                " take fewer words or levels of the pyramid"
            )
        self.centres = _fixed(words, width)
        """(k, d) the words, or the means of the mixture."""
        if spec.encoding == "fisher":
            self.shares, self.variances = _fixed(words), _fixed(words, width)
        self.coefficients, self.intercepts = _fixed(self._classes, self.features), _fixed(self._classes)

    def encoded(self, descriptors: LocalDescriptors) -> Tensor:
        """(b, features) what images are in words.

        Args:
            descriptors: Those of the images, on the CPU.
        """
        images, points = descriptors.values.shape[:2]
        of_word = 1 if self.spec.encoding == "histogram" else 2 * self.centres.shape[1]
        at_once = max(1, NUMBERS_AT_ONCE // (points * self.spec.words * of_word))
        parts = []
        for first in range(0, images, at_once):
            part = LocalDescriptors(
                descriptors.values[first : first + at_once],
                descriptors.places[first : first + at_once],
                descriptors.present[first : first + at_once],
            )
            parts.append(pooled(self._scores(part.values), part, self.spec.pyramid))
        return normalised(torch.cat(parts), self.spec.power)

    def _scores(self, values_bnd: Tensor) -> Tensor:
        """(b, n, f) what each descriptor counts for."""
        centres = self.centres.cpu()
        if self.spec.encoding == "histogram":
            return words_histogram(values_bnd, centres)
        return fisher_scores(values_bnd, self.shares.cpu(), centres, self.variances.cpu())

    @torch.no_grad()
    def forward(self, image_bchw: Tensor) -> Tensor:
        """(b, c, h, w) uint8 images -> (b, classes) scores of the SVM."""
        features = self.encoded(describe(image_bchw.cpu(), self.spec)).to(self.coefficients.device)
        return features @ self.coefficients.T + self.intercepts

    def fit(self, batches: Iterable[Batch], *, seed: int, samples: int, ask: Ask = lambda: None) -> None:
        """Make the vocabulary and the classifier. Equal images, seeds and threads give equal arrays.

        Args:
            batches: The training images in a fixed order; they are gone through twice.
            seed: What of the descriptors is drawn, and where k-means or the mixture begins.
            samples: How many images there are.
            ask: Called between batches; raises where the fit is to be left.

        Raises:
            UserError: There are fewer descriptors than words, one class alone, or too many features for the memory.
        """
        if not room_for(self.features, samples):
            raise UserError(
                f"{self.features:,} numbers for each of {samples:,} images do not fit into memory; take fewer words,"
                " levels of the pyramid or images (data.limit)"
            )
        sample = DescriptorSample(self.spec.sampled, seed)
        for batch in batches:
            ask()
            descriptors = describe(batch["image"][batch["valid"]].cpu(), self.spec)
            sample.add(descriptors.values[descriptors.present])
        self._make_vocabulary(sample.values, seed)
        features, labels = list[Tensor](), list[Tensor]()
        for batch in batches:
            ask()
            features.append(self.encoded(describe(batch["image"][batch["valid"]].cpu(), self.spec)))
            labels.append(batch["label"][batch["valid"]].cpu())
        ask()
        self._make_classifier(torch.cat(features).numpy(), torch.cat(labels).numpy(), seed)

    def _make_vocabulary(self, values_nd: Tensor, seed: int) -> None:
        if len(values_nd) < self.spec.words:
            raise UserError(
                f"the training images give {len(values_nd)} descriptors, too few for {self.spec.words} words; take"
                " fewer words, or a smaller stride"
            )
        values, number = values_nd.double().numpy(), seed % 2**32
        with _logged_warnings("the vocabulary"):
            if self.spec.encoding == "histogram":
                from sklearn.cluster import KMeans

                means = KMeans(self.spec.words, n_init=1, random_state=number).fit(values)
                _set(self.centres, means.cluster_centers_)
                return
            from sklearn.mixture import GaussianMixture

            mixture = GaussianMixture(
                self.spec.words, covariance_type="diag", reg_covar=SMALLEST_VARIANCE, random_state=number
            ).fit(values)
        _set(self.centres, mixture.means_)
        _set(self.variances, mixture.covariances_)
        _set(self.shares, np.maximum(mixture.weights_, np.finfo(np.float32).tiny))

    def _make_classifier(self, features: NDArray[np.float32], labels: NDArray[np.int64], seed: int) -> None:
        from sklearn.svm import LinearSVC

        present = np.unique(labels)
        if len(present) < 2:
            raise UserError("all training images are of one class: there is nothing to tell apart")
        svm = LinearSVC(C=self.spec.cost, dual="auto", max_iter=MOST_ROUNDS, random_state=seed % 2**32)
        with _logged_warnings("the classifier"):
            svm.fit(features, labels)
        rows, offsets = svm.coef_, svm.intercept_
        if len(present) == 2:  # scikit-learn gives one row, for the second class
            rows, offsets = np.concatenate([-rows, rows]), np.concatenate([-offsets, offsets])
        coefficients, intercepts = np.zeros(self.coefficients.shape), -np.ones(self._classes)
        coefficients[present], intercepts[present] = rows, offsets  # a class without images is always answered no
        _set(self.coefficients, coefficients)
        _set(self.intercepts, intercepts)

    def losses_of(self, scores_bc: Tensor, label_b: Tensor) -> Tensor:
        """(b,) squared hinge losses, summed over the classes."""
        own = torch.nn.functional.one_hot(label_b.clamp(0, self._classes - 1), self._classes) * 2 - 1
        return (1 - own * scores_bc).clamp(min=0).square().sum(1)


def _fixed(*shape: int) -> nn.Parameter:
    """Numbers that no gradient changes."""
    return nn.Parameter(torch.zeros(*shape), requires_grad=False)


def _set(parameter: nn.Parameter, values: NDArray[Any]) -> None:
    parameter.data.copy_(torch.from_numpy(np.ascontiguousarray(values)))


@contextmanager
def _logged_warnings(what: str) -> Iterator[None]:
    """What scikit-learn warns of in the body goes into the trial's log."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for warning in caught:
        logger.warning("%s: %s", what, warning.message)


def build(spec: BovwSpec, data_spec: DataSpec) -> BovwTask:
    """The task bovw, on images with labels.

    Args:
        spec: What the user chose.
        data_spec: The images and classes.

    Raises:
        UserError: The data have no images or no classes, or they and the arguments do not fit.
    """
    check_fields(spec.name, data_spec, "image")
    if data_spec.num_classes < 2:
        raise UserError(f"task {spec.name} needs data with two classes or more; these have {data_spec.num_classes}")
    return BovwTask(data_spec, spec)
