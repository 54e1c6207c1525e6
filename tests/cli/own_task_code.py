"""A user's task, written from docs/writing_a_task.md alone: by how many quarter turns was an image rotated?"""

import torch
from pytorch_lightning import LightningModule
from torch.nn.functional import cross_entropy

from expflow.tasks.keyed_noise import FIXED, keyed_uniform, sample_keys
from expflow.tasks.samples import SampleTable


class Turns(LightningModule):
    def __init__(self, model, optimizer, schedule, data_spec, num_classes, turns: int = 4, label_noise: float = 0.0):
        super().__init__()
        self.automatic_optimization = False
        self.model, self.make_optimizer, self.make_schedule = model, optimizer, schedule
        self.turns, self.label_noise, self.seed = turns, label_noise, torch.initial_seed()
        self.mean, self.std = data_spec.mean[0], data_spec.std[0]
        self.sure = torch.nn.Linear(num_classes, 1)
        self.register_buffer("seen", torch.zeros(()))
        self.rows = []

    def turned(self, batch, epoch, noise):
        drawn = keyed_uniform(sample_keys(batch, self.seed, epoch), (3,), 0)
        turn = (drawn[:, 0] * self.turns).long()
        image = (batch["image"] / 255 - self.mean) / self.std
        image = torch.stack([torch.rot90(one, int(times), (1, 2)) for one, times in zip(image, turn, strict=True)])
        wrong = drawn[:, 1] < noise
        return image, torch.where(wrong, (drawn[:, 2] * self.turns).long(), turn)

    def training_step(self, batch, batch_idx):
        image, turn = self.turned(batch, self.current_epoch, self.label_noise)
        valid, count = batch["valid"], batch["valid"].sum()
        of_model, of_sure = self.optimizers()
        scores = self.model(image)
        losses = cross_entropy(scores[:, : self.turns], turn, reduction="none") * valid
        loss = losses.sum() / count.clamp(min=1)
        of_model.zero_grad()
        self.manual_backward(loss)
        of_model.step()
        guess = self.sure(scores.detach())[:, 0]
        of_sure.zero_grad()
        self.manual_backward(((guess - losses.detach()).square() * valid).sum() / count.clamp(min=1))
        of_sure.step()
        self.lr_schedulers().step()
        self.seen += 1
        self.log("train/loss", loss, on_step=False, on_epoch=True, batch_size=int(count))

    def validation_step(self, batch, batch_idx):
        image, turn = self.turned(batch, FIXED, 0.0)
        named = self.model(image)[:, : self.turns].argmax(1)
        hits = (named == turn)[batch["valid"]]
        self.log("val/top1", hits.float().mean(), batch_size=len(hits))
        self.log("val/steps", self.seen, batch_size=len(hits))
        if batch_idx == 0:
            self.rows = [(str(int(right)), str(int(given))) for right, given in zip(turn, named, strict=True)][:6]

    def draw_samples(self, generator):
        return SampleTable(("turns", "named"), self.rows)

    def configure_optimizers(self):
        optimizer = self.make_optimizer(self.model)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = self.make_schedule(optimizer, steps, self.trainer.num_training_batches)
        return [optimizer, torch.optim.SGD(self.sure.parameters(), lr=0.01)], [schedule]
