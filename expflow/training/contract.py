"""The contract between what schedules trials and what trains them.

``run_trial`` knows nothing of Ray or MLflow. It runs on the main thread of each rank, calls ``on_report`` with every
:class:`~expflow.events.Report`, and the answer says whether to go on.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from expflow.config.component_specs import task_spec
from expflow.config.schema import Recipe
from expflow.events import ArtifactKind, Report
from expflow.registry import load_dotted
from expflow.training.transfer.pretrained import PretrainedWeights
from expflow.training.transfer.trained_classifier import TrainedClassifier


@dataclass(frozen=True)
class World:
    """A rank's place among the ranks of its trial, and what it may use.

    Attributes:
        rank: This rank's number, from 0.
        ranks: How many ranks the trial has.
        threads: Compute threads of this rank.
        gpus: GPUs of this rank; 0: it computes on the CPU.
        trials_per_gpu: Trials at once on this rank's GPU.
        gpu_memory: Share of the GPU's memory that torch may take in this process.
    """

    rank: int = 0
    ranks: int = 1
    threads: int = 1
    gpus: int = 0
    trials_per_gpu: int = 1
    gpu_memory: float = 1.0


def trials_per_gpu(gpus_per_rank: float) -> int:
    """Trials at once on one GPU.

    Args:
        gpus_per_rank: GPUs of one rank; a fraction where trials share one.
    """
    return int(1 / gpus_per_rank + 1e-6) if 0 < gpus_per_rank < 1 else 1


@dataclass(frozen=True)
class DeviceNeed:
    """Memory that a trial takes of a GPU, in bytes.

    Attributes:
        peak: What torch's allocator held at its highest; None: more than there is.
        context: What is in use beside that: by CUDA itself, in each process.
        total: What the GPU has.
    """

    peak: int | None
    context: int
    total: int


@dataclass(frozen=True)
class Fence:
    """The driver that an attempt writes for. When a newer driver has taken over, nothing more may be written.

    Attributes:
        folder: The experiment's folder.
        epoch: The epoch that the driver's lock has there.
    """

    folder: Path
    epoch: int


@dataclass(frozen=True)
class Attempt:
    """All that one attempt at a trial needs, besides the world it runs in.

    An attempt goes on from the newest checkpoint in ``folder`` that can be read.

    Attributes:
        recipe: What is trained, and how.
        seed: Seed of the trial.
        data_root: The folder of prepared shards; None where the task needs no data.
        folder: The trial's own folder for logs and checkpoints; None: keep nothing.
        resume: The checkpoint of another trial to begin with where ``folder`` has none.
        forks: How often the trial took over another one's weights; checkpoints from before the last fork are not its
            own any more.
        number: The attempt's number, from 1.
        fence: What is checked before anything is written.
        weights: What a trial begins with whose recipe takes weights over (``init.from``).
        judged_by: The metric that the trial is judged by; "" where it is not known.
        features: The classifier in whose features its metrics compare images (``task.features``).
        labeller: The classifier whose classes are the labels of the train split (``data.labels_from``).
    """

    recipe: Recipe
    seed: int
    data_root: Path | None = None
    folder: Path | None = None
    resume: Path | None = None
    forks: int = 0
    number: int = 1
    fence: Fence | None = None
    weights: PretrainedWeights | None = None
    judged_by: str = ""
    features: TrainedClassifier | None = None
    labeller: TrainedClassifier | None = None


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended when it did not raise.

    Attributes:
        step: The optimizer step that it ended at.
        stopped: Whether it was told to stop.
        weights: sha256 over the final weights; "" without weights.
        reason: Why it ended before its last epoch by its own recipe (early stopping); "" where it did not.
    """

    step: int
    stopped: bool
    weights: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Began:
    """The attempt begins.

    Attributes:
        step: The optimizer step that it goes on from; 0 from the beginning.
        path: The checkpoint; None: fresh weights.
        refused: Of each newer checkpoint, why it was passed over.
        place: What it is computed on: ``ranks``, ``threads`` of each, ``device``; empty where nothing is computed.
    """

    step: int
    path: Path | None = None
    refused: tuple[str, ...] = ()
    place: dict[str, int | str] = field(default_factory=dict)


@dataclass(frozen=True)
class Saved:
    """A checkpoint was renamed into place.

    Attributes:
        step: The optimizer step that it was saved at.
        path: Its folder.
        sha256: Of its manifest, which holds those of all its files.
        size: Bytes of all its files.
        seconds: How long the training stood still for it.
    """

    step: int
    path: Path
    sha256: str
    size: int
    seconds: float = 0.0


