"""Trains one trial with Lightning. It knows nothing of who asked for it, and leaves the process as it was."""

from __future__ import annotations

import contextlib
import logging
import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback

from expflow.config.schema import Recipe
from expflow.config.spec import Foreign
from expflow.errors import UserError
from expflow.registry import SLOTS, load_dotted
from expflow.tasks import build_task, cost
from expflow.training.arguments import computing, early_reason, recipe_callbacks, trainer_arguments
from expflow.training.bad_samples import bad_sample_callbacks
from expflow.training.buffers import SameBuffers
from expflow.training.checkpoints.callback import Checkpointer
from expflow.training.checkpoints.choice import choose
from expflow.training.checkpoints.reading import read
from expflow.training.contract import Attempt, Began, Leave, OnNotice, OnReport, Outcome, World
from expflow.training.feed import Feed, open_feed
from expflow.training.isolation import isolated, seed_everything
from expflow.training.memory import memory_watched, within_share
from expflow.training.mixing import mixing_callbacks
from expflow.training.peaks import device_peak_bytes, peak_bytes
from expflow.training.protocol.collecting import Collecting
from expflow.training.ranks import agree, shared_decision, trainer_options
from expflow.training.reporter import Reporter, finite_metrics
from expflow.training.sync_norm import synchronised
from expflow.training.transfer.features import probed
from expflow.training.transfer.freezing import frees_later, freezing_callbacks
from expflow.training.transfer.weights import begin
from expflow.training.weights import digest

logger = logging.getLogger(__name__)


def run(attempt: Attempt, world: World, on_report: OnReport, *, on_notice: OnNotice, leave: Leave) -> Outcome:
    """Train ``attempt`` and report each validated epoch (see :func:`expflow.training.run_trial`).

    Two runs of one attempt on CPU give equal weights, whatever ran before them in this process.
    """
    agree(attempt, world)
    on_report = shared_decision(on_report, world)
    choice = choose(attempt)
    for reason in choice.refused:
        logger.warning("passed over: %s", reason)
    if world.rank == 0:
        on_notice(Began(choice.step, choice.path, choice.refused))
    _import_own(attempt.recipe)
    with (
        memory_watched(attempt.recipe, world),
        isolated(threads=world.threads, deterministic=not world.gpus),
        within_share(world),
    ):
        seed_everything(attempt.seed)
        feed = open_feed(attempt, world)
        task = build_task(attempt.recipe, feed.spec)
        if attempt.recipe.trainer.sync_batchnorm:
            synchronised(task, world)
        if choice.path is None:
            begin(attempt, task)
        loaded = read(choice, task, world, attempt.recipe.trainer.checkpoint.allow)
        feed = probed(attempt, world, feed, task, loaded)
        seed_everything(_training_seed(attempt.seed, world.rank, 0 if loaded is None or loaded.rank else choice.step))
        reporter = _reporter(attempt.recipe, on_report)
        checkpointer = Checkpointer(attempt, world, loaded=loaded, check=reporter.check, notify=on_notice, leave=leave)
        with computing(attempt.recipe, task):
            return _train(attempt, world, on_report, feed, task, reporter, checkpointer, choice.path)


def _import_own(recipe: Recipe) -> None:
    """Import the user's modules. Some seed generators or set a default type as they are imported: were it done by the
    first trial of a process, that trial alone would see it.
    """
    slots = (getattr(recipe, slot) for slot in SLOTS)
    for spec in (each for slot in slots for each in (slot.values() if isinstance(slot, Mapping) else [slot])):
        if isinstance(spec, Foreign):
            with contextlib.suppress(Exception):  # whoever builds it meets the same error, and says what it was for
                load_dotted(spec.name)


def _training_seed(seed: int, rank: int, step: int) -> int:
    """Seed of all randomness after the weights are drawn: it differs between ranks, which share the weights alone.

    ``step`` is 0 except for a rank that goes on from a checkpoint which it had no part in.
    """
    place = f"{rank} {step}" if step else f"{rank}"
    return random.Random(f"training {seed} {place}").getrandbits(32)  # noqa: S311 (no secret: it must be repeatable)


def _reporter(recipe: Recipe, on_report: OnReport) -> Reporter:
    return Reporter(on_report, epochs=recipe.trainer.epochs, validate_every=recipe.trainer.validate_every)


