"""Arguments of the tasks: which slots of the recipe each one needs, and which runner trains it. Torch-free."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from expflow.config.component_specs import ModelOutput, TaskSpec
from expflow.config.spec import FieldError, FrozenModel, execution, identity


class PenalisedTaskSpec(TaskSpec):
    """Base of tasks that train one network on images; no task by itself."""

    slots: ClassVar[frozenset[str]] = frozenset({"data", "model", "loss", "optimizer", "schedule"})
    defaults: ClassVar[Mapping[str, str]] = MappingProxyType({"loss": "cross_entropy", "schedule": "constant"})

    penalty: Literal["none", "l1", "l2", "half_l2"] = identity(
        "none",
        description="What the size of the weights (biases and norms left out) adds to what is minimised, times"
        " penalty_strength: l1 sum |w|; l2 sum w^2; half_l2 half of that, whose gradient is that of weight decay."
        " It is logged as train/penalty and is no part of train/loss.",
    )
    penalty_strength: float = identity(1e-4, description="Lambda: the factor of the penalty.", ge=0)


class ClassificationSpec(PenalisedTaskSpec):
    """One class per image: loss, top-1 and (with more than five classes) top-5."""

    build: ClassVar[str] = "expflow.tasks.classification:build"
    metrics: ClassVar[tuple[str, ...]] = ("loss", "top1", "top5")
    main_metric: ClassVar[str] = "val/top1"
    learns_classes: ClassVar[bool] = True
    needs: ClassVar[ModelOutput] = "scores"

    auxiliary_weight: float = identity(
        0.3,
        description="How much the loss of each auxiliary classifier counts in training, where a network has any"
        " (GoogLeNet, section 5).",
        ge=0,
    )


ONE_SHOT = "one_shot"
"""The task of a one-shot search."""

CHILD = "child"
"""Name of the text that a one-shot search writes: its child as a recipe's keys and values, in JSON."""


class OneShotSpec(PenalisedTaskSpec):
    """One-shot architecture search (DARTS, ENAS): a supernet's weights and its architecture weights learn in turn."""

    build: ClassVar[str] = "expflow.tasks.one_shot_building:build"
    metrics: ClassVar[tuple[str, ...]] = ("loss", "top1", "top5", "discrete_top1", "gap")
    main_metric: ClassVar[str] = "val/top1"
    needs: ClassVar[ModelOutput] = "scores"

    share: float = identity(
        0.5,
        description="Share of the training samples that the architecture learns on, and the weights do not.",
        gt=0,
        lt=1,
    )
    order: Literal[1, 2] = identity(
        1, description="Gradient of the architecture at the present weights (1), or after a step of theirs (2)."
    )
    warmup: int = identity(0, description="Epochs before the architecture begins to learn.", ge=0)
    architecture_lr: float = identity(3e-4, description="Learning rate of the architecture (Adam).", gt=0)
    architecture_decay: float = identity(1e-3, description="Weight decay of the architecture.", ge=0)
    betas: tuple[float, float] = identity((0.5, 0.999), description="Decays of Adam's two moments.")
    paths: int = identity(
        0,
        ge=0,
        le=1000,
        description="Children drawn for each step of the architecture, which learns by policy gradient from how many of"
        " its samples they get right; each step of the weights trains one drawn child (ENAS); 0: the mixture of all"
        " children, by gradient (DARTS).",
    )
    path_entropy: float = identity(
        1e-3, ge=0, description="Weight of the entropy of the draws, with paths: it keeps the search trying."
    )
    path_baseline: float = identity(
        0.95, ge=0, lt=1, description="Decay of the moving average that drawn children are compared with, with paths."
    )

    @model_validator(mode="after")
    def _paths_have_no_second_order(self) -> Self:
        if self.paths and self.order == 2:
            raise FieldError("order", "drawn paths have no gradient through a step of the weights; remove it, or paths")
        return self

    @model_validator(mode="after")
    def _decays_are_below_one(self) -> Self:
        if not all(0 <= beta < 1 for beta in self.betas):
            raise FieldError("betas", f"expected two numbers from 0 to below 1, found {list(self.betas)}")
        return self

    def conflicts(self, slots: Mapping[str, Any], init: Any) -> Iterable[tuple[str, str]]:
        """Another network than a supernet, mixed images, which belong to both sides, and a probe."""
        model = slots.get("model")
        if getattr(model, "name", "supernet") != "supernet":
            yield "model", "a one-shot search needs the network of all children: {name: supernet}"
        elif self.paths and getattr(model, "partial", 1) > 1:
            yield "model.partial", "belongs to the mixture of all children; drawn paths compute one alone: remove it"
        train = getattr(slots.get("data"), "train", None)
        for key in ("mixup", "cutmix"):
            if getattr(train, key, 0):
                yield f"data.train.{key}", "mixes samples of the weights with those of the architecture; remove it"
        if init is not None and init.probe:
            yield "init.probe", "keeps features of a network that the search changes; remove it"


