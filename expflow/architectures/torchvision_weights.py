"""Published weights of torchvision: which file holds them, and where one gets it. Nothing is fetched here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlparse

from expflow.errors import UserError, nearest

PREFIX = "torchvision/"


@dataclass(frozen=True)
class WeightsFile:
    """A file of published weights.

    Attributes:
        file: Its name, which ends in the first digits of its sha256.
        address: The URL that it can be had from.
    """

    file: str
    address: str

    @property
    def sha256(self) -> str:
        """The first hexadecimal digits of the file's sha256."""
        return self.file.rpartition("-")[2].partition(".")[0]


def weights_file(name: str) -> WeightsFile:
    """The file that holds the weights of a name.

    Args:
        name: With or without ``torchvision/`` before it, such as ``torchvision/ResNet50_Weights.IMAGENET1K_V2``.

    Raises:
        UserError: torchvision has no such weights; the message has the nearest name.
    """
    import torchvision

    wanted = name.removeprefix(PREFIX)
    try:
        address = str(torchvision.models.get_weight(wanted).url)
    except ValueError as error:
        close = nearest(wanted, _names())
        hint = f"nearest: {PREFIX}{close}" if close else f"such as {PREFIX}ResNet50_Weights.IMAGENET1K_V2"
        raise UserError(f"torchvision has no weights named {wanted!r}; {hint}") from error
    return WeightsFile(Path(urlparse(address).path).name, address)


def _names() -> list[str]:
    import torchvision

    models = torchvision.models
    enums = (models.get_model_weights(name) for name in models.list_models(module=models))
    return sorted({f"{enum.__name__}.{member}" for enum in enums for member in enum.__members__})


def hub_folder() -> Path:
    """The folder in which torch's hub keeps the files that it has fetched."""
    from torch import hub

    return Path(hub.get_dir()) / "checkpoints"
