"""Modules as Lightning's documentation teaches to write them, with nothing of expflow in them.

A classifier, an autoencoder, a GAN with two optimizers, metrics that are computed when a validation ends, and a rate
that falls on a plateau of what is monitored.
"""

import lightning as L
import numpy as np
import torch
import torchvision
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import ReduceLROnPlateau
from torch.utils.data import DataLoader, TensorDataset, random_split


class DigitsDataModule(L.LightningDataModule):
    """Digits of 28x28, in the place of MNIST."""

    def __init__(self, batch_size: int = 16, samples: int = 108):
        super().__init__()
        self.save_hyperparameters()

    def prepare_data(self):
        load_digits()

    def setup(self, stage):
        digits = load_digits()
        small = torch.tensor(digits.images[: self.hparams.samples], dtype=torch.float32)[:, None] / 16
        whole = TensorDataset(F.interpolate(small, (28, 28)), torch.tensor(digits.target[: self.hparams.samples]))
        parts = [self.hparams.samples - 37, 37]
        self.digits_train, self.digits_val = random_split(whole, parts, generator=torch.Generator().manual_seed(42))

    def train_dataloader(self):
        return DataLoader(self.digits_train, batch_size=self.hparams.batch_size, shuffle=True)

    def val_dataloader(self):
        return DataLoader(self.digits_val, batch_size=self.hparams.batch_size)


class LitClassifier(L.LightningModule):
    def __init__(self, layer_1_dim: int = 32, learning_rate: float = 1e-2):
        super().__init__()
        self.save_hyperparameters()
        self.l1 = nn.Linear(28 * 28, self.hparams.layer_1_dim)
        self.l2 = nn.Linear(self.hparams.layer_1_dim, 10)

    def forward(self, x):
        return self.l2(torch.relu(self.l1(x.view(x.size(0), -1))))

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = F.cross_entropy(self(x), y)
        self.log("train_loss", loss, on_step=True, on_epoch=True, prog_bar=True, logger=True)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        y_hat = self(x)
        acc = (y_hat.argmax(dim=1) == y).float().mean()
        self.log_dict({"val_acc": acc, "val_loss": F.cross_entropy(y_hat, y)})

    def configure_callbacks(self):
        return [ModelCheckpoint(monitor="val_loss", filename="best"), LearningRateMonitor()]

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=self.hparams.learning_rate)


class LitAutoEncoder(L.LightningModule):
    def __init__(self, code: int = 3):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(28 * 28, 32), nn.ReLU(), nn.Linear(32, code))
        self.decoder = nn.Sequential(nn.Linear(code, 32), nn.ReLU(), nn.Linear(32, 28 * 28))

    def forward(self, x):
        return self.encoder(x)

    def _reconstruct(self, batch):
        x, _ = batch
        x = x.view(x.size(0), -1)
        return F.mse_loss(self.decoder(self.encoder(x)), x)

    def training_step(self, batch, batch_idx):
        loss = self._reconstruct(batch)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self._reconstruct(batch))

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=1e-3)


class Generator(nn.Module):
    def __init__(self, latent_dim, img_shape):
        super().__init__()
        self.img_shape = img_shape
        self.model = nn.Sequential(
            nn.Linear(latent_dim, 16),
            nn.BatchNorm1d(16, 0.8),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Linear(16, int(np.prod(img_shape))),
            nn.Tanh(),
        )

    def forward(self, z):
        return self.model(z).view(z.size(0), *self.img_shape)


class Discriminator(nn.Module):
    def __init__(self, img_shape):
        super().__init__()
        self.model = nn.Sequential(
            nn.Linear(int(np.prod(img_shape)), 16), nn.LeakyReLU(0.2, inplace=True), nn.Linear(16, 1), nn.Sigmoid()
        )

    def forward(self, img):
        return self.model(img.view(img.size(0), -1))