SAMPLES = 6
"""Images of val that segmentation and detection draw at each validation, unless their key says otherwise."""


def _samples_field() -> Any:
    """The key ``samples`` of tasks whose samples are images with truth beside prediction."""
    return execution(
        SAMPLES,
        description="Images of val that are drawn at each validation, truth beside prediction: artifacts of the trial"
        " called samples.",
        ge=0,
        le=64,
    )


class SegmentationSpec(PenalisedTaskSpec):
    """The class of each pixel: loss, mean intersection over union over the data set, and pixel accuracy."""

    build: ClassVar[str] = "expflow.tasks.segmentation:build"
    metrics: ClassVar[tuple[str, ...]] = ("loss", "miou", "pixel_accuracy")
    main_metric: ClassVar[str] = "val/miou"
    needs: ClassVar[ModelOutput] = "maps"

    def conflicts(self, slots: Mapping[str, Any], init: Any) -> Iterable[tuple[str, str]]:
        """MixUp and CutMix, and a probe's kept features."""
        train = getattr(slots.get("data"), "train", None)
        for key in ("mixup", "cutmix"):
            if getattr(train, key, 0):
                yield (
                    f"data.train.{key}",
                    "mixes two images into one, whose pixels then have two classes, and a mask holds one for each;"
                    " remove it (flip, crops and colours go with masks)",
                )
        if init is not None and init.probe:
            yield "init.probe", "keeps one vector of features for an image, and masks need maps; use freeze: backbone"

    auxiliary_weight: float = identity(
        0.4,
        description="How much the loss of auxiliary scores counts in training, where a network gives any.",
        ge=0,
    )
    samples: int = _samples_field()


