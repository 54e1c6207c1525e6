"""What norms remember, the same on all ranks whenever it is used."""

from __future__ import annotations

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.trainer.states import TrainerFn

from expflow.training.ranks import as_on_the_first


class SameBuffers(Callback):
    """Before a validation all ranks take the running statistics of rank 0, which are the ones that are saved.

    Each rank has those of its own samples otherwise: val would be measured on several networks, and a training that
    goes on from a checkpoint would report other numbers. DDP does the same before each forward pass in training.
    """

    @property
    def state_key(self) -> str:
        """Where checkpoints keep the state; there is none."""
        return "same_buffers"

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Within a training; elsewhere Lightning has done it."""
        if trainer.state.fn == TrainerFn.FITTING and trainer.world_size > 1:
            as_on_the_first(each for each in pl_module.buffers() if each.is_floating_point())
