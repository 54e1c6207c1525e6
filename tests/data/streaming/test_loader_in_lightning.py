"""The epoch reaches the loader through Lightning's own hooks, and a checkpoint inside an epoch resumes exactly."""

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from expflow.data.streaming.loader import Loader, LoaderConfig
from tests.data.streaming.orders import epoch_order

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")


class Recorder(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = torch.nn.Linear(64, 10)
        self.batches: list[tuple[int, ...]] = []

    def training_step(self, batch, number):
        self.batches.append(tuple(batch["index"].tolist()))
        logits = self.net(batch["image"].flatten(1).float() / 255)
        return torch.nn.functional.cross_entropy(logits, batch["label"])

    def validation_step(self, batch, number):
        assert batch["index"][0] == number * 200

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def loaders(digits):
    train = Loader(LoaderConfig(digits.root, "train", batch_size=256, seed=11, shuffle=True))
    return train, Loader(LoaderConfig(digits.root, "val", batch_size=200, seed=11, shuffle=False))


def trainer(folder, epochs, *callbacks):
    return pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=list(callbacks),
        enable_checkpointing=bool(callbacks),
        default_root_dir=folder,
    )


def expected(epochs):
    orders = [epoch_order(1300, 11, epoch).tolist() for epoch in range(epochs)]
    return [tuple(order[first : first + 256]) for order in orders for first in range(0, 1300, 256)]


def test_each_epoch_has_its_own_order(digits, tmp_path):
    model = Recorder()
    trainer(tmp_path, 3).fit(model, *loaders(digits))
    assert model.batches == expected(3)


@pytest.mark.parametrize("step", [1, 3, 6, 8, 12], ids=lambda step: f"step{step}")
def test_resume_goes_on_at_the_next_batch(digits, tmp_path, step):
    """Six steps are one epoch: the last batch of an epoch, and batches inside of one."""
    keep = ModelCheckpoint(dirpath=tmp_path, filename="{step}", every_n_train_steps=1, save_top_k=-1)
    model = Recorder()
    trainer(tmp_path, 3, keep).fit(model, *loaders(digits))
    resumed = Recorder()
    trainer(tmp_path, 3).fit(resumed, *loaders(digits), ckpt_path=tmp_path / f"step={step}.ckpt", weights_only=True)
    assert resumed.batches == expected(3)[step:]
    assert torch.equal(resumed.net.weight, model.net.weight)


def test_resume_from_the_end_of_an_epoch(digits, tmp_path):
    keep = ModelCheckpoint(dirpath=tmp_path, filename="{epoch}", every_n_epochs=1, save_top_k=-1)
    model = Recorder()
    trainer(tmp_path, 3, keep).fit(model, *loaders(digits))
    resumed = Recorder()
    trainer(tmp_path, 3).fit(resumed, *loaders(digits), ckpt_path=tmp_path / "epoch=0.ckpt", weights_only=True)
    assert resumed.batches == expected(3)[6:]
    assert torch.equal(resumed.net.weight, model.net.weight)