class DetectionSpec(PenalisedTaskSpec):
    """Which objects are where: COCO's average precision over the split, at all overlaps, at 0.5 and 0.75, and by size.

    The network brings its losses; each is logged by its name, and train/loss is their weighted sum.
    """

    build: ClassVar[str] = "expflow.tasks.detection:build"
    slots: ClassVar[frozenset[str]] = frozenset({"data", "model", "optimizer", "schedule"})
    defaults: ClassVar[Mapping[str, str]] = MappingProxyType({"schedule": "constant"})
    metrics: ClassVar[tuple[str, ...]] = (
        "ap",
        "ap50",
        "ap75",
        "ap_small",
        "ap_medium",
        "ap_large",
        "ar",
        "ar1",
        "ar10",
    )
    main_metric: ClassVar[str] = "val/ap"
    needs: ClassVar[ModelOutput] = "boxes"

    loss_weights: dict[str, float] = identity(
        default_factory=dict, description="Factors of the network's losses by their names; 1 for those left out."
    )
    areas: tuple[float, float] = identity(
        (1024.0, 9216.0),
        description="Areas between small and medium, and between medium and large objects, in pixels of the original"
        " image; by default COCO's, 32 and 96 pixels squared.",
    )
    max_detections: int = identity(
        100,
        description="Predictions of an image that count, the surest ones; ar1 and ar10 count fewer.",
        ge=10,
        le=1000,
    )
    keypoint_sigmas: tuple[Annotated[float, Field(gt=0)], ...] = identity(
        (),
        description="How far keypoints may be off where keypoint_ap is measured, as a share of the root of the object's"
        " area: one number for all, or one for each. By default COCO's where they are its 17 of a person, else 0.05.",
    )
    samples: int = _samples_field()

    @model_validator(mode="after")
    def _areas_grow(self) -> Self:
        if not 0 < self.areas[0] < self.areas[1]:
            raise FieldError("areas", f"expected two growing areas above 0, found {list(self.areas)}")
        return self

    def conflicts(self, slots: Mapping[str, Any], init: Any) -> Iterable[tuple[str, str]]:
        """MixUp and CutMix, and a probe's kept features."""
        train = getattr(slots.get("data"), "train", None)
        for key in ("mixup", "cutmix"):
            if getattr(train, key, 0):
                yield f"data.train.{key}", "mixes the classes of whole images, and here each box has one; remove it"
        if init is not None and init.probe:
            yield "init.probe", "keeps one vector of features for an image, and boxes need maps; use freeze: backbone"


def _mixing_conflicts(slots: Mapping[str, Any], init: Any, what: str) -> Iterable[tuple[str, str]]:
    """MixUp and CutMix, and a probe's kept features, where a sample has something else than one class."""
    train = getattr(slots.get("data"), "train", None)
    for key in ("mixup", "cutmix"):
        if getattr(train, key, 0):
            yield f"data.train.{key}", f"mixes the classes of two images, and these have {what}; remove it"
    if init is not None and init.probe:
        yield "init.probe", "keeps features beside one class for each image; use freeze: backbone"


class MultilabelSpec(PenalisedTaskSpec):
    """Of which classes an image is, several or none: loss, and mean average precision over the classes."""

    build: ClassVar[str] = "expflow.tasks.multilabel:build"
    defaults: ClassVar[Mapping[str, str]] = MappingProxyType({"loss": "bce", "schedule": "constant"})
    metrics: ClassVar[tuple[str, ...]] = ("loss", "map")
    main_metric: ClassVar[str] = "val/map"
    needs: ClassVar[ModelOutput] = "scores"

    def conflicts(self, slots: Mapping[str, Any], init: Any) -> Iterable[tuple[str, str]]:
        """MixUp and CutMix, and a probe's kept features."""
        return _mixing_conflicts(slots, init, "several classes each")


class RegressionSpec(PenalisedTaskSpec):
    """Numbers that belong to an image: loss, root mean squared error and mean absolute error."""

    build: ClassVar[str] = "expflow.tasks.regression:build"
    defaults: ClassVar[Mapping[str, str]] = MappingProxyType({"loss": "squared", "schedule": "constant"})
    metrics: ClassVar[tuple[str, ...]] = ("loss", "rmse", "mae")
    main_metric: ClassVar[str] = "val/rmse"
    needs: ClassVar[ModelOutput] = "scores"

    def conflicts(self, slots: Mapping[str, Any], init: Any) -> Iterable[tuple[str, str]]:
        """MixUp and CutMix, and a probe's kept features."""
        return _mixing_conflicts(slots, init, "numbers")


