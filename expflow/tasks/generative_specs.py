"""Arguments of the tasks that give images again, or learn from them without classes. Torch-free."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Literal, Self

from pydantic import model_validator

from expflow.config.component_specs import ModelOutput
from expflow.config.spec import FieldError, Spec, UserComponent, identity
from expflow.tasks.specs import PenalisedTaskSpec

PIXEL_LOSSES = ("squared", "l1", "smooth_l1")
"""Losses of ours that say how far one image lies from another."""


def samples_field() -> Any:
    """The key ``samples``."""
    return identity(
        16,
        description="How many samples are drawn at each validation; they are artifacts of the trial, called samples.",
        ge=1,
        le=256,
    )


def features_field() -> Any:
    """The key ``features``."""
    return identity(
        "",
        description="A trained classifier, NAME/best or NAME/3fa9: val/kid and val/frechet_distance compare as many"
        " made images as val has with these, in what it gives to its last layer. Val needs ten images a feature.",
    )


def label_conflicts(slots: Mapping[str, Any], init: Any) -> Iterable[tuple[str, str]]:
    """MixUp, CutMix and a probe's kept features, where no classes are learned.

    Args:
        slots: Slot to what it holds.
        init: What the training begins with.
    """
    train = getattr(slots.get("data"), "train", None)
    for key in ("mixup", "cutmix"):
        if getattr(train, key, 0):
            yield (
                f"data.train.{key}",
                "mixes images for the sake of their classes, and none are learned here",
            )
    if init is not None and init.probe:
        yield "init.probe", "keeps features beside one class for each image; use freeze: backbone"


def pixel_loss_conflicts(slots: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """A loss of ours that compares no images.

    Args:
        slots: Slot to what it holds.
    """
    loss = slots.get("loss")
    if isinstance(loss, Spec) and not isinstance(loss, UserComponent) and loss.name not in PIXEL_LOSSES:
        yield "loss", f"{loss.name} compares scores with classes, and this task images: {', '.join(PIXEL_LOSSES)}"


class ReconstructionSpec(PenalisedTaskSpec):
    """Base of tasks that give images again; no task by itself."""

    defaults: ClassVar[Mapping[str, str]] = MappingProxyType({"loss": "squared", "schedule": "constant"})
    metrics: ClassVar[tuple[str, ...]] = ("loss", "l1", "l2", "psnr", "ssim", "sharpness")
    main_metric: ClassVar[str] = "val/loss"
    needs: ClassVar[ModelOutput] = "images"

    samples: int = samples_field()

    def conflicts(self, slots: Mapping[str, Any], init: Any) -> Iterable[tuple[str, str]]:
        """MixUp and CutMix, a probe's kept features, and losses of classes."""
        yield from label_conflicts(slots, init)
        yield from pixel_loss_conflicts(slots)


class AutoencoderTaskSpec(ReconstructionSpec):
    """Each image again, by a network that squeezes it: loss, L1, L2, PSNR, SSIM, and sharpness beside the originals."""

    build: ClassVar[str] = "expflow.tasks.autoencoder:build"

    features: str = features_field()


class DiffusionSpec(PenalisedTaskSpec):
    """New images out of noise, by a network that learns to name the noise in images (DDPM): its mean squared error."""

    build: ClassVar[str] = "expflow.tasks.diffusion:build"
    slots: ClassVar[frozenset[str]] = frozenset({"data", "model", "optimizer", "schedule"})
    defaults: ClassVar[Mapping[str, str]] = MappingProxyType({"schedule": "constant"})
    metrics: ClassVar[tuple[str, ...]] = ("loss", "sharpness")
    main_metric: ClassVar[str] = "val/loss"
    needs: ClassVar[ModelOutput] = "noise"

    timesteps: int = identity(1000, description="T: steps in which an image becomes noise.", ge=2, le=10_000)
    noise: Literal["linear", "cosine"] = identity(
        "linear",
        description="How the noise of the steps grows: linear (Ho et al. 2020) or cosine (Nichol and Dhariwal 2021).",
    )
    predict: Literal["epsilon", "x0"] = identity(
        "epsilon", description="What the network names: the noise in the image, or the image without it."
    )
    sampling_steps: int = identity(
        50, description="Steps in which samples are drawn, spread over all timesteps (DDIM, Song et al. 2021).", ge=1
    )
    eta: float = identity(
        0.0, description="Noise that sampling adds at each step: 0 none (DDIM), 1 as much as DDPM.", ge=0, le=1
    )
    samples: int = samples_field()
    features: str = features_field()

    @model_validator(mode="after")
    def _compares_what_all_ranks_draw(self) -> Self:
        if self.features and self.eta:
            raise FieldError(
                "features", f"compares images that are drawn without further noise (eta: 0), found {self.eta}"
            )
        return self

    @model_validator(mode="after")
    def _takes_no_more_steps_than_there_are(self) -> Self:
        if self.sampling_steps > self.timesteps:
            raise FieldError("sampling_steps", f"there are {self.timesteps} (timesteps), found {self.sampling_steps}")
        return self

    def conflicts(self, slots: Mapping[str, Any], init: Any) -> Iterable[tuple[str, str]]:
        """MixUp and CutMix, and a probe's kept features."""
        return label_conflicts(slots, init)


