"""An exponential moving average of the weights, on which everything but training is measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from expflow.training.ranks import broadcast_from_rank_zero

KEY = "averaging"
"""Under which a checkpoint's ``callbacks`` hold the state of :class:`ExponentialMovingAverage`."""


class ExponentialMovingAverage(Callback):
    """Keeps m_t = (1 - d) sum_i d^(t - i) w_i / (1 - d^t) of the weights w_1 … w_t after each optimizer step.

    It is the exponential mean of decay d, corrected as Adam's are (Kingma and Ba 2015, section 3): the weights that
    were drawn at the start have no part in it, however short the trial. Running statistics of norms are averaged like
    weights, and are those of rank 0. The module holds the mean while it is validated and the weights otherwise; a
    checkpoint holds both.

    Args:
        decay: The d above.
    """

    def __init__(self, decay: float) -> None:
        self._decay = decay
        self._updates, self._step = 0, 0
        self._means: dict[str, Tensor] = {}
        self._live: list[Tensor] = []
        self._weights: list[Tensor] = []

    @property
    def state_key(self) -> str:
        """Where checkpoints keep the state."""
        return KEY

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin with the weights as they are, or go on with what was restored."""
        self._attach(trainer, pl_module)

    def _attach(self, trainer: Trainer, pl_module: LightningModule) -> None:
        live = {name: weight for name, weight in pl_module.state_dict().items() if weight.is_floating_point()}
        kept = self._means
        self._means = {name: kept[name].to(weight) if kept else weight.clone() for name, weight in live.items()}
        self._live, self._step = list(live.values()), trainer.global_step

    def on_train_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        """After an optimizer step: m <- m + (w - m) (1 - d) / (1 - d^t)."""
        if trainer.global_step == self._step:  # still accumulating
            return
        self._step = trainer.global_step
        self._updates += 1
        share = (1 - self._decay) / (1 - self._decay**self._updates)
        average: Any = get_ema_multi_avg_fn(1 - share)
        average(list(self._means.values()), self._live, self._updates)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the mean in the place of the weights."""
        if self._updates:
            if not self._live:  # a finished training was restored, and is only measured
                self._attach(trainer, pl_module)
            if trainer.world_size > 1:  # those of weights are the same already
                broadcast_from_rank_zero(
                    self._means[name] for name, _ in pl_module.named_buffers() if name in self._means
                )
            self._weights = [weight.clone() for weight in self._live]
            _copy(self._means.values(), self._live)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the weights back."""
        _copy(self._weights, self._live)
        self._weights = []

    def state_dict(self) -> dict[str, Any]:
        """The mean, by the names of the module's state dict, and how many steps it is over."""
        return {"updates": self._updates, "means": self._means}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what :meth:`state_dict` gave."""
        self._updates, self._means = state_dict["updates"], dict(state_dict["means"])


def averaged_weights(callbacks: Mapping[str, Any]) -> dict[str, Tensor]:
    """The averaged entries of a state dict; none where nothing was averaged.

    ``weights | averaged_weights(callbacks)`` are the weights that ``val/*`` was measured on.

    Args:
        callbacks: The entry ``callbacks`` of a checkpoint.
    """
    return dict(callbacks.get(KEY, {}).get("means", {}))


@torch.no_grad()
def _copy(sources: Any, targets: list[Tensor]) -> None:
    for source, target in zip(sources, targets, strict=False):  # without a swap there are no sources
        target.copy_(source)
