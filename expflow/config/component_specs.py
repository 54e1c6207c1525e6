"""What the other packages may ask of the component in a slot: one base class of specs for each kind.

A spec of expflow derives from the base of its kind and overrides what differs from the documented default. A component
of the user's is a :class:`~expflow.config.spec.UserComponent`, whose keys are arguments of the user's code. The
functions at the end of this module answer for it, so that no other module has to tell the two apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Literal, TypeVar

from expflow.config.spec import Spec, UserComponent
from expflow.metrics import UNDECLARED_MAIN_METRIC

LIGHTNING_RUNNER = "expflow.training.lightning_runner:run"
"""Dotted path of what trains a LightningModule."""

FITTING_RUNNER = "expflow.training.fitting_runner:run"
"""Dotted path of what trains a LightningModule that is fitted once, by arithmetic of its own."""

MODULE_RUNNERS = (LIGHTNING_RUNNER, FITTING_RUNNER)
"""Runners of LightningModules: what they train can be evaluated from its checkpoints."""

LIGHTNING_DEVICE_NEED = "expflow.training.device_memory:device_need"
"""Dotted path of what measures the GPU memory of trials that :data:`LIGHTNING_RUNNER` trains."""

ModelOutput = Literal[
    "scores",
    "maps",
    "boxes",
    "several",
    "images",
    "noise",
    "patches",
    "tokens",
    "embeddings",
    "pixels",
    "centre",
    "realness",
    "",
]
"""What a network gives for an image of a batch: ``scores``, one for each class; ``maps``, a score for each class at
every pixel, or at fewer that are resized to them; ``boxes``, with classes and scores; ``several``, a vector for each
field of the data; ``images``, the image again, or one; ``centre``, its middle of half the side; ``noise``, what is
noise in an image and a step of a diffusion; ``patches``, an image of some of its patches; ``tokens``, scores of each
next token of a text; ``embeddings``, a vector for an image and one for a text; ``pixels``, scores of each next pixel;
``realness``, how real an image or each part of it looks; "" is not known, as of a network of the
user's."""

ModelInput = Literal["image", "latent"]
"""What a network is called with: images of the data (some see two of them, one behind the other), or vectors of noise
of its key ``latent``."""

TimeUnit = Literal["epoch", "step"]
BatchSize = int | Literal["all"]


class TaskSpec(Spec):
    """A task: what trains it, and which slots of the recipe it uses.

    Attributes:
        runner: Dotted path of what trains a trial of this task; see :mod:`expflow.training.contract`.
        device_need: Dotted path of what measures the GPU memory of a trial's first steps.
        slots: The slots that the task is built from; it gets exactly these.
        defaults: Slot to the name of the component that fills it where the file says nothing.
        metrics: What it reports for each split that it is evaluated on, by their names in :mod:`expflow.metrics`.
        main_metric: What a sweep is judged by where :attr:`judged_by` says nothing else.
        learns_classes: Whether it learns one class for each image, the field ``label`` of a batch.
        needs: What its network has to give; "" where any will do.
        networks: Of a task with several networks, name to what each takes and gives; the slot ``model`` then holds
            these names.
        sources: Of a task that takes several data sources, the slots that ``data`` may then name, the leading one
            first.
        optimizers: Names of the optimizers of a task with several: its slots ``optimizer`` and ``schedule`` hold one
            component for all of them, or these names.
    """

    runner: ClassVar[str] = LIGHTNING_RUNNER
    device_need: ClassVar[str] = LIGHTNING_DEVICE_NEED
    slots: ClassVar[frozenset[str]] = frozenset()
    defaults: ClassVar[Mapping[str, str]] = MappingProxyType({})
    metrics: ClassVar[tuple[str, ...]] = ()
    main_metric: ClassVar[str] = UNDECLARED_MAIN_METRIC
    learns_classes: ClassVar[bool] = False
    needs: ClassVar[ModelOutput] = ""
    networks: ClassVar[Mapping[str, tuple[ModelInput, ModelOutput]]] = MappingProxyType({})
    sources: ClassVar[tuple[str, ...]] = ()
    optimizers: ClassVar[tuple[str, ...]] = ()

    @property
    def judged_by(self) -> str:
        """What a sweep of this task is judged by unless the experiment file names another metric."""
        return self.main_metric

    def trainer_conflicts(self) -> Mapping[str, str]:
        """Keys of the trainer that do not go with the task, and why; the default of each does."""
        return {}

    def conflicts(self, slots: Mapping[str, Any], init: Any) -> Iterable[tuple[str, str]]:
        """What of the rest of a recipe does not go with the task.

        Args:
            slots: Slot to what it holds.
            init: What the training begins with; None for fresh weights.

        Returns:
            The dotted key of a recipe and a message, for each thing that is wrong.
        """
        return ()