def _train(
    attempt: Attempt,
    world: World,
    on_report: OnReport,
    feed: Feed,
    task: LightningModule,
    reporter: Reporter,
    checkpointer: Checkpointer,
    start: Path | None,
) -> Outcome:
    recipe = attempt.recipe
    collecting = Collecting()
    fed = [
        *freezing_callbacks(recipe, task),
        *mixing_callbacks(recipe, feed.spec, attempt.seed),
        *bad_sample_callbacks(recipe, feed, world),
        *([SameBuffers()] if world.ranks > 1 else []),
        collecting,
    ]
    trainer = make_trainer(recipe, world, reporter, checkpointer, fed)
    _fit(trainer, task, feed.watched(checkpointer.watch), start)
    step = trainer.global_step
    if reporter.last is not None and not reporter.stopped:
        metrics = dict(reporter.last.metrics)
        if not reporter.validated_last or not (collecting.complete or attempt.folder is None):
            metrics |= _evaluate(trainer, task, feed.for_validation, step)
        collecting.save(attempt, world)
        metrics |= _as_fit(_evaluate(trainer, task, feed.fit, step))
        metrics |= _costs(recipe, feed, checkpointer.seconds)
        on_report(replace(reporter.last, metrics=metrics))
    return Outcome(step, reporter.stopped, digest(task), early_reason(trainer))


def _fit(trainer: Trainer, task: LightningModule, feed: Feed, start: Path | None) -> None:
    """``Trainer.fit``, from the checkpoint ``start`` where there is one.

    A Ctrl-C in it, which Lightning turns into an exit with code 1, is a KeyboardInterrupt again.
    """
    try:
        trainer.fit(task, ckpt_path=start, **feed.for_fit)
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from error
        raise


def make_trainer(
    recipe: Recipe, world: World, reporter: Reporter, checkpointer: Checkpointer, others: list[Callback]
) -> Trainer:
    """Lightning's Trainer without its loggers, checkpoints, bars and summaries, which are ours to do.

    ``others`` are the callbacks for what is not under ``trainer``.

    Raises :class:`UserError` where ``trainer.lightning`` sets what the recipe or the runner decides.
    """
    ours: dict[str, Any] = {
        "max_epochs": recipe.trainer.epochs,
        "check_val_every_n_epoch": recipe.trainer.validate_every,
        "accelerator": "gpu" if world.gpus else "cpu",
        "devices": 1,
        "callbacks": [*recipe_callbacks(recipe), *others, reporter, checkpointer],
        "plugins": [checkpointer.files],
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,
        **trainer_arguments(recipe, world),
        **trainer_options(world, unused=frees_later(recipe.init)),
    }
    theirs = recipe.trainer.lightning
    if taken := sorted(ours.keys() & theirs.keys()):
        raise UserError(f"trainer.lightning.{taken[0]} cannot be set: other keys of trainer and resources decide it")
    try:
        return Trainer(**ours, **theirs)
    except (TypeError, ValueError) as error:
        raise UserError(f"trainer.lightning is refused by Lightning: {error}") from error


def _evaluate(trainer: Trainer, task: LightningModule, batches: Any, step: int) -> dict[str, float]:
    """The task's validation metrics on ``batches``; nothing where task or data have no validation."""
    if batches is None or type(task).validation_step is LightningModule.validation_step:
        return {}
    trainer.validate(task, batches, verbose=False)
    return finite_metrics(trainer.callback_metrics, step)


def _as_fit(metrics: dict[str, float]) -> dict[str, float]:
    """Validation metrics that were measured on the training set, under their own name."""
    return {"fit" + name.removeprefix("val"): value for name, value in metrics.items() if name.startswith("val/")}


def _costs(recipe: Recipe, feed: Feed, seconds: float) -> dict[str, float]:
    counted = cost(recipe, feed.spec)
    macs = {} if counted.macs is None else {"cost/macs": float(counted.macs)}
    peak = device_peak_bytes() or peak_bytes()
    memory = {} if peak is None else {"cost/peak_bytes": float(peak)}
    return {"cost/params": float(counted.params), "cost/seconds": seconds, **macs, **memory}
