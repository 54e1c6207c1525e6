"""Trains one trial with Lightning. It knows nothing of who asked for it, and leaves the process as it was."""

from __future__ import annotations

import random
import time
from dataclasses import replace
from typing import Any

from pytorch_lightning import LightningModule, Trainer

from expflow.config.schema import Recipe
from expflow.errors import UserError
from expflow.tasks import build_task, cost
from expflow.training.contract import Attempt, Leave, OnNotice, OnReport, Outcome, World
from expflow.training.feed import Feed, open_feed
from expflow.training.isolation import isolated, seed_everything
from expflow.training.reporter import Reporter, finite_metrics
from expflow.training.weights import digest


def run(attempt: Attempt, world: World, on_report: OnReport, *, on_notice: OnNotice, leave: Leave) -> Outcome:
    """Train ``attempt`` and report each validated epoch (see :func:`expflow.training.run_trial`).

    Two runs of one attempt on CPU give equal weights, whatever ran before them in this process.
    """
    if attempt.resume is not None:
        raise UserError("a Lightning trial starts from the beginning: it cannot go on from a checkpoint yet")
    begun = time.monotonic()
    with isolated(threads=world.threads, deterministic=not world.gpus):
        seed_everything(attempt.seed)
        feed = open_feed(attempt, world)
        task = build_task(attempt.recipe, feed.spec)
        seed_everything(_training_seed(attempt.seed, world.rank))
        return _train(attempt, world, on_report, feed, task, begun)


def _training_seed(seed: int, rank: int) -> int:
    """Seed of all randomness after the weights are drawn: it differs between ranks, which share the weights alone."""
    return random.Random(f"training {seed} {rank}").getrandbits(32)  # noqa: S311 (no secret: it must be repeatable)


def _train(
    attempt: Attempt, world: World, on_report: OnReport, feed: Feed, task: LightningModule, begun: float
) -> Outcome:
    recipe = attempt.recipe
    reporter = Reporter(on_report, epochs=recipe.trainer.epochs, validate_every=recipe.trainer.validate_every)
    trainer = make_trainer(recipe, world, reporter)
    _fit(trainer, task, feed)
    step = trainer.global_step
    if reporter.last is not None and not reporter.stopped:
        metrics = dict(reporter.last.metrics)
        if not reporter.validated_last:
            metrics |= _evaluate(trainer, task, feed.for_validation, step)
        metrics |= _as_fit(_evaluate(trainer, task, feed.fit, step))
        metrics |= _costs(recipe, feed, begun)
        on_report(replace(reporter.last, metrics=metrics))
    return Outcome(step, reporter.stopped, digest(task))


def _fit(trainer: Trainer, task: LightningModule, feed: Feed) -> None:
    """``Trainer.fit``; a Ctrl-C in it, which Lightning turns into an exit with code 1, is a KeyboardInterrupt again."""
    try:
        trainer.fit(task, **feed.for_fit)
    except SystemExit as error:
        if isinstance(error.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from error
        raise


def make_trainer(recipe: Recipe, world: World, reporter: Reporter) -> Trainer:
    """Lightning's Trainer without its loggers, checkpoints, bars and summaries, which are ours to do.

    Raises :class:`UserError` where ``trainer.lightning`` sets what the recipe or the runner decides.
    """
    ours: dict[str, Any] = {
        "max_epochs": recipe.trainer.epochs,
        "check_val_every_n_epoch": recipe.trainer.validate_every,
        "accelerator": "gpu" if world.gpus else "cpu",
        "devices": 1,
        "callbacks": [reporter],
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "use_distributed_sampler": False,
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


def _costs(recipe: Recipe, feed: Feed, begun: float) -> dict[str, float]:
    seconds = time.monotonic() - begun
    counted = cost(recipe, feed.spec)
    macs = {} if counted.macs is None else {"cost/macs": float(counted.macs)}
    return {"cost/params": float(counted.params), "cost/seconds": seconds, **macs}
