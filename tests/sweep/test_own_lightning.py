"""A module and a data module written for Lightning alone, swept as they are: seeds, results, resume, `train`."""

from __future__ import annotations

from pathlib import Path

import pytest

import expflow
from expflow.events import TrialStarted
from expflow.ledger import read
from tests.sweep.runs import Workplace

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(240)]

LITMODULE = '''\
"""An autoencoder of small digits, as its author runs it with Lightning's Trainer."""

import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split


class LitAutoEncoder(pl.LightningModule):
    def __init__(self, hidden=32, code=4, lr=1e-3):
        super().__init__()
        self.save_hyperparameters()
        self.encoder = nn.Sequential(nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, code))
        self.decoder = nn.Sequential(nn.Linear(code, hidden), nn.ReLU(), nn.Linear(hidden, 64))

    def forward(self, x):
        return self.encoder(x)

    def _error(self, batch):
        x, _ = batch
        x = x.view(x.size(0), -1)
        return F.mse_loss(self.decoder(self.encoder(x)), x)

    def training_step(self, batch, batch_idx):
        loss = self._error(batch)
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self._error(batch), prog_bar=True)

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=self.hparams.lr)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.9)
        return {"optimizer": optimizer, "lr_scheduler": scheduler}


class LitDigits(pl.LightningDataModule):
    def __init__(self, batch_size=32):
        super().__init__()
        self.batch_size = batch_size

    def prepare_data(self):
        load_digits()

    def setup(self, stage=None):
        digits = load_digits()
        images = torch.tensor(digits.images[:400], dtype=torch.float32) / 16
        whole = TensorDataset(images, torch.tensor(digits.target[:400]))
        self.train, self.val = random_split(whole, [320, 80], generator=torch.Generator().manual_seed(42))

    def train_dataloader(self):
        return DataLoader(self.train, batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.val, batch_size=self.batch_size)


class LitFed(LitAutoEncoder):
    """Brings its loaders itself."""

    def setup(self, stage):
        self.digits = LitDigits()
        self.digits.setup(stage)

    def train_dataloader(self):
        return self.digits.train_dataloader()

    def val_dataloader(self):
        return self.digits.val_dataloader()


if __name__ == "__main__":
    pl.Trainer(max_epochs=10).fit(LitAutoEncoder(), datamodule=LitDigits())
'''

EXPERIMENT = """\
about: {question: Which rate and width suit the autoencoder?}
data: {name: "litmodule:LitDigits"}
task: {name: "litmodule:LitAutoEncoder"}
trainer: {epochs: 2}
sweep:
  space:
    task.lr: [0.001, 0.01]
    task.hidden: [8, 32]
  seeds: 2
  metric: val_loss
  mode: min
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    made = Workplace(tmp_path_factory.mktemp("theirs"))
    (made.folder / "litmodule.py").write_text(LITMODULE)
    made.write(EXPERIMENT, "codes.yaml")
    return made


@pytest.fixture(scope="module")
def swept(place: Workplace) -> str:
    return place.run("sweep", "codes.yaml")


def test_it_is_swept_unchanged(place: Workplace, swept: str) -> None:
    assert "[8/8] done" in swept
    assert "Traceback" not in swept
    assert "Warning" not in swept
    results = expflow.results("codes", storage=place.folder / "runs")
    trials = results.trials
    assert list(trials["status"]) == ["done"] * 8
    assert {*zip(trials["task.lr"], trials["task.hidden"], trials["seed"], strict=True)} == {
        (lr, hidden, seed) for lr in (0.001, 0.01) for hidden in (8, 32) for seed in (0, 1)
    }
    assert trials["val_loss"].between(0, 1).all()
    assert trials["val_loss"].is_unique  # other rates, widths and seeds are other trainings
    assert results.best == {"task.lr": 0.01, "task.hidden": 32}
    assert results.leaderboard["val_loss"].is_monotonic_increasing  # `mode: min`
    curves = results.reports.groupby("trial")["val_loss"].agg(["first", "last", "size"])
    assert (curves["size"] == 2).all()
    assert (curves["last"] < curves["first"]).all()


def test_the_same_command_repeats_nothing(place: Workplace, swept: str) -> None:
    assert "nothing was left to run" in place.run("sweep", "codes.yaml")
    assert sum(isinstance(record.body, TrialStarted) for record in read(place.folder / "runs" / "codes")) == 8


DOCUMENTED = """\
about: {question: Do the modules of Lightning's documentation train as they are?}
data: {name: "documented_modules:DigitsDataModule"}
task: {name: "documented_modules:LitClassifier"}
trainer: {epochs: 2}
resources: {ranks: RANKS}
sweep:
  space:
    task:
      - {name: "documented_modules:LitClassifier"}
      - {name: "documented_modules:LitAutoEncoder"}
      - {name: "documented_modules:GAN"}
      - {name: "documented_modules:LitEpochEnd"}
      - {name: "documented_modules:LitPlateau"}
    data.batch_size: [8, 16]
  metric: progress/epoch
  mode: max
"""


@pytest.mark.parametrize("ranks", [1, 2])
def test_documented_modules_are_swept_as_they_are(place: Workplace, ranks: int) -> None:
    code = Path(__file__).parents[1] / "training/documented_modules.py"
    (place.folder / code.name).write_bytes(code.read_bytes())
    place.write(DOCUMENTED.replace("RANKS", str(ranks)), f"documented{ranks}.yaml")
    output = place.run("sweep", f"documented{ranks}.yaml")
    assert "[10/10] done" in output
    assert "Traceback" not in output
    trials = expflow.results(f"documented{ranks}", storage=place.folder / "runs").trials
    assert list(trials["status"]) == ["done"] * 10
    assert (trials["progress/epoch"] == 2).all()


def test_it_is_trained_alone(place: Workplace) -> None:
    assert "val_loss" in place.run("train", "codes.yaml")
    (trial,) = expflow.results("codes+train", storage=place.folder / "runs").trials.to_dict("records")
    assert trial["status"] == "done"
    assert 0 < trial["val_loss"] < 1


def test_one_that_brings_its_loaders_is_trained_without_data(place: Workplace) -> None:
    place.write("task: {name: 'litmodule:LitFed'}\ntrainer: {epochs: 1}\n", "fed.yaml")
    assert "1 trial of 1 config" in place.run("plan", "fed.yaml")
    place.run("train", "fed.yaml")
    results = expflow.results("fed", storage=place.folder / "runs")
    assert 0 < results.trials["val_loss"].item() < 1
