"""A user's module and callbacks that log by ``self.logger`` in the ways that Lightning's loggers take."""

import numpy as np
import torch
from pytorch_lightning.callbacks import Callback

from tests.training.user_code import Plain


class Logged(Plain):
    def __init__(self, bad: str = ""):
        super().__init__()
        self.save_hyperparameters()
        self.bad = bad

    def training_step(self, batch, batch_idx):
        self.logger.experiment.add_image("every step", torch.rand(1, 4, 5), self.current_epoch)
        self.logger.log_metrics({"mine/step": self.global_step}, step=self.global_step)
        return super().training_step(batch, batch_idx)

    def on_validation_epoch_end(self):
        board, step = self.logger.experiment, self.global_step
        board.add_scalar("mine/scalar", torch.tensor(0.25), step)
        board.add_scalars("mine", {"one": 1, "two": 2.0}, step)
        board.add_images("several", torch.rand(5, 3, 4, 6), step)
        board.add_figure("figure", drawing(), step)
        board.add_text("notes", "in words", step)
        board.add_histogram("weights", self.net[1].weight, step)
        board.log({"mine/wandb": np.float32(0.5), "a picture": object(), "plot": Figure()}, step=step)
        board.add_mesh("mesh", torch.rand(3))
        board.log_image(np.zeros((3, 3), np.uint8), name="array", step=step)
        self.logger.log_image("named", [np.ones((4, 4, 3), np.float32), np.zeros((4, 4, 3))], step=step)
        self.logger.log_table("rows", ["a", "b"], [[1, "x,y"], [2, "z"]], step=step)
        self.logger.log_metrics({"mine/missing": float("nan")})
        if self.bad == "text":
            self.logger.log_metrics({"mine/text": "high"})
        if self.bad == "picture":
            board.add_image("text", "no picture", step)


class Figure:
    """What is called on a figure of matplotlib."""

    def savefig(self, file, format):
        from PIL import Image

        Image.new("RGB", (2, 2)).save(file, format)


def drawing():
    from matplotlib import pyplot

    figure, axes = pyplot.subplots()
    axes.plot([1, 2])
    return figure


class Watch(Callback):
    def __init__(self, every: int = 1, note: str = "seen"):
        self.every, self.note = every, note

    def on_train_epoch_end(self, trainer, pl_module):
        if (trainer.current_epoch + 1) % self.every == 0:
            trainer.logger.log_metrics({f"watch/{self.note}": trainer.current_epoch + 1})


def make_watch(every):
    return Watch(every, note="made")


class Refusing(Callback):
    def __init__(self):
        raise RuntimeError("not today")