class ModelSpec(Spec):
    """A network.

    Attributes:
        gives: What it gives for an image, where that does not depend on its arguments.
        takes: What it is called with.
    """

    gives: ClassVar[ModelOutput] = "scores"
    takes: ClassVar[ModelInput] = "image"

    @property
    def gives_here(self) -> ModelOutput:
        """What this network gives for an image."""
        return self.gives

    def input_shape(self, image_shape: tuple[int, int, int]) -> tuple[int, ...]:
        """Shape of one sample that this network is called with.

        Args:
            image_shape: (channels, height, width) of the data's images.
        """
        return image_shape


class SearcherSpec(Spec):
    """A searcher: how many configs it proposes, and from what.

    Attributes:
        learns: Whether its proposals depend on results, so that a plan knows only the first of them.
        needs_space: Whether it is an error to use it without ``sweep.space``.
        needs_listed_values: Whether it is an error to use it with a continuous key.
        several_objectives: Whether it learns from several metrics; else only one that learns nothing takes them.
    """

    learns: ClassVar[bool] = False
    needs_space: ClassVar[bool] = False
    needs_listed_values: ClassVar[bool] = False
    several_objectives: ClassVar[bool] = False

    @property
    def max_configs(self) -> int | None:
        """Number of configs that it is asked for; None where it ends by itself."""
        return None

    @property
    def earlier_sweep(self) -> str | None:
        """Name of the sweep whose results it learns from before it proposes; None where there is none."""
        return None

    @property
    def listed_configs(self) -> Sequence[Mapping[str, Any]] | None:
        """The configs that the file lists for it instead of a space; None where there is a space."""
        return None


class SchedulerSpec(Spec):
    """A scheduler: in what it counts a trial's time, and with which sweeps it cannot be used."""

    @property
    def time_unit(self) -> TimeUnit:
        """In what it counts the time of a trial."""
        return "epoch"

    @property
    def max_time(self) -> int | None:
        """Time of a trial that is never stopped, in :attr:`time_unit`; None for the trainer's epochs."""
        return None

    def conflicts(self, space: tuple[str, ...], seeds: int) -> Iterable[tuple[str, str]]:
        """What of it does not go with the rest of the sweep.

        Args:
            space: The searched keys.
            seeds: Number of seeds of each config.

        Returns:
            Its field and a message, for each thing that is wrong.
        """
        return ()


class SourceSpec(Spec):
    """A data source."""

    @property
    def samples_per_batch(self) -> BatchSize | None:
        """Samples of one training batch, over all ranks; ``all`` for the whole split, None where it is not known."""
        return None

    @property
    def skips_bad_samples(self) -> bool:
        """Whether damaged samples are left out and counted, instead of failing the trial."""
        return False

    @property
    def longest_side(self) -> int | None:
        """Pixels to which longer images are shrunk when they are stored; None where they stay as they are."""
        return None


class BaseOptimizerSpec(Spec):
    """An optimizer."""

    @property
    def module_rates(self) -> Mapping[str, float]:
        """Dotted path of a module to the factor of its learning rate."""
        return {}


class BaseScheduleSpec(Spec):
    """A learning-rate schedule."""

    @property
    def watched_metric(self) -> str:
        """The metric that it follows (``val/loss``); "" where it follows none."""
        return ""


class _UserSpec(Spec):
    """Answers from the arguments of a component of the user's, where one is called like a key of ours."""

    arguments: Mapping[str, Any]


class UserTask(TaskSpec, _UserSpec):
    """A task of the user's: a LightningModule. Which slots it uses, its constructor's signature says."""


class UserSearcher(SearcherSpec, _UserSpec):
    """A searcher of the user's. It may learn, and an argument ``trials`` is the number of configs."""

    learns: ClassVar[bool] = True
    several_objectives: ClassVar[bool] = True

    @property
    def max_configs(self) -> int | None:
        """The argument ``trials``."""
        return self.arguments.get("trials")


