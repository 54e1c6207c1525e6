"""What is started: experiments of expflow, and the same trainings in raw Ray Tune and in plain Lightning."""

EPOCHS = 4
EXPERIMENT = f"""
data: {{name: digits, batch_size: 64}}
model: {{name: mlp, hidden: 512}}
task: classification
optimizer: {{name: sgd, lr: 0.05, momentum: 0.9}}
trainer: {{epochs: {EPOCHS}}}
"""
TINY = EXPERIMENT + "sweep: {space: {optimizer.lr: [0.02, 0.05]}, metric: val/top1}\n"
LONG = EXPERIMENT.replace(f"epochs: {EPOCHS}", "epochs: 400") + "resources: {max_concurrent: 1}\n"
LONG += "sweep: {space: {optimizer.lr: [0.02]}, metric: val/top1}\n"

NETWORK = f"""
import pytorch_lightning as pl
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Classifier(pl.LightningModule):
    def __init__(self, lr):
        super().__init__()
        self.lr = lr
        self.net = nn.Sequential(nn.Flatten(), nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 10))

    def training_step(self, batch, index):
        images, labels = batch
        return nn.functional.cross_entropy(self.net(images), labels)

    def validation_step(self, batch, index):
        images, labels = batch
        self.log("val/top1", (self.net(images).argmax(1) == labels).float().mean())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9)


def fit(lr, callbacks):
    images, labels = load_digits(return_X_y=True)
    images = torch.tensor(images / 16 - 0.3, dtype=torch.float32).reshape(-1, 1, 8, 8)
    labels = torch.tensor(labels)
    train = DataLoader(TensorDataset(images[:1300], labels[:1300]), batch_size=64, shuffle=True)
    val = DataLoader(TensorDataset(images[1300:1697], labels[1300:1697]), batch_size=64)
    pl.seed_everything(0)
    trainer = pl.Trainer(max_epochs={EPOCHS}, callbacks=callbacks, accelerator="cpu", log_every_n_steps=10)
    trainer.fit(Classifier(lr), train, val)
"""
PLAIN = NETWORK + "\n\nfit(0.05, [])\n"
TUNED = """
import time

from ray import tune


def train(config):
    import pytorch_lightning as pl
    from network import fit

    class Report(pl.Callback):
        def on_validation_end(self, trainer, module):
            if not trainer.sanity_checking:
                tune.report({"val/top1": float(trainer.callback_metrics["val/top1"])})

    fit(config["lr"], [Report()])


class FirstReport(tune.Callback):
    seen = False

    def on_trial_result(self, **information):
        if not self.seen:
            FirstReport.seen = True
            print("first report", time.time(), flush=True)


tuner = tune.Tuner(
    train,
    param_space={"lr": tune.grid_search([0.02, 0.05])},
    tune_config=tune.TuneConfig(metric="val/top1", mode="max"),
    run_config=tune.RunConfig(storage_path=STORAGE, callbacks=[FirstReport()]),
)
print(tuner.fit().get_best_result().metrics["val/top1"])
"""
