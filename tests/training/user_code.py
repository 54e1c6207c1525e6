"""What a user would write beside their YAML: nothing here knows of expflow except for the optional DataSpec."""

import torch
from pytorch_lightning import LightningDataModule, LightningModule
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from expflow.data.dataspec import DataSpec, FieldSpec

CLASSES = 3


def blobs(samples, seed):
    """Images of 1x8x8 whose brightness tells the class, and labels."""
    generator = torch.Generator().manual_seed(seed)
    label = torch.arange(samples) % CLASSES
    noise = torch.randint(0, 60, (samples, 1, 8, 8), generator=generator)
    return (noise + 90 * label[:, None, None, None]).to(torch.uint8), label


def collate(samples):
    image, label = (torch.stack(field) for field in zip(*samples, strict=True))
    return {"image": image, "label": label, "valid": torch.ones(len(label), dtype=torch.bool)}


class Blobs(LightningDataModule):
    """Batches of named fields, and a DataSpec, as the registered sources give them."""

    def __init__(self, batch_size: int = 8, samples: int = 32, classes: int = CLASSES):
        super().__init__()
        self.batch_size, self.samples = batch_size, samples
        fields = {"image": FieldSpec((1, 8, 8), "uint8"), "label": FieldSpec((), "int64")}
        self.data_spec = DataSpec(fields, tuple(map(str, range(classes))), {"train": samples}, (0.4,), (0.3,))

    def train_dataloader(self):
        return DataLoader(TensorDataset(*blobs(self.samples, 0)), self.batch_size, shuffle=True, collate_fn=collate)

    def val_dataloader(self):
        return DataLoader(TensorDataset(*blobs(13, 1)), self.batch_size, collate_fn=collate)


class Pairs(LightningDataModule):
    """Two input fields: a plain LightningDataModule of (image, code) pairs."""

    def __init__(self, samples: int = 24):
        super().__init__()
        self.samples = samples

    def train_dataloader(self):
        image, label = blobs(self.samples, 0)
        samples = [
            {"image": x.float() / 255, "code": nn.functional.one_hot(y, CLASSES).float()}
            for x, y in zip(image, label, strict=True)
        ]
        return DataLoader(samples, batch_size=8, shuffle=True)


class Coder(nn.Module):
    """A network that takes no image: a code becomes a picture."""

    def __init__(self, width: int = 4):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(CLASSES, width), nn.Tanh(), nn.Linear(width, 64))

    def forward(self, code):
        return self.layers(code).view(-1, 1, 8, 8)


class Judge(nn.Module):
    """Two inputs, one score."""

    def __init__(self, width: int = 4):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64 + CLASSES, width), nn.Tanh(), nn.Linear(width, 1))

    def forward(self, image, code):
        return self.layers(torch.cat([image.flatten(1), code], 1))


class TwoPlayers(LightningModule):
    """A conditional GAN: two networks, two optimizers, two losses, two input fields, manual optimisation."""

    def __init__(self, model, loss, optimizer, weight: float = 1.0):
        super().__init__()
        self.automatic_optimization = False
        self.model, self.loss, self.optimizer, self.weight = model, loss, optimizer, weight

    def training_step(self, batch, batch_idx):
        of_coder, of_judge = self.optimizers()
        real, code = batch["image"], batch["code"]
        fake = self.model["coder"](code)
        judged = torch.cat([self.model["judge"](real, code), self.model["judge"](fake.detach(), code)])
        wanted = torch.cat([torch.ones(len(real), 1), torch.zeros(len(real), 1)])
        judge_loss = self.loss["judge"](judged, wanted).mean()
        of_judge.zero_grad()
        self.manual_backward(judge_loss)
        of_judge.step()
        coder_loss = self.weight * self.loss["coder"](fake, real).mean()
        of_coder.zero_grad()
        self.manual_backward(coder_loss)
        of_coder.step()
        self.log_dict({"train/judge": judge_loss, "train/coder": coder_loss}, on_step=False, on_epoch=True)

    def configure_optimizers(self):
        return [self.optimizer[name](self.model[name].parameters()) for name in ("coder", "judge")]


class Plain(LightningModule):
    """As in Lightning's own tutorial: its network inside, its optimizer inside, no slots."""

    def __init__(self, hidden: int = 8, lr: float = 0.05):
        super().__init__()
        self.lr = lr
        self.net = nn.Sequential(
            nn.Flatten(), nn.Linear(64, hidden), nn.ReLU(), nn.Dropout(0.1), nn.Linear(hidden, CLASSES)
        )

    def training_step(self, batch, batch_idx):
        loss = nn.functional.cross_entropy(self.net(batch["image"] / 255), batch["label"])
        self.log("train/loss", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch, batch_idx):
        hits = self.net(batch["image"] / 255).argmax(1) == batch["label"]
        self.log("val/top1", hits.float().mean(), batch_size=len(hits))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.lr)


class OneSlot(LightningModule):
    """Brings everything but its network."""

    def __init__(self, model):
        super().__init__()
        self.model = model


class Net(nn.Module):
    """A network of the user's, sized by the data."""

    def __init__(self, in_channels: int, num_classes: int, hidden: int = 5):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(in_channels, hidden, 3), nn.Flatten(), nn.Linear(hidden * 36, num_classes)
        )

    def forward(self, x):
        return self.layers(x)


class Looks(nn.Module):
    """Looks at its values, which the meta device has none of."""

    def __init__(self, num_classes: int):
        super().__init__()
        self.head = nn.Linear(64, num_classes)

    def forward(self, x):
        if x.max().item() > 255:
            raise ValueError("not an image")
        return self.head(x.flatten(1))


class ClassWeighted(nn.Module):
    """A loss that asks for the data."""

    def __init__(self, data_spec):
        super().__init__()
        self.weights = torch.arange(1, data_spec.num_classes + 1)

    def forward(self, output, target):
        return nn.functional.cross_entropy(output, target, reduction="none") * self.weights[target]


def averaged(scores, label):
    """A loss that averages by itself."""
    return nn.functional.cross_entropy(scores, label)


def average_loss():
    return averaged


class Broken(Plain):
    """Fails in its first step."""

    def training_step(self, batch, batch_idx):
        return 1 / 0


class Interrupted(Plain):
    """As if Ctrl-C were pressed in its first step."""

    def training_step(self, batch, batch_idx):
        raise KeyboardInterrupt


class NanAt(Plain):
    """Its loss is not a number at one step (counted from 1)."""

    def __init__(self, step: int):
        super().__init__()
        self.bad = step

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        return loss * float("nan") if self.global_step + 1 == self.bad else loss


class BadScore(Plain):
    """A metric of its own that is infinite."""

    def validation_step(self, batch, batch_idx):
        self.log("val/score", float("inf"))


class Odd(Plain):
    """An argument that is called as something of ours."""

    def __init__(self, runner: str):
        super().__init__()
        self.runner = runner


class Denoiser(nn.Module):
    """Noise in images at their time steps, as ``task: diffusion`` asks for it."""

    def __init__(self, in_channels: int):
        super().__init__()
        self.layer = nn.Conv2d(in_channels, in_channels, 1)

    def forward(self, image, step):
        return self.layer(image + step.view(-1, 1, 1, 1))


class Towers(nn.Module):
    """Only texts are looked at; images are taken all the same, as ``task: clip`` gives them."""

    def __init__(self):
        super().__init__()
        self.table, self.head = nn.Embedding(4, 3), nn.Linear(3, 4)

    def forward(self, image, text):
        return image.flatten(1), self.head(self.table(text))
