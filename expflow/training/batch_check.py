"""One batch of training and one of validation of a recipe, by the trial's own runner and within bounds.

What fails there fails in every trial of that network, and is known in a second: an output of the wrong shape, a loss
that does not fit, a callback that cannot work, a metric that does not come. Bounds are looked at between operations:
one that takes long is waited for.
"""

from __future__ import annotations

import os
import re
import signal
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from expflow.architectures.building import build
from expflow.architectures.operation_observer import OperationObserver
from expflow.config.component_specs import FITTING_RUNNER, LIGHTNING_RUNNER, TaskSpec
from expflow.config.module_import import is_users_file
from expflow.config.schema import Recipe
from expflow.config.spec import Spec, UserComponent
from expflow.data.dataspec import DataSpec
from expflow.data.prepare.prepared import data_spec
from expflow.data.shards.manifest import ShardManifest, read_manifest
from expflow.data.source_spec import ShardedSourceSpec
from expflow.data.streaming.decoded_cache import decoded_bytes
from expflow.errors import ExpflowError, MetricMissing, OutOfMemory, TrialError, UserError
from expflow.events import Report
from expflow.tasks import build_task, cost
from expflow.training.contract import BATCH_SAMPLES, Attempt, BatchCheck, BatchFinding, World, run_trial, runner_of
from expflow.training.isolation import isolated
from expflow.training.trial_data import check_shareable

SECONDS = 20.0
MEMORY_BYTES = 2 * 2**30
"""What the batches of one network may take; beyond it nothing is said of the network."""

BYTES_PER_PARAMETER = 12
"""A weight, its gradient and a momentum, in 32 bits."""

SMALL_SPLIT_BYTES = 64 * 2**20
"""A training split that takes no more when decoded is read as trials read it, from the node's decoded file."""

QUICK_MACS = 5 * 10**9
"""Multiply-adds of a batch's forward pass that are not worth smaller images or fewer samples."""

SIZES = (32, 64, 96, 128, 160, 192)
"""Sizes of images that a slow network is tried with, the first that it takes."""

TICK_SECONDS = 0.25
"""How often the bounds are looked at."""

LEAVING_SECONDS = 5.0
"""How long code may take to leave before it is asked again: it may have passed over that."""

LENGTHS = frozenset(
    {"limit_train_batches", "limit_val_batches", "val_check_interval", "overfit_batches", "fast_dev_run", "max_steps"}
    | {"max_time", "min_epochs", "min_steps"}
)
"""Arguments of Lightning's Trainer that say how long a training is."""


class _BoundReached(BaseException):
    """Raised in whatever runs; a BaseException, so that no code of the user's takes it for an error of its own."""


def check_batches(check: BatchCheck, attempt: Attempt, world: World) -> BatchFinding:
    """Train one batch and validate one, and once more with a batch of one sample where the training has such.

    Nothing is kept of it, and all that it changes in the process is undone.

    Args:
        check: What is to be tried.
        attempt: The trial; its folder stays as it is.
        world: This rank's place among the trial's ranks, all of which have to call this.
    """
    if runner_of(attempt.recipe) == FITTING_RUNNER:
        return _built(attempt)
    if runner_of(attempt.recipe) != LIGHTNING_RUNNER:
        return BatchFinding(skipped="its task has a runner of its own")
    try:
        with _bounded() if world.ranks == 1 else nullcontext():  # ranks that wait for each other leave together
            return _try(check, replace(attempt, folder=None, resume=None, fence=None, forks=0), world)
    except _BoundReached as bound:
        return BatchFinding(skipped=f"one batch takes {bound}")
    except OutOfMemory:
        return BatchFinding(skipped="one batch takes more memory than there is")
    except TrialError as error:  # numbers that are not finite may come of eight samples alone
        return BatchFinding(skipped=str(error))
    except MetricMissing as error:
        key, _, reason = str(error).partition(": ")
        return BatchFinding(failure=reason, key=key)
    except (Exception, SystemExit) as error:  # noqa: BLE001  the user's code runs here and may raise anything
        return BatchFinding(failure=described_error(error), alone=check.samples == 1, key=_argument(error))


