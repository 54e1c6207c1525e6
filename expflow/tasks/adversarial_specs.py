"""Arguments of the tasks with a generator and a discriminator. Torch-free."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Literal

from expflow.config.component_specs import ModelInput, ModelOutput, TaskSpec
from expflow.config.spec import identity
from expflow.tasks.generative_specs import features_field

Objective = Literal["non_saturating", "hinge", "least_squares"]
"""What discriminators and generators minimise; see expflow.tasks.adversarial_losses."""


class AdversarialSpec(TaskSpec):
    """Base of tasks with generators and discriminators; no task by itself."""

    slots: ClassVar[frozenset[str]] = frozenset({"data", "model", "optimizer", "schedule"})
    defaults: ClassVar[Mapping[str, str]] = MappingProxyType({"schedule": "constant"})
    optimizers: ClassVar[tuple[str, ...]] = ("generator", "discriminator")
    seen: ClassVar[tuple[str, ...]] = ("image",)
    """What its discriminators may look at (their key ``sees``)."""

    objective: Objective = identity(
        "non_saturating",
        description="What both minimise, of logits: non_saturating, cross-entropy with the labels of made images"
        " swapped for the generator; hinge; least_squares.",
    )
    samples: int = identity(
        64,
        description="Images that are made at each validation to be looked at; artifacts of the trial, called samples.",
        ge=1,
        le=256,
    )

    def conflicts(self, slots: Mapping[str, Any], init: Any) -> Iterable[tuple[str, str]]:
        """MixUp and CutMix, kept features of a probe, and discriminators that look at something else."""
        data = slots.get("data")
        several = {f"data.{slot}": source for slot, source in data.items()} if isinstance(data, Mapping) else {}
        for place, source in (several or {"data": data}).items():
            for key in ("mixup", "cutmix"):
                if getattr(getattr(source, "train", None), key, 0):
                    why = "mixes images, and the mixtures would be taken for real ones; remove it"
                    yield f"{place}.train.{key}", why
        if init is not None and init.probe:
            yield (
                "init.probe",
                "keeps features of one network beside classes, and nothing is classified here; remove it",
            )
        model = slots.get("model")
        for name, network in model.items() if isinstance(model, Mapping) else ():
            sees = getattr(network, "sees", self.seen[0])
            if sees not in self.seen:
                yield f"model.{name}.sees", f"the task {self.name} shows it: {' or '.join(self.seen)}; found {sees}"


class GANSpec(AdversarialSpec):
    """Images out of noise: a generator against a discriminator that tells made from real ones (Goodfellow et al. 2014).

    val/swd is the sliced Wasserstein distance of the pixels of val to as many made images.
    """

    build: ClassVar[str] = "expflow.tasks.gan:build"
    networks: ClassVar[Mapping[str, tuple[ModelInput, ModelOutput]]] = MappingProxyType(
        {"generator": ("latent", "images"), "discriminator": ("image", "realness")}
    )
    metrics: ClassVar[tuple[str, ...]] = ("discriminator_loss", "generator_loss", "swd")
    main_metric: ClassVar[str] = "val/swd"

    n_critic: int = identity(
        1, description="Batches on each of which the discriminator moves, before the generator does.", ge=1, le=100
    )
    features: str = features_field()


JUDGED: ModelOutput = "realness"
Condition = Literal["mask", "grey", "edges"]
"""What a translated image is made from."""
TranslatedFrom = Literal["mask", "grey", "edges", "source"]
"""The same; ``source``: from the images of another data source."""

RECONSTRUCTION: tuple[str, ...] = ("l1", "l2", "psnr", "ssim", "sharpness")


class Pix2PixSpec(AdversarialSpec):
    """An image from another picture of the same thing: its classes by pixel, its grey values or its edges.

    What is made has to lie near the true image, and to pass for real (Isola et al. 2017, pix2pix).
    """

    build: ClassVar[str] = "expflow.tasks.pix2pix:build"
    networks: ClassVar[Mapping[str, tuple[ModelInput, ModelOutput]]] = MappingProxyType(
        {"generator": ("image", "images"), "discriminator": ("image", JUDGED)}
    )
    metrics: ClassVar[tuple[str, ...]] = (*RECONSTRUCTION, "discriminator_loss", "generator_loss")
    main_metric: ClassVar[str] = "val/l1"
    seen: ClassVar[tuple[str, ...]] = ("pair", "image")

    condition: Condition = identity(
        description="What images are made from: mask, the class of each pixel as a colour; grey, its brightness; edges,"
        " how much brightness changes there."
    )
    l1: float = identity(
        100.0, description="Lambda: the factor of the mean absolute difference to the true image.", ge=0
    )
    adversarial: float = identity(
        1.0, description="The factor of the generator's adversarial loss; 0 leaves the difference alone.", ge=0
    )
    samples: int = identity(
        16,
        description="Images of val whose translations are drawn at each validation; artifacts called samples.",
        ge=1,
        le=256,
    )
    features: str = features_field()


class CycleGANSpec(AdversarialSpec):
    """Images from conditions and back, learned without pairs: who goes there and back has to arrive where it began.

    No loss compares a made image with the true one (Zhu et al. 2017). With one data source the same images serve as
    both kinds, and validation compares; with the two slots image and condition (``condition: source``) there is no true
    image: val/swd is then the sliced Wasserstein distance of made images to those of the slot image, val/condition_swd
    that of the way back.
    """

    build: ClassVar[str] = "expflow.tasks.cyclegan:build"
    networks: ClassVar[Mapping[str, tuple[ModelInput, ModelOutput]]] = MappingProxyType(
        {
            "to_image": ("image", "images"),
            "to_condition": ("image", "images"),
            "image_judge": ("image", JUDGED),
            "condition_judge": ("image", JUDGED),
        }
    )
    metrics: ClassVar[tuple[str, ...]] = (*RECONSTRUCTION, "discriminator_loss", "generator_loss")
    main_metric: ClassVar[str] = "val/l1"

    sources: ClassVar[tuple[str, ...]] = ("image", "condition")

    objective: Objective = identity(
        "least_squares", description="What both minimise, of logits; least_squares in the paper."
    )
    condition: TranslatedFrom = identity(
        description="The other kind of picture: mask, the class of each pixel as a colour; grey, brightness; edges, how"
        " much brightness changes there; source, the images of the data's slot condition."
    )
    cycle: float = identity(
        5.0,
        description="Lambda: the factor of the distance from there and back; the paper's 10 stands beside adversarial"
        " losses that are twice as large.",
        ge=0,
    )
    same: float = identity(
        0.0, description="The factor of how much generators change what is of the right kind already.", ge=0
    )
    samples: int = identity(
        16,
        description="Images of val whose translations are drawn at each validation; artifacts called samples.",
        ge=1,
        le=256,
    )
    features: str = features_field()

    @property
    def judged_by(self) -> str:
        """A distance of distributions where there are no true images."""
        return "val/swd" if self.condition == "source" else self.main_metric

    def conflicts(self, slots: Mapping[str, Any], init: Any) -> Iterable[tuple[str, str]]:
        """What :class:`AdversarialSpec` refuses, and data that do not fit ``condition``."""
        yield from super().conflicts(slots, init)
        several = isinstance(slots.get("data"), Mapping)
        if several and self.condition != "source":
            yield (
                "task.condition",
                f"{self.condition} is made of the images themselves, and the data's slot condition brings others; write"
                " condition: source",
            )
        if self.condition == "source" and not several:
            yield "task.condition", "source needs two data sources: data: {image: …, condition: …}"


class ContextEncoderTaskSpec(AdversarialSpec):
    """The missing centre of an image from what is around it (Pathak et al. 2016, context encoders)."""

    build: ClassVar[str] = "expflow.tasks.context_encoding:build"
    networks: ClassVar[Mapping[str, tuple[ModelInput, ModelOutput]]] = MappingProxyType(
        {"generator": ("image", "centre"), "discriminator": ("image", JUDGED)}
    )
    metrics: ClassVar[tuple[str, ...]] = (*RECONSTRUCTION, "discriminator_loss", "generator_loss")
    main_metric: ClassVar[str] = "val/l2"
    seen: ClassVar[tuple[str, ...]] = ("centre",)

    adversarial: float = identity(
        0.001,
        description="Share of the adversarial loss; the squared difference has the rest. 0: that alone.",
        ge=0,
        le=1,
    )
    overlap: int = identity(
        0,
        description="Pixels at the hole's edge that the network sees and predicts, where differences count tenfold.",
        ge=0,
    )
    samples: int = identity(
        16,
        description="Images of val whose centres are drawn at each validation; artifacts called samples.",
        ge=1,
        le=256,
    )