class UserScheduler(SchedulerSpec, _UserSpec):
    """A scheduler of the user's: its arguments ``unit`` and ``max`` mean what they mean in ours."""

    @property
    def time_unit(self) -> TimeUnit:
        """The argument ``unit``."""
        return self.arguments.get("unit", "epoch")

    @property
    def max_time(self) -> int | None:
        """The argument ``max``."""
        return self.arguments.get("max")


class UserSource(SourceSpec, _UserSpec):
    """A data module of the user's: an argument ``batch_size`` is taken for the size of its batches."""

    @property
    def samples_per_batch(self) -> BatchSize | None:
        """The argument ``batch_size``."""
        return self.arguments.get("batch_size")

    @property
    def skips_bad_samples(self) -> bool:
        """Whether the argument ``on_bad_sample`` is ``skip``."""
        return self.arguments.get("on_bad_sample") == "skip"


class UserOptimizer(BaseOptimizerSpec, _UserSpec):
    """An optimizer of the user's: an argument ``lr_scale`` is taken for rates of modules."""

    @property
    def module_rates(self) -> Mapping[str, float]:
        """The argument ``lr_scale``."""
        return self.arguments.get("lr_scale") or {}


class UserSchedule(BaseScheduleSpec, _UserSpec):
    """A schedule of the user's: an argument ``metric`` is taken for what it follows."""

    @property
    def watched_metric(self) -> str:
        """The argument ``metric``."""
        return str(self.arguments.get("metric", ""))


SpecOfKind = TypeVar("SpecOfKind", bound=Spec)


def _answers(component: object, kind: type[SpecOfKind], of_user: type[SpecOfKind]) -> SpecOfKind:
    """``component`` where it is a spec of ours, answers for a component of the user's, else the defaults."""
    if isinstance(component, kind):
        return component
    if isinstance(component, UserComponent):
        return of_user.model_validate({"name": component.name, "arguments": component.arguments})
    return kind.model_validate({"name": ""})


def task_spec(task: object) -> TaskSpec:
    """What may be asked of a recipe's task.

    Args:
        task: What the recipe's slot ``task`` holds.
    """
    return _answers(task, TaskSpec, UserTask)


def model_output(model: object) -> ModelOutput:
    """What a recipe's network gives; "" for one of the user's, for several and for none: a tried batch shows it.

    Args:
        model: What the recipe's slot ``model`` holds.
    """
    return model.gives_here if isinstance(model, ModelSpec) else ""


def input_shape(model: object, image_shape: tuple[int, int, int]) -> tuple[int, ...]:
    """Shape of one sample that a network is called with; for one of the user's that of an image.

    Args:
        model: The network.
        image_shape: (channels, height, width) of the data's images.
    """
    return model.input_shape(image_shape) if isinstance(model, ModelSpec) else image_shape


def searcher_spec(searcher: object) -> SearcherSpec:
    """What may be asked of a sweep's searcher.

    Args:
        searcher: ``Sweep.searcher``.
    """
    return _answers(searcher, SearcherSpec, UserSearcher)


def scheduler_spec(scheduler: object) -> SchedulerSpec:
    """What may be asked of a sweep's scheduler.

    Args:
        scheduler: ``Sweep.scheduler``; None, where every trial runs to its end, gives the defaults.
    """
    return _answers(scheduler, SchedulerSpec, UserScheduler)


def source_spec(data: object) -> SourceSpec:
    """What may be asked of a recipe's data source.

    Args:
        data: What the recipe's slot ``data`` holds; an empty slot gives the defaults, several sources the answers of
            the first one, whose batches are those of all.
    """
    if isinstance(data, Mapping):
        data = next(iter(data.values()), None)
    return _answers(data, SourceSpec, UserSource)


def optimizer_spec(optimizer: object) -> BaseOptimizerSpec:
    """What may be asked of a recipe's optimizer.

    Args:
        optimizer: What the recipe's slot ``optimizer`` holds; an empty slot, or one of several, gives the defaults.
    """
    return _answers(optimizer, BaseOptimizerSpec, UserOptimizer)


def schedule_spec(schedule: object) -> BaseScheduleSpec:
    """What may be asked of a learning-rate schedule.

    Args:
        schedule: One component of the recipe's slot ``schedule``.
    """
    return _answers(schedule, BaseScheduleSpec, UserSchedule)
