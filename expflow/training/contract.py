"""The contract between whoever schedules trials and whoever trains them (design section 4.5).

``run_trial`` knows nothing of Ray or MLflow. It runs on the main thread of each rank, calls ``on_report`` with every
:class:`~expflow.events.Report` and is told whether to go on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from expflow.config.schema import Recipe
from expflow.events import Report
from expflow.registry import load_dotted
from expflow.training.transfer.source import Pretrained


@dataclass(frozen=True)
class World:
    """Where a rank stands among the ranks of its trial, and what it may use."""

    rank: int = 0
    ranks: int = 1
    threads: int = 1
    gpus: int = 0
    sharing: int = 1
    """Trials at once on this rank's GPU."""
    gpu_memory: float = 1.0
    """Share of the GPU's memory that torch may take in this process."""


def sharing(gpus_per_rank: float) -> int:
    """Trials at once on one GPU, where each rank has ``gpus_per_rank`` of it."""
    return int(1 / gpus_per_rank + 1e-6) if 0 < gpus_per_rank < 1 else 1


@dataclass(frozen=True)
class DeviceNeed:
    """Bytes that a trial takes of a GPU with ``total``: ``peak``, as torch's allocator held at its highest (None: more
    than there is), and ``context``, what is in use beside that: by CUDA itself, in each process."""

    peak: int | None
    context: int
    total: int


@dataclass(frozen=True)
class Fence:
    """For whom an attempt writes: the driver of ``epoch`` of the experiment in ``folder``, while it is the newest."""

    folder: Path
    epoch: int


@dataclass(frozen=True)
class Attempt:
    """All that one attempt at a trial needs, besides the world it runs in.

    ``data_root`` is the folder of prepared shards (None where the task needs no data), ``folder`` the trial's own
    folder for logs and checkpoints (None: keep nothing). An attempt goes on from the newest checkpoint in ``folder``
    that reads; ``resume`` is the checkpoint of another trial to begin with where there is none.
    ``weights`` are those that a trial begins with whose recipe takes some over (``init.from``).
    ``forks`` counts how often the trial took over another one's weights: its checkpoints from before the last fork are
    not its own any more. ``number`` is the attempt's number, from 1; ``fence`` is checked before anything is written.
    """

    recipe: Recipe
    seed: int
    data_root: Path | None = None
    folder: Path | None = None
    resume: Path | None = None
    forks: int = 0
    number: int = 1
    fence: Fence | None = None
    weights: Pretrained | None = None


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended when it did not raise. ``weights``: sha256 over the final weights, "" without weights.

    ``reason`` says why a trial ended before its last epoch by its own recipe (early stopping); "" where it did not.
    """

    step: int
    stopped: bool
    weights: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Began:
    """The attempt begins at ``step``, from the checkpoint at ``path`` (None: from fresh weights).

    ``refused`` says of each newer checkpoint why it was passed over.
    """

    step: int
    path: Path | None = None
    refused: tuple[str, ...] = ()


@dataclass(frozen=True)
class Saved:
    """A checkpoint was renamed into place at ``path``. ``sha256`` is that of its manifest, which holds all others."""

    step: int
    path: Path
    sha256: str
    size: int
    """Bytes of all its files."""


LIGHTNING = "expflow.training.lightning_runner:run"
"""The runner of every task that does not name another one."""

LIGHTNING_NEED = "expflow.training.device:device_need"
"""What measures the tasks that :data:`LIGHTNING` trains."""

OnReport = Callable[[Report], bool]
"""Called with each report; returns whether to go on."""

Notice = Began | Saved
OnNotice = Callable[[Notice], None]
"""Called by rank 0 alone: once when the attempt begins, and after each checkpoint."""

Leave = Callable[[], bool]
"""Asked after each batch: whether to write a checkpoint and leave, because this process has to go."""


def _nobody_listens(notice: Notice) -> None:
    pass


def _stay() -> bool:
    return False


def run_trial(
    attempt: Attempt,
    world: World,
    on_report: OnReport,
    *,
    on_notice: OnNotice = _nobody_listens,
    leave: Leave = _stay,
) -> Outcome:
    """Train one trial to its end, or until ``on_report`` says no or ``leave`` says yes.

    The task's spec names its runner (``runner``, a dotted path): Lightning for real tasks, a script for tests.
    Raises what the trial raises; :class:`~expflow.errors.Diverged` when the loss is not finite,
    :class:`~expflow.errors.Preempted` after ``leave`` said yes, :class:`~expflow.errors.DiskFull` without room for a
    checkpoint, and :class:`~expflow.errors.StaleDriver` when a newer driver has taken over.
    """
    runner: Callable[..., Outcome] = load_dotted(runner_of(attempt.recipe))
    return runner(attempt, world, on_report, on_notice=on_notice, leave=leave)


def runner_of(recipe: Recipe) -> str:
    """Dotted path of what trains ``recipe``; a task of the user's is a LightningModule."""
    # asked of the class: an argument of a user's task may be called `runner` too
    path: str = getattr(type(recipe.task), "runner", LIGHTNING)
    return path


def device_need(attempt: Attempt, world: World) -> DeviceNeed:
    """What the first steps of a trial take of the GPU that this process has to itself.

    Raises what the trial raises; running out of memory is an answer.
    """
    path: str = getattr(type(attempt.recipe.task), "device_need", LIGHTNING_NEED)
    measure: Callable[[Attempt, World], DeviceNeed] = load_dotted(path)
    return measure(attempt, world)
