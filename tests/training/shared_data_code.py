"""Data modules and a module of a user's that show which samples each rank has seen, and what became of the metrics."""

import json
import time
from pathlib import Path

import torch
import torchmetrics
from pytorch_lightning import LightningDataModule, LightningModule
from pytorch_lightning.utilities import CombinedLoader
from torch import nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)


class Numbered(Dataset):
    """Samples that are their own numbers."""

    def __init__(self, samples):
        self.samples = samples

    def __len__(self):
        return self.samples

    def __getitem__(self, index):
        number = torch.as_tensor(index)  # one, or a whole batch of them
        return {"x": number[..., None] / self.samples, "number": number}


class Streamed(IterableDataset):
    def __init__(self, samples, part=False):
        self.samples, self.part = samples, part

    def __iter__(self):
        here = torch.distributed.is_initialized() and self.part
        first, step = (torch.distributed.get_rank(), torch.distributed.get_world_size()) if here else (0, 1)
        numbered = Numbered(self.samples)
        yield from (numbered[index] for index in range(first, self.samples, step))


class Endless(Sampler):
    """A sampler that does not say how many samples it gives."""

    def __init__(self, samples):
        self.samples = samples

    def __iter__(self):
        yield from range(self.samples)


class Growing:
    """A batch sampler of the user's: batches of 1, 2, 3, … samples."""

    def __init__(self, samples):
        self.batches, first = [], 0
        while first < samples:
            size = min(len(self.batches) + 1, samples - first)
            self.batches.append(list(range(first, first + size)))
            first += size

    def __iter__(self):
        yield from self.batches

    def __len__(self):
        return len(self.batches)


class CustomLoader(DataLoader):
    """A loader class of the user's, with arguments of its own."""

    def __init__(self, dataset, size):
        super().__init__(dataset, batch_size=size, shuffle=True)


class NumberedData(LightningDataModule):
    """``train`` and ``val`` name the kind of the loaders; numbers of val begin at 1,000."""

    def __init__(self, train="shuffled", val="plain", samples: int = 1000, val_samples: int = 101, size: int = 50):
        super().__init__()
        self.kinds, self.samples, self.val_samples, self.size = (train, val), samples, val_samples, size

    def train_dataloader(self):
        return loader(self.kinds[0], self.samples, self.size)

    def val_dataloader(self):
        return loader(self.kinds[1], self.val_samples, self.size)


class PreparedData(NumberedData):
    """Writes a line whenever it is asked to prepare anything; ``busy`` is a file that must not be there twice."""

    def __init__(self, log: str, seconds: float = 0.0, **arguments):
        super().__init__(**arguments)
        self.log, self.seconds = Path(log), seconds

    def prepare_data(self):
        busy = self.log.with_suffix(".busy")
        busy.touch(exist_ok=False)
        time.sleep(self.seconds)
        with self.log.open("a") as file:
            file.write("prepared\n")
        busy.unlink()


def loader(kind, samples, size):
    dataset = Numbered(samples)
    make = {
        "plain": lambda: DataLoader(dataset, size),
        "shuffled": lambda: DataLoader(dataset, size, shuffle=True),
        "drop_last": lambda: DataLoader(dataset, size, shuffle=True, drop_last=True),
        "subset": lambda: DataLoader(dataset, size, sampler=SubsetRandomSampler(range(0, samples, 2))),
        "weighted": lambda: DataLoader(dataset, size, sampler=WeightedRandomSampler([1.0] * samples, samples)),
        "workers": lambda: DataLoader(dataset, size, shuffle=True, num_workers=1, persistent_workers=True),
        "growing": lambda: DataLoader(dataset, batch_sampler=Growing(samples)),
        "batches": lambda: DataLoader(dataset, size, sampler=SequentialSampler(dataset)),
        "custom": lambda: CustomLoader(dataset, size),
        "whole batches": lambda: DataLoader(
            dataset, batch_size=None, sampler=BatchSampler(SequentialSampler(dataset), size, False), collate_fn=dict
        ),
        "distributed": lambda: DataLoader(
            dataset, size, sampler=DistributedSampler(dataset, seed=3) if torch.distributed.is_initialized() else None
        ),
        "two": lambda: {"a": DataLoader(dataset, size, shuffle=True), "b": DataLoader(dataset, size)},
        "combined": lambda: CombinedLoader([DataLoader(dataset, size), DataLoader(dataset, size)], "max_size_cycle"),
        "iterable": lambda: DataLoader(Streamed(samples), size),
        "own parts": lambda: DataLoader(Streamed(samples, part=True), size),
        "endless": lambda: DataLoader(dataset, size, sampler=Endless(samples)),
        "generator": lambda: (dataset[index] for index in range(samples)),
    }
    return make[kind]()


class Seeing(LightningModule):
    """Logs in every way there is; writes the numbers that each rank has seen beside the trial's folder."""

    def __init__(self, out: str = ""):
        super().__init__()
        self.out = out
        self.net = nn.Linear(1, 1)
        self.mean = torchmetrics.MeanMetric()
        self.seen = {"train": [], "val": []}

    def _note(self, split, batch):
        parts = list(batch.values()) if "x" not in batch else [batch]
        for part in parts:
            self.seen[split].append(part["number"].tolist())
        return parts[0]

    def training_step(self, batch, batch_idx):
        batch = self._note("train", batch if isinstance(batch, dict) else dict(enumerate(batch)))
        loss = self.net(batch["x"]).square().mean()
        number = batch["number"].float().mean()
        self.log("train/number", number, on_step=False, on_epoch=True, batch_size=len(batch["x"]))
        self.log("train/last", number)
        return loss

    def validation_step(self, batch, batch_idx):
        self._note("val", batch)
        number, samples = batch["number"].float(), len(batch["number"])
        self.mean(number)
        self.log("val/number", number.mean(), batch_size=samples)
        self.log("val/synced", number.mean(), batch_size=samples, sync_dist=True)
        self.log("val/torchmetrics", self.mean, batch_size=samples)
        self.log("val/sum", number.sum(), reduce_fx="sum", batch_size=samples)
        self.log("val/max", number.max(), reduce_fx="max", batch_size=samples)
        self.log("val/min", number.min(), reduce_fx="min", batch_size=samples)
        if (number == 7).any():
            self.log("val/only_one_rank", 7.0)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)

    def on_fit_end(self):
        if self.out:
            Path(f"{self.out}-{self.global_rank}.json").write_text(json.dumps(self.seen))


class EndSeeing(Seeing):
    """Has a hook at the end of a validation, from which on every rank must have seen everything."""

    def on_validation_epoch_end(self):
        last = self.seen["val"]
        self.log("val/batches", float(len(last)))


class SelfFed(Seeing):
    """Brings its loaders itself, and prepares what they read; ``kind`` is that of its training loader."""

    def __init__(self, out: str = "", kind: str = "shuffled"):
        super().__init__(out)
        self.kind = kind

    def prepare_data(self):
        if self.out:
            with Path(f"{self.out}.prepared").open("a") as file:
                file.write("prepared\n")

    def setup(self, stage):
        self.sizes = {"train": 200, "val": 101, "test": 7}

    def train_dataloader(self):
        return loader(self.kind, self.sizes["train"], 50)

    def val_dataloader(self):
        return loader("plain", self.sizes["val"], 50)

    def test_dataloader(self):
        return loader("plain", self.sizes["test"], 50)
