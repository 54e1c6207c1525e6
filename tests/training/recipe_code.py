"""Tasks and data of a user's that make visible what the trainer's keys do."""

import torch
from pytorch_lightning import LightningDataModule, LightningModule
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from expflow.data.dataspec import DataSpec, FieldSpec
from tests.training.user_code import CLASSES, blobs, collate


class InOrder(LightningDataModule):
    """Images in a fixed order: ``samples`` of them for training, 13 for validation."""

    def __init__(self, batch_size: int = 8, samples: int = 30):
        super().__init__()
        self.batch_size, self.samples = batch_size, samples
        fields = {"image": FieldSpec((1, 8, 8), "uint8"), "label": FieldSpec((), "int64")}
        self.data_spec = DataSpec(fields, tuple("abc"), {"train": samples}, (0.4,), (0.3,))

    def train_dataloader(self):
        return DataLoader(TensorDataset(*blobs(self.samples, 0)), self.batch_size, collate_fn=collate)

    def val_dataloader(self):
        return DataLoader(TensorDataset(*blobs(13, 1)), self.batch_size, collate_fn=collate)


class Scored(LightningModule):
    """One weight that each step moves by -1 times the rate; ``val/score`` is what the script says for each epoch."""

    def __init__(self, scores=(), lr: float = 1.0, metric: str = "val/score", optimizer=None, schedule=None):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros((), dtype=torch.float64))
        self.scores, self.lr, self.metric = list(scores), lr, metric
        self.optimizer, self.schedule = optimizer, schedule
        self.sizes = []

    def training_step(self, batch, batch_idx):
        self.sizes.append(batch["image"].shape[-1])
        return self.weight

    def validation_step(self, batch, batch_idx):
        values = {"val/weight": self.weight.detach(), "val/pixels": float(batch["image"].shape[-1])}
        if self.scores:
            values[self.metric] = float(self.scores[min(self.current_epoch, len(self.scores) - 1)])
        self.log_dict(values)

    def on_train_epoch_end(self):
        rate = self.optimizers().param_groups[0]["lr"]
        self.log_dict({"train/pixels": float(self.sizes[-1]), "train/rate": rate, "train/weight": self.weight.detach()})

    def configure_optimizers(self):
        if self.optimizer is None:
            return torch.optim.SGD(self.parameters(), lr=self.lr)
        optimizer = self.optimizer(self)
        schedule = self.schedule(optimizer, 100, 4)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class Measured(LightningModule):
    """A network whose loss is the mean over a batch, as most people write it."""

    def __init__(self, lr: float = 0.1):
        super().__init__()
        self.net, self.lr = nn.Linear(64, CLASSES, dtype=torch.float64), lr
        nn.init.zeros_(self.net.weight)
        nn.init.zeros_(self.net.bias)

    def loss(self, batch):
        scores = self.net(batch["image"].flatten(1).double() / 255)
        return nn.functional.cross_entropy(scores, batch["label"])

    def training_step(self, batch, batch_idx):
        return self.loss(batch)

    def validation_step(self, batch, batch_idx):
        self.log("val/loss", self.loss(batch), batch_size=len(batch["label"]))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.lr)


class OwnValidation(Measured):
    """Has a loader for validation, beside digits that the recipe names."""

    def __init__(self):
        super().__init__()
        self.net = nn.Linear(64, 10, dtype=torch.float64)

    def val_dataloader(self):
        return DataLoader(TensorDataset(*blobs(13, 1)), 8, collate_fn=collate)


class Hungry(Scored):
    """Asks for more memory than there is."""

    def __init__(self, how: str):
        super().__init__()
        self.how = how

    def training_step(self, batch, batch_idx):
        if self.how == "torch":
            torch.empty(2**58, dtype=torch.uint8)
        elif self.how == "python":
            raise MemoryError
        raise RuntimeError("the allocator is fine")


class Zero(nn.Linear):
    """A linear classifier that begins at zero."""

    def __init__(self, num_classes: int):
        super().__init__(64, num_classes)
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, x):
        return super().forward(x.flatten(1))


class Kinds(nn.Module):
    """Says of which kind its scores are by one of them."""

    def __init__(self, num_classes: int):
        super().__init__()
        self.head = nn.Linear(64, num_classes)
        self.seen = []

    def forward(self, x):
        scores = self.head(x.flatten(1))
        if self.training:
            self.seen.append((scores.dtype, self.head.weight.dtype))
            if any(kinds != (torch.bfloat16, torch.float32) for kinds in self.seen):
                raise ValueError(f"computed in {self.seen[-1]}")
        return scores
