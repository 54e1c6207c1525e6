"""A user's module and callback that write artifacts."""

import random

import numpy as np
import torch
from pytorch_lightning.callbacks import Callback

from expflow.tasks.samples import SampleTable
from tests.training.user_code import Plain


class Pictured(Plain):
    """Writes a picture after each validation, and adds a callback that writes a text."""

    def configure_callbacks(self):
        return [Noting()]

    def on_validation_epoch_end(self):
        image = np.full((4, 6, 3), self.current_epoch, np.uint8)
        self.trainer.artifacts.write_image("filters", image, step=self.global_step)


class Noting(Callback):
    def on_train_end(self, trainer, pl_module):
        trainer.artifacts.write_text("note", f"{trainer.current_epoch} epochs", step=trainer.global_step)


class Drawing(Plain):
    """Draws pictures at each validation, of noise from the generator and from everywhere else."""

    def draw_samples(self, generator):
        careless = torch.rand(3, 1, 8, 8) + float(np.random.rand()) + random.random()
        return (torch.rand(3, 1, 8, 8, generator=generator) + careless) / 4


class Telling(Plain):
    """Samples that are text."""

    def draw_samples(self, generator):
        return SampleTable(["epoch", "text"], [[str(self.current_epoch), "a, b"]])


class Wrong(Plain):
    """Samples that are none."""

    def draw_samples(self, generator):
        return [1, 2]
