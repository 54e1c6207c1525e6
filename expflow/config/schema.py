"""The experiment: what one YAML file says, typed and frozen.

Component slots (``data``, ``model``, ``task``, ``loss``, ``optimizer``, ``schedule``) hold a :class:`Spec` or a mapping
of the user's names to specs (a GAN has two models). :mod:`expflow.config.components` resolves them through the registry
before these classes are validated, which is why they are typed as instances here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, InstanceOf, SkipValidation, model_validator

from expflow.config.byte_size import ByteSize
from expflow.config.initial_weights import Init
from expflow.config.report_settings import ReportSettings
from expflow.config.resources import Resources
from expflow.config.spec import (
    FieldError,
    FrozenModel,
    Spec,
    UserComponent,
    budget,
    check_direction,
    execution,
    identity,
)
from expflow.metrics import UNDECLARED_MAIN_METRIC

Slot = SkipValidation[InstanceOf[Spec] | Mapping[str, InstanceOf[Spec]]]
"""One component, or several under the user's names."""

CallbackComponent = Annotated[
    UserComponent,
    BeforeValidator(
        lambda value: {"name": value} if isinstance(value, str) else value, json_schema_input_type=str | UserComponent
    ),
]
"""A callback of the user's; a bare text is its name."""

SCHEMA_VERSION = 1
"""Raised whenever a default of an identity field changes, so that no old id can mean a new recipe."""


class About(FrozenModel):
    """What the experiment is for; shown by ``plan`` and at the top of the report."""

    question: str = execution("", description="The question this experiment answers.")
    expect: str = execution("", description="What is expected, and why.")
    command: str = execution("", description="The command to type.")
    time: str = execution("", description="How long it takes, and on what.")


class Checkpointing(FrozenModel):
    """When a trial saves its state, and how much of it is kept. There is always room for at least two checkpoints."""

    at_end: bool = execution(
        True, description="Save when the trial ends, so that it can be tested, shown and extended."
    )
    every_seconds: float | None = execution(60.0, gt=0, description="Seconds of training between two checkpoints.")
    every_epochs: int | None = execution(None, ge=1, description="Epochs between two checkpoints.")
    every_steps: int | None = execution(None, ge=1, description="Optimizer steps between two checkpoints.")
    keep: int = execution(
        2,
        ge=2,
        description="Newest checkpoints of a trial that are kept while it may go on; see sweep.checkpoints.per_trial.",
    )
    allow: tuple[str, ...] = execution(
        (), description="Classes (package.module:Name) that a checkpoint may hold besides tensors and plain data."
    )


class EarlyStopping(FrozenModel):
    """When a trial ends before its last epoch because it no longer gets better; its result is then its last report."""

    metric: str = identity("val/loss", description="What is watched, after every validation.")
    mode: Literal["max", "min"] | None = identity(None, description="Direction of a metric of your own.")
    patience: int = identity(3, ge=0, description="Validations without improvement that are put up with.")
    min_delta: float = identity(0.0, ge=0, description="How much better counts as an improvement.")

    @model_validator(mode="after")
    def _direction_is_known(self) -> Self:
        check_direction(self.metric, self.mode)
        return self