class GAN(L.LightningModule):
    def __init__(self, latent_dim: int = 8, lr: float = 0.0002, b1: float = 0.5, b2: float = 0.999):
        super().__init__()
        self.save_hyperparameters()
        self.automatic_optimization = False
        self.generator = Generator(latent_dim, (1, 28, 28))
        self.discriminator = Discriminator((1, 28, 28))
        self.validation_z = torch.randn(8, latent_dim)
        self.example_input_array = torch.zeros(2, latent_dim)

    def forward(self, z):
        return self.generator(z)

    def training_step(self, batch):
        imgs, _ = batch
        optimizer_g, optimizer_d = self.optimizers()
        z = torch.randn(imgs.shape[0], self.hparams.latent_dim).type_as(imgs)
        valid = torch.ones(imgs.size(0), 1).type_as(imgs)
        fake = torch.zeros(imgs.size(0), 1).type_as(imgs)

        self.toggle_optimizer(optimizer_g)
        generated = self(z)
        grid = torchvision.utils.make_grid(generated[:6])
        self.logger.experiment.add_image("train/generated_images", grid, self.current_epoch)
        g_loss = F.binary_cross_entropy(self.discriminator(generated), valid)
        self.log("g_loss", g_loss, prog_bar=True)
        self.manual_backward(g_loss)
        optimizer_g.step()
        optimizer_g.zero_grad()
        self.untoggle_optimizer(optimizer_g)

        self.toggle_optimizer(optimizer_d)
        real_loss = F.binary_cross_entropy(self.discriminator(imgs), valid)
        fake_loss = F.binary_cross_entropy(self.discriminator(self(z).detach()), fake)
        d_loss = (real_loss + fake_loss) / 2
        self.log("d_loss", d_loss, prog_bar=True)
        self.manual_backward(d_loss)
        optimizer_d.step()
        optimizer_d.zero_grad()
        self.untoggle_optimizer(optimizer_d)

    def validation_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        betas = (self.hparams.b1, self.hparams.b2)
        opt_g = torch.optim.Adam(self.generator.parameters(), lr=self.hparams.lr, betas=betas)
        opt_d = torch.optim.Adam(self.discriminator.parameters(), lr=self.hparams.lr, betas=betas)
        return [opt_g, opt_d], []

    def on_validation_epoch_end(self):
        z = self.validation_z.type_as(self.generator.model[0].weight)
        grid = torchvision.utils.make_grid(self(z))
        self.logger.experiment.add_image("validation/generated_images", grid, self.current_epoch)


class LitEpochEnd(LitClassifier):
    """Keeps what each batch of a validation gave, and makes one number of it at the end."""

    def __init__(self, layer_1_dim: int = 32, learning_rate: float = 1e-2):
        super().__init__(layer_1_dim, learning_rate)
        self.validation_step_outputs = []

    def configure_callbacks(self):
        return []

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.validation_step_outputs.append((self(x).argmax(dim=1), y))

    def on_validation_epoch_end(self):
        preds = torch.cat([pred for pred, _ in self.validation_step_outputs])
        labels = torch.cat([label for _, label in self.validation_step_outputs])
        of_class = [(preds[labels == label] == label).float().mean() for label in labels.unique()]
        self.log("val_worst_class", torch.stack(of_class).min())
        self.log("val_samples", float(len(labels)))
        self.validation_step_outputs.clear()


class LitPlateau(LitClassifier):
    """Its rate falls as soon as the validation loss gets no better; the threshold has it fall in every epoch."""

    def configure_callbacks(self):
        return [LearningRateMonitor(logging_interval="epoch")]

    def configure_optimizers(self):
        optimizer = torch.optim.Adam(self.parameters(), lr=self.hparams.learning_rate)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {
                "scheduler": ReduceLROnPlateau(optimizer, factor=0.5, patience=0, threshold=0.9),
                "monitor": "val_loss",
                "frequency": 1,
            },
        }
