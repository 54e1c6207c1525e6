"""A network's probabilities averaged over several views of each image."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn
from torch.nn import functional

from expflow.errors import UserError
from expflow.tasks.base import at_least_single
from expflow.tasks.classification import Classification
from expflow.tasks.segmentation import Segmentation
from expflow.training.evaluation.augmented_views import AugmentedViews


class ViewAverage(nn.Module):
    """A network that sees each image in several views; gives the logarithm of its mean probabilities.

    Of maps, probabilities are brought to the place and size of the image before they are averaged; where windows
    overlap, each pixel has the mean over the windows that it is in.

    Args:
        network: (b, c, h, w) -> scores (b, classes) or (b, classes, h', w'), or a mapping with these under ``out``.
        views: The views.

    Source:
        Krizhevsky et al. 2012, section 4.1 (flips); Simonyan and Zisserman 2015, section 3.2 (scales); Oquab et al.
        2014, section 4 (windows).
    """

    def __init__(self, network: nn.Module, views: AugmentedViews) -> None:
        super().__init__()
        self.network, self.views = network, views

    def forward(self, image_bchw: Tensor) -> Tensor:
        """Logarithms of probabilities: (b, classes), or (b, classes, h, w) at the size of the images."""
        size = image_bchw.shape[2:]
        parts = [self._of_scale(image_bchw, scale, size) for scale in self.views.scales]
        mean = torch.stack(parts).mean(0)
        return mean.clamp(min=torch.finfo(mean.dtype).tiny).log()

    def _of_scale(self, image_bchw: Tensor, scale: float, size: torch.Size) -> Tensor:
        height, width = (max(round(scale * side), 1) for side in size)
        scaled = image_bchw
        if (height, width) != tuple(size):
            scaled = functional.interpolate(image_bchw, size=(height, width), mode="bilinear", antialias=True)
        probabilities = self._of_windows(scaled)
        if self.views.flip:
            mirrored = self._of_windows(scaled.flip(-1))
            probabilities = (probabilities + (mirrored.flip(-1) if mirrored.ndim == 4 else mirrored)) / 2
        if probabilities.ndim == 4 and probabilities.shape[2:] != size:
            return functional.interpolate(probabilities, size=tuple(size), mode="bilinear", align_corners=False)
        return probabilities

    def _of_windows(self, image_bchw: Tensor) -> Tensor:
        """Probabilities of an image, seen whole or through windows: (b, classes), or at every pixel."""
        window, (height, width) = self.views.window, image_bchw.shape[2:]
        if window is None or (height <= window and width <= window):
            return self._probabilities(image_bchw)
        parts = [
            (slice(top, top + window), slice(left, left + window))
            for top in window_starts(height, window)
            for left in window_starts(width, window)
        ]
        given = [self._probabilities(image_bchw[:, :, rows, columns]) for rows, columns in parts]
        if given[0].ndim == 2:
            return torch.stack(given).mean(0)
        total = given[0].new_zeros((*given[0].shape[:2], height, width))
        views = total.new_zeros((height, width))
        for (rows, columns), of_window in zip(parts, given, strict=True):
            total[:, :, rows, columns] += of_window
            views[rows, columns] += 1
        return total / views

    def _probabilities(self, image_bchw: Tensor) -> Tensor:
        try:
            given: Any = self.network(image_bchw)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, ValueError) as error:
            height, width = image_bchw.shape[2:]
            raise UserError(
                f"--augment {self.views.text}: the network does not take a view of {height}x{width} pixels ({error});"
                " leave scales and windows out, or choose others"
            ) from error
        scores = given.get("out") if isinstance(given, Mapping) else given
        if not isinstance(scores, Tensor) or scores.ndim not in (2, 4):
            raise UserError(f"--augment {self.views.text}: the network gives no scores that could be averaged")
        scores = at_least_single(scores)
        if scores.ndim == 4 and scores.shape[2:] != image_bchw.shape[2:]:
            size = tuple(image_bchw.shape[2:])
            scores = functional.interpolate(scores, size=size, mode="bilinear", align_corners=False)
        return scores.softmax(1)


def window_starts(length: int, window: int) -> list[int]:
    """Where windows begin that overlap by half and cover a side, the last one ending with it.

    Args:
        length: Pixels of the side.
        window: Pixels of a window.
    """
    if length <= window:
        return [0]
    steps = math.ceil((length - window) / (window / 2))
    return [round(step * (length - window) / steps) for step in range(steps + 1)]


@contextmanager
def averaged_views(task: LightningModule, views: AugmentedViews | None) -> Iterator[None]:
    """Within it the task's network averages over views.

    Args:
        task: The task; its network is under ``model``.
        views: The views; None: the network stays as it is.

    Raises:
        UserError: The task's network gives nothing that can be averaged.
    """
    if views is None:
        yield
        return
    if not isinstance(task, Classification | Segmentation):
        raise UserError(
            f"--augment {views.text}: probabilities are averaged for the tasks classification and segmentation; this"
            " recipe has another one"
        )
    network = task.model
    task.model = ViewAverage(network, views).eval()
    try:
        yield
    finally:
        task.model = network