class Trainer(FrozenModel):
    """How long and how one trial trains."""

    epochs: int = budget(10, ge=1, le=10_000_000, description="Passes over the training set.")
    checkpoint: Checkpointing = execution(
        default_factory=Checkpointing, description="When the trial saves its state, so that a kill costs little."
    )
    validate_every: int = execution(1, ge=1, description="Epochs between validations; the last epoch always has one.")
    channels_last: bool = identity(
        False, description="Lay images and weights out with channels last, which convolutions are quicker with."
    )
    accumulate: int = identity(
        1,
        ge=1,
        description="Batches whose gradients make one optimizer step, as if they were one batch; an epoch's last step"
        " takes what is left.",
    )
    clip_norm: float | None = identity(
        None, gt=0, description="Longest gradient over all weights; a longer one is shortened to it before the step."
    )
    clip_value: float | None = identity(
        None, gt=0, description="Largest absolute value in a gradient; larger ones are cut off."
    )
    precision: Literal[32, "tf32", "16-mixed", "bf16-mixed"] = identity(
        32,
        description="Numbers of the computation: 32 bits throughout; products of 19 bits (tf32, on GPUs that have it);"
        " or half precision where it is safe, 16-mixed with scaled gradients, bf16-mixed without.",
    )
    compile: bool | Literal["default", "reduce-overhead", "max-autotune"] = identity(
        False, description="Compile the network with torch.compile, in the mode that is named; true is `default`."
    )
    sync_batchnorm: bool = identity(
        False, description="Take the statistics of batch norms over the samples of all ranks; one rank does already."
    )
    ema: float | None = identity(
        None,
        gt=0,
        lt=1,
        description="Decay of an exponential mean of the weights, 0.999 for example; everything but training uses it.",
    )
    early_stopping: EarlyStopping | None = identity(
        None, description="End the trial once a metric stops getting better; by default all epochs are trained."
    )
    image_sizes: tuple[tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=1, le=65_536)]], ...] = identity(
        (),
        description="Progressive image size: pairs of an epoch and the height and width of training images from then"
        " on, [[0, 16], [10, 32]]; before the first pair, and in evaluation, images keep the data's size.",
    )
    fit_on: Literal["train", "train+val"] = identity(
        "train",
        description="What is trained on. With train+val, for a final model, nothing is left to validate on: there are"
        " no val metrics, and nothing can be selected.",
    )
    callbacks: tuple[CallbackComponent, ...] = identity(
        (),
        description="Callbacks of your own, or of Lightning's, each with its arguments:"
        ' [{name: "my_callbacks:Watch", every: 2}, "pytorch_lightning.callbacks:LearningRateMonitor"].',
    )
    lightning: dict[str, Any] = identity(
        default_factory=dict,
        description="Keyword arguments passed on to lightning's Trainer. With several ranks, strategy may name a kind"
        " of DDP, and use_distributed_sampler: false says that your loaders give each rank its part themselves.",
    )

    @model_validator(mode="after")
    def _one_kind_of_clipping(self) -> Self:
        if self.clip_norm is not None and self.clip_value is not None:
            raise FieldError("clip_value", "give clip_norm or clip_value, not both")
        return self

    @model_validator(mode="after")
    def _nothing_watches_val_that_is_trained_on(self) -> Self:
        if self.fit_on == "train+val" and self.early_stopping and self.early_stopping.metric.startswith("val/"):
            raise FieldError("fit_on", f"early_stopping watches {self.early_stopping.metric}, and no val is left")
        return self

    @model_validator(mode="after")
    def _sizes_in_order(self) -> Self:
        epochs = [epoch for epoch, _ in self.image_sizes]
        if epochs != sorted(set(epochs)):
            raise FieldError("image_sizes", f"expected rising epochs, found {', '.join(map(str, epochs))}")
        return self


class Recipe(FrozenModel):
    """All that trains one model."""

    data: Slot | None = identity(
        None, description="Where the samples come from; may be left out where a LightningModule brings its loaders."
    )
    model: Slot | None = identity(None, description="The network.")
    task: Slot = identity(description="What is learned and measured.")
    loss: Slot | None = identity(None, description="What is minimised.")
    optimizer: Slot | None = identity(None, description="How weights are changed.")
    schedule: Slot | None = identity(None, description="How the learning rate changes over the trial.")
    init: Init | None = identity(
        None, description="Which weights the training begins with, and which of them stay; by default fresh ones."
    )
    trainer: Trainer = identity(default_factory=Trainer, description="How long and how one trial trains.")

    @property
    def user_components(self) -> tuple[UserComponent, ...]:
        """All components of the user's own, in the slots and under ``trainer.callbacks``."""
        slots = (self.data, self.model, self.task, self.loss, self.optimizer, self.schedule)
        components = [spec for slot in slots for spec in (slot.values() if isinstance(slot, Mapping) else [slot])]
        return (*(spec for spec in components if isinstance(spec, UserComponent)), *self.trainer.callbacks)


