"""Published weights of torchvision: which file holds them, and where one gets it. Nothing is fetched here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlparse

from expflow.errors import UserError, nearest

PREFIX = "torchvision/"


@dataclass(frozen=True)
class Published:
    """A file of weights: its name, which ends in the first digits of its sha256, and its address."""

    file: str
    address: str

    @property
    def sha256(self) -> str:
        """The first hexadecimal digits of the file's sha256."""
        return self.file.rpartition("-")[2].partition(".")[0]


def published(name: str) -> Published:
    """The file of ``torchvision/<name>``, such as torchvision/ResNet50_Weights.IMAGENET1K_V2.

    Raises UserError for a name that torchvision does not know, with the nearest that it does.
    """
    import torchvision

    wanted = name.removeprefix(PREFIX)
    try:
        address = str(torchvision.models.get_weight(wanted).url)
    except ValueError as error:
        known = _names()
        close = nearest(wanted, known)
        hint = f"nearest: {PREFIX}{close}" if close else f"such as {PREFIX}ResNet50_Weights.IMAGENET1K_V2"
        raise UserError(f"torchvision has no weights named {wanted!r}; {hint}") from error
    return Published(Path(urlparse(address).path).name, address)


def _names() -> list[str]:
    import torchvision

    models = torchvision.models
    every = (models.get_model_weights(each) for each in models.list_models(module=models))
    return sorted({f"{each.__name__}.{member}" for each in every for member in each.__members__})


def hub_folder() -> Path:
    """Where torch's hub keeps the files that it has fetched."""
    from torch import hub

    return Path(hub.get_dir()) / "checkpoints"