class MAETaskSpec(PenalisedTaskSpec):
    """The patches of an image that are taken away, from the others (MAE): their error, and probes of the encoder."""

    build: ClassVar[str] = "expflow.tasks.mae:build"
    slots: ClassVar[frozenset[str]] = frozenset({"data", "model", "optimizer", "schedule"})
    defaults: ClassVar[Mapping[str, str]] = MappingProxyType({"schedule": "constant"})
    metrics: ClassVar[tuple[str, ...]] = ("loss", "probe_top1", "knn_top1")
    main_metric: ClassVar[str] = "val/probe_top1"
    needs: ClassVar[ModelOutput] = "patches"

    mask_ratio: float = identity(0.75, description="Share of an image's patches that is taken away.", gt=0, lt=1)
    loss_on: Literal["masked", "all"] = identity(
        "masked", description="Which patches the loss is taken of: those that were taken away, or all."
    )
    norm_pix: bool = identity(
        True, description="Whether the pixels to be drawn are normalised by each patch's own mean and deviation."
    )
    samples: int = samples_field()

    def conflicts(self, slots: Mapping[str, Any], init: Any) -> Iterable[tuple[str, str]]:
        """MixUp and CutMix, and a probe's kept features."""
        return label_conflicts(slots, init)


class IGPTTaskSpec(PenalisedTaskSpec):
    """Each pixel from those before it, in the colours of a palette (image GPT): bits for a value, and new images."""

    build: ClassVar[str] = "expflow.tasks.igpt:build"
    slots: ClassVar[frozenset[str]] = frozenset({"data", "model", "optimizer", "schedule"})
    defaults: ClassVar[Mapping[str, str]] = MappingProxyType({"schedule": "constant"})
    metrics: ClassVar[tuple[str, ...]] = ("bits_per_dim", "loss")
    main_metric: ClassVar[str] = "val/bits_per_dim"
    needs: ClassVar[ModelOutput] = "pixels"

    temperature: float = identity(
        1.0,
        description="What scores are divided by where samples are drawn; below 1 likely colours are likelier.",
        gt=0,
    )
    samples: int = samples_field()

    def conflicts(self, slots: Mapping[str, Any], init: Any) -> Iterable[tuple[str, str]]:
        """MixUp and CutMix, a probe's kept features, and data without a palette."""
        yield from label_conflicts(slots, init)
        colours = getattr(slots.get("data"), "palette", None)
        if colours == 0:
            yield "data.palette", "missing; pixels are named by the colours of a palette: write how many, such as 16"
        elif colours == 1:
            yield "data.palette", "pixels of one colour alone say nothing; take 2 or more"


class SuperResolutionSpec(ReconstructionSpec):
    """An image from one that was shrunk: what an autoencoder measures, and the gain over enlarging alone."""

    build: ClassVar[str] = "expflow.tasks.super_resolution:build"
    metrics: ClassVar[tuple[str, ...]] = (*ReconstructionSpec.metrics, "psnr_gain")
    main_metric: ClassVar[str] = "val/psnr"

    factor: int = identity(
        2, description="By which height and width are divided before the network sees the image.", ge=2, le=16
    )


class AnomalySpec(ReconstructionSpec):
    """Images of a class that was left out of the training, by the error with which they are given again."""

    build: ClassVar[str] = "expflow.tasks.anomaly:build"
    metrics: ClassVar[tuple[str, ...]] = (*ReconstructionSpec.metrics, "auroc")
    main_metric: ClassVar[str] = "val/auroc"

    left_out: str = identity(description="Name of the class that is left out of the training and to be told apart.")
