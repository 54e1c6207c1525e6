"""A LightningModule that costs Lightning less time: what it does around every step, for modules of our kind."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from pytorch_lightning import LightningModule
from torch import Tensor


class Quick(LightningModule):
    """Base of tasks whose batches are mappings of tensors. At steps of a few milliseconds these are some percent.

    Nothing here changes a result.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Work out once what parameters the steps have: Lightning asks before each step."""
        super().__init_subclass__(**kwargs)
        for name in ("training_step", "validation_step"):
            if name in cls.__dict__:
                step: Any = cls.__dict__[name]
                step.__signature__ = inspect.signature(step)

    def __setattr__(self, name: str, value: Any) -> None:
        """A text in the place of another needs none of the care that parameters and modules get.

        Lightning notes the name of each hook in its module before and after it calls it, some forty times a step.
        """
        if (value is None or value.__class__ is str) and name in self.__dict__:
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Each field to ``device``, from pinned memory without waiting; what is no tensor stays."""
        if not isinstance(batch, dict):
            return super().transfer_batch_to_device(batch, device, dataloader_idx)
        return {key: _moved(value, device) for key, value in batch.items()}


def _moved(value: Any, device: torch.device) -> Any:
    if not isinstance(value, Tensor) or value.device == device:
        return value
    return value.to(device, non_blocking=value.is_pinned())