class MultitaskSpec(PenalisedTaskSpec):
    """Several things of one image by one network: its class, its classes and numbers, as far as the data have them."""

    build: ClassVar[str] = "expflow.tasks.multitask:build"
    slots: ClassVar[frozenset[str]] = frozenset({"data", "model", "optimizer", "schedule"})
    defaults: ClassVar[Mapping[str, str]] = MappingProxyType({"schedule": "constant"})
    metrics: ClassVar[tuple[str, ...]] = ("loss", "top1", "map", "rmse", "mae")
    main_metric: ClassVar[str] = "val/loss"
    needs: ClassVar[ModelOutput] = "several"

    weights: Mapping[Literal["label", "labels", "target"], Annotated[float, Field(ge=0)]] = identity(
        default_factory=dict,
        description="How much each field's loss counts: label (cross-entropy), labels (binary cross-entropy) and target"
        " (squared distance); 1 for what is not named, and 0 leaves a field out.",
    )

    def conflicts(self, slots: Mapping[str, Any], init: Any) -> Iterable[tuple[str, str]]:
        """MixUp and CutMix, and a probe's kept features."""
        return _mixing_conflicts(slots, init, "more than one class")


class Action(FrozenModel):
    """One line of a scripted trial's script: exactly one action, ``repeat`` times."""

    model_config = ConfigDict(populate_by_name=True)  # `raise` is no name in Python; dumped by name, it reads back

    report: Mapping[str, float | Literal["curve", "nan", "inf"]] | None = identity(
        None,
        description="Report these metrics one step later; curve: value * (1 - exp(-rate * step)), seed included; nan,"
        " inf: no finite number.",
    )
    sleep: float | None = identity(None, description="Wait so many seconds.", ge=0)
    fail: str | None = identity(None, alias="raise", description="Raise an error with this message.")
    hang: bool = identity(False, description="Never return.")
    exit: int | None = identity(None, description="End the process at once with this exit code.", ge=0, le=255)
    nan: bool = identity(False, description="Diverge.")
    save: bool = identity(False, description="Save a checkpoint, as is done by itself when the trial is told to stop.")
    repeat: int = identity(1, description="How often.", ge=1, le=1_000_000)
    rank: int | None = identity(None, description="Only this rank does it; by default all of them do.", ge=0)

    @model_validator(mode="after")
    def _does_one_thing(self) -> Self:
        done = [self.report is not None, self.sleep is not None, self.fail is not None, self.exit is not None]
        if sum((*done, self.hang, self.nan, self.save)) != 1:
            raise ValueError("an action does one thing: report, sleep, raise, hang, exit, nan or save (and repeat: N)")
        if self.report is not None and self.rank is not None:
            raise ValueError("all ranks come to a report together; only other actions can be one rank's own")
        return self


class ScriptedSpec(TaskSpec):
    """A trial that only follows its script, without torch: for testing sweeps, schedulers and faults."""

    runner: ClassVar[str] = "expflow.training.scripted:run"
    device_need: ClassVar[str] = "expflow.training.scripted:device_need"
    metrics: ClassVar[tuple[str, ...]] = ("top1",)
    main_metric: ClassVar[str] = "val/top1"

    script: tuple[Action, ...] = identity(
        (), description="What to do, in order; by default one curve report of val/top1 per epoch."
    )
    value: float = identity(1.0, description="Where the curve ends.")
    rate: float = identity(0.5, description="How fast the curve gets there, per step.")
    noise: float = identity(0.0, description="Largest deviation that the seed adds to the curve.", ge=0)
    gpu_memory: float = identity(
        0.4,
        description="Share of a GPU's memory that it says it needs, where resources.gpus_per_rank is measured; above 1:"
        " more than there is.",
        gt=0,
    )


class ReplayedSpec(TaskSpec):
    """Looks a child up in a table of trained ones, and reports what it did; for comparing searchers in milliseconds."""

    runner: ClassVar[str] = "expflow.training.replayed:run"
    slots: ClassVar[frozenset[str]] = frozenset({"model"})
    metrics: ClassVar[tuple[str, ...]] = ("top1",)
    main_metric: ClassVar[str] = "val/top1"

    table: str = identity(
        description="File of the table, as benchmarks/nas_table.py writes it; a relative path is seen from the folder"
        " that the sweep is started in.",
        min_length=1,
    )