def _argument(error: BaseException) -> str:
    """The argument of the task that an error of ours is about; "" where it names none."""
    named = re.match(r"task\.\w+", str(error)) if isinstance(error, UserError) else None
    return "" if named is None else named[0]


def _built(attempt: Attempt) -> BatchFinding:
    """What is wrong with a task that is fitted once. It is built alone: a fit on few samples says nothing."""
    recipe, task = attempt.recipe, attempt.recipe.task
    try:
        with isolated(threads=1, deterministic=False):
            build_task(recipe, data_spec(read_manifest(attempt.data_root), recipe.data))  # type: ignore[arg-type]
    except (Exception, SystemExit) as error:  # noqa: BLE001  the network may be the user's
        return BatchFinding(failure=described_error(error), key=_argument(error))
    names = task.metrics if isinstance(task, TaskSpec) else ()
    measured = (f"{split}/{name}" for split in ("val", "fit") for name in names)
    return BatchFinding((*measured, "cost/params", "cost/seconds", "cost/peak_bytes", "progress/epoch"))


def _try(check: BatchCheck, attempt: Attempt, world: World) -> BatchFinding:
    recipe, samples, pixels = attempt.recipe, min(check.samples, BATCH_SAMPLES), None
    sharded = attempt.data_root is not None and isinstance(recipe.data, ShardedSourceSpec)
    manifest = read_manifest(attempt.data_root) if attempt.data_root is not None and sharded else None
    if manifest is not None and isinstance(recipe.model, Spec):
        spec = data_spec(manifest, recipe.data)  # type: ignore[arg-type]
        counted = cost(recipe, spec)
        if (needed := counted.params * BYTES_PER_PARAMETER) > MEMORY_BYTES:
            return BatchFinding(skipped=f"its weights and gradients alone take {needed / 2**30:.1f} GiB")
        if (counted.macs or 0) * samples > QUICK_MACS:
            pixels = _smaller_images(recipe, spec)
            samples = samples if pixels else max(min(samples, 2), QUICK_MACS // (counted.macs or 1))
    if world.ranks == 1:  # several ranks find out by themselves
        with isolated(threads=world.threads, deterministic=False):
            check_shareable(attempt, check.ranks)
    metrics = _first_epoch(attempt, world, _shortened(recipe, manifest, samples * world.ranks, world, pixels))
    if check.batch_of_one and samples > 1:
        try:
            _first_epoch(attempt, world, _shortened(recipe, manifest, world.ranks, world, None))
        except TrialError:
            pass
        except (Exception, SystemExit) as error:  # noqa: BLE001  as in check_batches
            return BatchFinding(metrics, described_error(error), alone=True)
    return BatchFinding(metrics)


def _first_epoch(attempt: Attempt, world: World, recipe: Recipe) -> tuple[str, ...]:
    """The names of the metrics that an epoch of one batch and its validation report, no finite numbers among them."""
    reported: dict[str, None] = {}

    def on_report(report: Report) -> bool:
        reported.update(dict.fromkeys((*report.metrics, *report.missing)))
        return False

    run_trial(replace(attempt, recipe=recipe), world, on_report)
    if not reported and world.rank == 0:
        raise UserError("an epoch ends without a report: there is no batch to train on")
    return tuple(reported)


def _shortened(
    recipe: Recipe, manifest: ShardManifest | None, batch_size: int, world: World, pixels: int | None
) -> Recipe:
    """The recipe with one small batch in an epoch, and without what takes long before the first one."""
    trainer, updates = recipe.trainer, dict[str, Any]()
    lightning = {key: value for key, value in trainer.lightning.items() if key not in LENGTHS}
    lightning |= {"limit_train_batches": 1, "limit_val_batches": 1}
    changed: dict[str, Any] = {"validate_every": 1, "compile": False, "lightning": lightning}
    if trainer.precision in ("16-mixed", "tf32") and not world.gpus:
        changed["precision"] = 32
    if pixels is not None:
        changed["image_sizes"] = ((0, pixels),)
    updates["trainer"] = trainer.model_copy(update=changed)
    if recipe.init is not None and recipe.init.probe:
        updates["init"] = recipe.init.model_copy(update={"probe": False})
    if manifest is not None and isinstance(recipe.data, ShardedSourceSpec):
        updates["data"] = recipe.data.model_copy(update=_small_batches(recipe.data, manifest, batch_size))
    return recipe.model_copy(update=updates)


def _small_batches(data: ShardedSourceSpec, manifest: ShardManifest, batch_size: int) -> dict[str, Any]:
    small: dict[str, Any] = {"batch_size": batch_size, "last": "keep", "labels_from": ""}  # labels would take an epoch
    decoded = decoded_bytes(manifest, manifest.samples("train"))
    if decoded is None or decoded > min(data.memory, SMALL_SPLIT_BYTES):
        small |= {"limit": batch_size, "memory": 0}
    return small


def _smaller_images(recipe: Recipe, spec: DataSpec) -> int | None:
    """The smallest of :data:`SIZES` that a network takes which is built for the data's own, larger images.

    None where it takes no other than the data's, and where the task or the recipe decides about sizes.
    """
    if isinstance(recipe.task, UserComponent) or recipe.trainer.image_sizes or not isinstance(recipe.model, Spec):
        return None
    try:
        with torch.device("meta"), torch.no_grad(), OperationObserver():
            network = build(recipe.model, spec).eval()
            for pixels in (size for size in SIZES if size < min(spec.image_size)):
                if _takes(network, spec, pixels):
                    return pixels
    except Exception:  # noqa: BLE001  a network of the user's that does not run on the meta device
        return None
    return None


def _takes(network: torch.nn.Module, spec: DataSpec, pixels: int) -> bool:
    try:
        output = network(torch.zeros(1, spec.in_channels, pixels, pixels))
    except Exception:  # noqa: BLE001  whatever a network raises at a shape means no
        return False
    return isinstance(output, torch.Tensor) and output.shape[:2] == (1, spec.num_classes)


def described_error(error: BaseException) -> str:
    """An error of a trial's in one line, with the last place in a file of the user's.

    Args:
        error: What was raised.
    """
    lines = str(error).strip().splitlines() or [""]
    text = lines[0] if isinstance(error, ExpflowError) else f"{type(error).__name__}: {lines[0]}"
    frames = [(Path(frame.filename), frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    places = [(file, line) for file, line in frames if file.is_file() and is_users_file(file.resolve())]
    return f"{text} ({places[-1][0].name}:{places[-1][1]})" if places else text


@contextmanager
def _bounded() -> Iterator[None]:
    """Leave the body when it has taken :data:`SECONDS` or :data:`MEMORY_BYTES`.

    Only the main thread can be left, where signals arrive; elsewhere there are no bounds.

    Raises:
        _BoundReached: It has; its text says what it took.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    end, before, quiet_until = time.monotonic() + SECONDS, _resident_bytes(), 0.0

    def look(signal_number: int, frame: Any) -> None:
        nonlocal quiet_until
        now = time.monotonic()
        late, large = now > end, _resident_bytes() - before > MEMORY_BYTES
        if (late or large) and now > quiet_until:
            quiet_until = now + LEAVING_SECONDS  # what is undone on the way out must not be left half undone
            raise _BoundReached(f"more than {SECONDS:g} s" if late else f"more than {MEMORY_BYTES / 2**30:g} GiB")

    handler = signal.signal(signal.SIGALRM, look)
    remaining = signal.setitimer(signal.ITIMER_REAL, TICK_SECONDS, TICK_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *remaining)
        signal.signal(signal.SIGALRM, handler)


def _resident_bytes() -> int:
    """Resident memory of this process; 0 where the system does not say."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