class Dimension(FrozenModel):
    """One searched key: its values or their distribution, and when it is active."""

    key: str = execution(description="Dotted recipe key.")
    kind: Literal["choice", "uniform", "loguniform", "int"] = execution(description="Kind of the dimension.")
    values: tuple[Any, ...] = execution((), description="The choices, in the order of the file.")
    low: float | None = execution(None, description="Lower end, included.")
    high: float | None = execution(None, description="Upper end, included where the steps of an int dimension meet it.")
    step: int = execution(1, ge=1, description="Spacing of an int dimension.")
    log: bool = execution(False, description="Whether an int dimension is sampled on a log scale.")
    when: Mapping[str, tuple[Any, ...]] = execution(
        default_factory=dict, description="Other searched or recipe keys and the values at which this key is active."
    )


class Budget(FrozenModel):
    """When a sweep ends at the latest. Raising a limit later continues it."""

    trials: int | None = execution(None, ge=1, description="Most trials (a config with a seed each) that are proposed.")
    hours: float | None = execution(
        None, gt=0, description="Most hours on the wall clock, over all runs of the command."
    )
    device_hours: float | None = execution(
        None, gt=0, description="Most hours of devices: a trial's time, times its ranks, times their GPUs (or 1)."
    )


class SweepCheckpoints(FrozenModel):
    """Which checkpoints stay on the disk when their trials have ended; without these keys all that the trials kept.

    Never deleted are those of trials that may go on, of trials that others were forked from, and what ``init.from`` or
    an evaluation on the test split has used.
    """

    best: int | None = execution(
        None,
        ge=1,
        description="Configs, the best by the mean of sweep.metric over their seeds, that keep the checkpoints of all"
        " their seeds; by default all. Configs with seeds to come keep theirs until these have ended. A failed trial"
        " that is tried again begins anew where its checkpoints are gone.",
    )
    per_trial: int | None = execution(
        None, ge=1, description="Newest checkpoints that each ended trial keeps; by default trainer.checkpoint.keep."
    )
    disk: ByteSize | None = execution(
        None,
        description="Most bytes of all checkpoints together, such as 20 GB; beyond it the worst configs lose theirs"
        " first.",
    )


class NetworkLimits(FrozenModel):
    """What a config's network may cost. One that costs more is not trained; the searcher learns that it cannot be."""

    params: int | None = execution(None, ge=1, description="Most parameters.")
    macs: int | None = execution(None, ge=1, description="Most multiply-adds of a forward pass of one sample.")
    memory: ByteSize | None = execution(
        None,
        description="Most bytes of a training step, such as 200 MB, by count: weights, gradients, buffers, and what"
        " the backward pass keeps of one batch. The optimizer's state and libraries' workspaces are not counted.",
    )
    latency_ms: float | None = execution(
        None,
        gt=0,
        description="Most milliseconds of a forward pass of one sample, measured on the driver's machine with"
        " resources.cpus_per_rank threads: the median of 20, which the ledger keeps.",
    )


ProxyName = Literal["synflow", "jacobian_covariance", "gradient_norm"]


class Proxies(FrozenModel):
    """Scores of networks that cost no training; see docs/search.md."""

    measure: tuple[ProxyName, ...] = execution((), description="Which are measured of each config before training.")
    filter: ProxyName | None = execution(
        None, description="The one by which configs are passed over before training; by default none is."
    )
    keep: float = execution(
        0.5,
        gt=0,
        le=1,
        description="Share of the configs that are trained: the best by `filter` of all measured so far.",
    )
    after: int = execution(10, ge=2, le=100_000, description="Configs measured before the first is passed over.")

    @property
    def names(self) -> tuple[str, ...]:
        """All that are measured, the one of the filter among them."""
        return tuple(dict.fromkeys((*self.measure, *((self.filter,) if self.filter else ()))))


