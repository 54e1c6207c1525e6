"""Running statistics of norms, the same on all ranks whenever they are used."""

from __future__ import annotations

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.trainer.states import TrainerFn

from expflow.training.ranks import broadcast_from_rank_zero


class BufferSync(Callback):
    """Before a validation all ranks take the running statistics of rank 0, which are the ones that are saved.

    Each rank has those of its own samples otherwise: val would be measured on several networks, and a training that
    goes on from a checkpoint would report other numbers. DDP does the same before each forward pass in training.
    """

    @property
    def state_key(self) -> str:
        """Where checkpoints keep the state; there is none."""
        return "same_buffers"

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Within a training; before other validations Lightning does it."""
        if trainer.state.fn == TrainerFn.FITTING and trainer.world_size > 1:
            broadcast_from_rank_zero(buffer for buffer in pl_module.buffers() if buffer.is_floating_point())
