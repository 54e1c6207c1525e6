"""Progressive image size: training images grow over the epochs (Howard 2018; Tan and Le 2021, section 4)."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2.functional import resize

from expflow.errors import UserError


class ProgressiveResizing(Callback):
    """Resizes the training images of each batch, on the device, to the size of the epoch; masks and boxes with them.

    Before the first of ``sizes``, and in evaluation, images keep the size that the data have.

    Args:
        sizes: (epoch, pixels): from which epoch on images have which height and width.
        probe: Whether each new size is tried on one image first, so that a network that takes no such images is named,
            with its reason.
        masks: Names of the fields that hold masks or instances, which are resized by the nearest pixel.
    """

    def __init__(self, sizes: Sequence[tuple[int, int]], *, probe: bool, masks: Sequence[str] = ()) -> None:
        self._masks = masks
        self._epochs, self._pixels = [epoch for epoch, _ in sizes], [pixels for _, pixels in sizes]
        self._probe, self._probed = probe, set[int]()

    @property
    def state_key(self) -> str:
        """Where checkpoints keep the state; there is none."""
        return "image_sizes"

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Put the resized images in the batch."""
        number = bisect_right(self._epochs, trainer.current_epoch)
        if not number:
            return
        if not (isinstance(batch, dict) and isinstance(batch.get("image"), Tensor)):
            raise UserError("trainer.image_sizes needs batches that are mappings with a field `image`")
        pixels = self._pixels[number - 1]
        height, width = batch["image"].shape[-2:]
        batch["image"] = resize(batch["image"], [pixels, pixels], antialias=True)
        if isinstance(batch.get("boxes"), Tensor):
            batch["boxes"] = batch["boxes"] * batch["boxes"].new_tensor([pixels / width, pixels / height] * 2)
        if isinstance(batch.get("keypoints"), Tensor):
            batch["keypoints"] = batch["keypoints"] * batch["keypoints"].new_tensor(
                [pixels / width, pixels / height, 1]
            )
        for name in self._masks:
            batch[name] = resize(batch[name], [pixels, pixels], InterpolationMode.NEAREST_EXACT)
        if self._probe and pixels not in self._probed:
            self._probed.add(pixels)
            _try(pl_module, batch["image"][:1])


def _try(module: LightningModule, image_bchw: Tensor) -> None:
    """One image through the network as in evaluation, which draws nothing and changes nothing."""
    module.eval()
    try:
        with torch.no_grad():
            module(image_bchw)
    except (RuntimeError, ValueError, AssertionError) as error:  # what networks raise at a shape
        pixels = image_bchw.shape[-1]
        raise UserError(f"trainer.image_sizes: the network takes no images of {pixels}x{pixels}: {error}") from error
    finally:
        module.train()