class FurtherObjective(FrozenModel):
    """A metric that configs are judged by besides the first."""

    metric: str = execution(description="The metric.")
    mode: Literal["max", "min"] = execution(description="Which direction of it is better.")


class Confirm(FrozenModel):
    """The leaders are trained again, with seeds that no choice was made by."""

    seeds: tuple[int, ...] = execution(description="Seeds of the confirming trials.")
    top: int = execution(ge=1, description="Number of configs that are confirmed.")


class Sweep(FrozenModel):
    """The search space, and who chooses in it."""

    filled_in: ClassVar[tuple[str, ...]] = ("confirm", "further")
    """Fields that are no keys of a file."""

    space: tuple[Dimension, ...] = execution((), description="The searched keys and their values.")
    seeds: tuple[int, ...] = execution(
        (0,),
        description="Seeds that every config is trained with: a count, a list, or {screen: 1, confirm: 5, top: 4}.",
    )
    confirm: Confirm | None = execution(
        None, description="Filled in from `seeds: {screen: 1, confirm: 5, top: 4}`: further seeds for the leaders."
    )
    searcher: InstanceOf[Spec] = execution(description="Who proposes configs.")
    scheduler: InstanceOf[Spec] | None = execution(None, description="Who stops or changes running trials.")
    metric: str = execution(
        UNDECLARED_MAIN_METRIC,
        description="What the sweep is judged by; by default the main metric of its task. A list, [val/top1, cost/macs]"
        " for example, has several objectives: the report shows the Pareto front, and nsga2 searches for it.",
    )
    mode: Literal["max", "min"] | None = execution(
        None, description="Direction of a metric of your own; of a list of metrics a list, null where it is known."
    )
    further: tuple[FurtherObjective, ...] = execution(
        (), description="Filled in from a list under `metric`: what is judged besides the first one."
    )
    select: Literal["last", "best_epoch"] = execution("last", description="Which report of a trial counts.")
    budget: Budget = execution(default_factory=Budget, description="When the sweep ends at the latest.")
    limits: NetworkLimits = execution(
        default_factory=NetworkLimits, description="What the network of a config may cost, before it is trained."
    )
    proxies: Proxies = execution(
        default_factory=Proxies, description="What is measured of a config's network before it is trained."
    )
    checkpoints: SweepCheckpoints = execution(
        default_factory=SweepCheckpoints, description="Which checkpoints of ended trials stay on the disk."
    )


ModelChoice = Literal["none", "best", "all"]
"""Of which configs the networks are exported."""


class Tracking(FrozenModel):
    """What MLflow gets besides the record."""

    models: ModelChoice = execution(
        "none",
        description="Networks that are exported after the sweep and logged as MLflow's models, which load without"
        " expflow: of no config, of the selected one (best), or of all. Of a config it is the finished trial with the"
        " lowest seed.",
    )


class Experiment(Recipe):
    """One YAML file."""

    name: str = execution(description="Name of the results; by default the file's stem.")
    about: About = execution(default_factory=About, description="What the experiment is for.")
    resources: Resources = execution(default_factory=Resources, description="What one trial runs on.")
    sweep: Sweep | None = execution(None, description="The search; without it the file is one trial.")
    report: ReportSettings = execution(default_factory=ReportSettings, description="What the report shows.")
    tracking: Tracking = execution(default_factory=Tracking, description="What MLflow gets besides the record.")
    storage: str | None = execution(
        None,
        description="Folder of all results, or an address such as s3://bucket/path; by default that of the site file,"
        " else ./runs. On the command line: --storage.",
    )
    file: Path = execution(description="The file this was read from (filled in by the loader).")

    @property
    def recipe(self) -> Recipe:
        """The recipe alone, as trained when nothing is searched."""
        return Recipe(**{field: getattr(self, field) for field in Recipe.model_fields})
