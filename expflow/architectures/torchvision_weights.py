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


@dataclass(frozen=True)
class PublishedClassifier:
    """The network that published weights are of.

    Attributes:
        model: Its name, ``torchvision/vgg19``.
        classes: The classes that it tells apart.
        side: Height and width of the images that it was measured on.
        mean: Of each channel of the images that it learned on, scaled to 0 to 1.
        std: Likewise.
    """

    model: str
    classes: tuple[str, ...]
    side: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


def published_classifier(name: str) -> PublishedClassifier:
    """The classifier that published weights are of.

    Args:
        name: As of :func:`weights_file`.

    Raises:
        UserError: torchvision has no such weights, or they are of no classifier.
    """
    import torchvision

    weights_file(name)
    weights = torchvision.models.get_weight(name.removeprefix(PREFIX))
    models = torchvision.models
    listed = models.list_models(module=models)
    model = next((listing for listing in listed if models.get_model_weights(listing) is type(weights)), None)
    if model is None:
        raise UserError(f"{name} are weights of no classifier; {PREFIX}VGG19_Weights.IMAGENET1K_V1 for example are")
    shown = weights.transforms()
    [side] = shown.crop_size
    return PublishedClassifier(
        f"{PREFIX}{model}", tuple(weights.meta["categories"]), side, tuple(shown.mean), tuple(shown.std)
    )


def _names() -> list[str]:
    import torchvision

    models = torchvision.models
    enums = (models.get_model_weights(name) for name in models.list_models(module=models))
    return sorted({f"{enum.__name__}.{member}" for enum in enums for member in enum.__members__})


def hub_folder() -> Path:
    """The folder in which torch's hub keeps the files that it has fetched."""
    from torch import hub

    return Path(hub.get_dir()) / "checkpoints"