@dataclass(frozen=True)
class Artifact:
    """A picture, a table or a text was written into the trial's folder.

    Attributes:
        step: The optimizer step that it shows.
        name: What it is called; the same name at another step shows the same thing later.
        path: The file.
        kind: What the file holds: a PNG, comma-separated values, or a text in UTF-8.
        sha256: Of the file.
        size: Bytes of the file.
    """

    step: int
    name: str
    path: Path
    kind: ArtifactKind
    sha256: str
    size: int


BATCH_SAMPLES = 8
"""Most samples of a batch that is only tried, in each rank."""


@dataclass(frozen=True)
class BatchCheck:
    """What is to be tried of a recipe before it is trained: one batch of training and one of validation.

    Attributes:
        samples: Samples of a rank's batch in the training.
        batch_of_one: Whether some batch of the training has one sample in each rank.
        ranks: Ranks of the trial, which have to share the loaders of a data module of the user's.
    """

    samples: int
    batch_of_one: bool = False
    ranks: int = 1


@dataclass(frozen=True)
class BatchFinding:
    """What came of a :class:`BatchCheck`.

    Attributes:
        metrics: Names of the metrics that were reported.
        failure: Why a batch fails; "" where none does.
        alone: Whether it fails because a batch has one sample, and works with more.
        skipped: Why nothing can be said; "" where something was found.
        key: Key of the recipe that the failure is about; "" where it is about the code.
    """

    metrics: tuple[str, ...] = ()
    failure: str = ""
    alone: bool = False
    skipped: str = ""
    key: str = ""


@dataclass(frozen=True)
class SystemMeasurement:
    """What training has taken of its machine since the measurement before.

    Attributes:
        step: The optimizer step at its end.
        metrics: Metric (``system/...``) to value.
    """

    step: int
    metrics: dict[str, float]


OnReport = Callable[[Report], bool]
"""Called with each report; returns whether to go on."""

Notice = Began | Saved | Artifact | SystemMeasurement
OnNotice = Callable[[Notice], None]
"""Called by rank 0 alone: once when the attempt begins, and after each checkpoint, artifact and measurement."""

Leave = Callable[[], bool]
"""Asked when training begins and after each batch: whether to write a checkpoint and leave, because this process has to
go. Each question is also a sign of progress."""


LEAVE_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGXCPU, signal.SIGUSR1, signal.SIGUSR2)
"""What batch systems send to processes that are to go, now or soon; each would end a process that does not expect it.
A rank that gets one has to leave."""


def ignore_notice(notice: Notice) -> None:
    """Do nothing with a notice: the default of ``on_notice``.

    Args:
        notice: Any notice.
    """


def stay() -> bool:
    """Never: the default of ``leave``."""
    return False


def run_trial(
    attempt: Attempt,
    world: World,
    on_report: OnReport,
    *,
    on_notice: OnNotice = ignore_notice,
    leave: Leave = stay,
) -> Outcome:
    """Train one trial to its end, or until ``on_report`` says no or ``leave`` says yes.

    The task's spec names its runner (``runner``, a dotted path): Lightning for real tasks, a script for tests.

    Args:
        attempt: The trial, and what this attempt at it goes on from.
        world: This rank's place among the trial's ranks.
        on_report: Called with each report; the trial ends where it returns False.
        on_notice: Called on rank 0 when the attempt begins, and after each checkpoint and artifact.
        leave: Asked when training begins and after each batch whether this process has to go.

    Raises:
        Diverged: The loss is not finite.
        Preempted: ``leave`` said yes, and a checkpoint was written.
        DiskFull: There is no room for a checkpoint.
        StaleDriver: A newer driver has taken over.
        Exception: Whatever else the trial raises.
    """
    runner: Callable[..., Outcome] = load_dotted(runner_of(attempt.recipe))
    return runner(attempt, world, on_report, on_notice=on_notice, leave=leave)


def runner_of(recipe: Recipe) -> str:
    """Dotted path of the runner that trains a recipe.

    Args:
        recipe: The recipe; a task of the user's is a LightningModule.
    """
    return task_spec(recipe.task).runner


def device_need(attempt: Attempt, world: World) -> DeviceNeed:
    """What the first steps of a trial take of the GPU that this process has to itself.

    Args:
        attempt: The trial.
        world: A world of one rank with a GPU.

    Returns:
        The need; running out of memory is an answer too.

    Raises:
        Exception: Whatever else the trial raises.
    """
    measure: Callable[[Attempt, World], DeviceNeed] = load_dotted(task_spec(attempt.recipe.task).device_need)
    return measure(attempt, world)
