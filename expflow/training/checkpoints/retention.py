"""Which checkpoints of a sweep are deleted: a pure function over the ledger's state, and the deletion of one.

Each rank prunes its own trial's checkpoints while it trains (``trainer.checkpoint.keep``). What is left after hundreds
of trials is decided here, by the keys under ``sweep.checkpoints``. Deciding and deleting are apart, so that the driver
can write the event ``pruned`` to the disk in between: a checkpoint that is missing without one is a fault.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from expflow.config.schema import SweepCheckpoints
from expflow.events import CheckpointPruned
from expflow.ledger.header import Header
from expflow.ledger.state import SweepState
from expflow.ledger.trial_values import counted_value, rank_by_mean
from expflow.training.checkpoints.selection import CHECKPOINTS_FOLDER
from expflow.training.checkpoints.storage import checkpoint_step, list_checkpoints, remove_checkpoint


@dataclass(frozen=True)
class StoredCheckpoint:
    """A checkpoint that lies on the disk.

    Attributes:
        trial: Id of the trial in whose folder it lies.
        step: The optimizer step that it was saved at.
        path: Its folder, relative to the experiment's folder.
        size: Bytes of its files.
    """

    trial: str
    step: int
    path: str
    size: int


@dataclass(frozen=True)
class RetentionDecision:
    """What is deleted.

    Attributes:
        prune: One event for each checkpoint that goes, in the order in which they go.
        excess: Bytes above ``sweep.checkpoints.disk`` that are left, because what remains must not be deleted.
    """

    prune: tuple[CheckpointPruned, ...] = ()
    excess: int = 0


def stored_checkpoints(folder: Path, trial: str, trial_folder: Path) -> list[StoredCheckpoint]:
    """The checkpoints of one trial that lie on the disk, newest first. Files are counted, not read.

    Args:
        folder: The experiment's folder.
        trial: Id of the trial.
        trial_folder: The trial's own folder, inside ``folder``.
    """
    return [
        StoredCheckpoint(trial, checkpoint_step(path), str(path.relative_to(folder)), _bytes_in(path))
        for path in list_checkpoints(trial_folder / CHECKPOINTS_FOLDER)
    ]


def decide_retention(
    state: SweepState,
    stored: Iterable[StoredCheckpoint],
    rules: SweepCheckpoints,
    *,
    pinned: Collection[str] = (),
) -> RetentionDecision:
    """Which of the stored checkpoints are deleted. The same arguments give the same answer.

    Only trials of the latest plan that have ended lose checkpoints, and never those of :func:`protected_trials`.

    Args:
        state: What the ledger says of all trials.
        stored: All checkpoints on the disk, of all trials.
        rules: The keys under ``sweep.checkpoints``; those that are not set delete nothing.
        pinned: Paths of checkpoints, relative to the experiment's folder, that must stay (what ``init.from`` named).
    """
    checkpoints = sorted(stored, key=lambda checkpoint: (checkpoint.trial, -checkpoint.step, checkpoint.path))
    kept_trials = protected_trials(state)
    free = [
        checkpoint
        for checkpoint in checkpoints
        if checkpoint.trial in state.current and checkpoint.trial not in kept_trials and checkpoint.path not in pinned
    ]
    ranking = rank_by_mean(state)
    reasons = dict(_by_rank(free, state, ranking, rules))
    excess = 0
    if rules.disk is not None:
        excess = sum(checkpoint.size for checkpoint in checkpoints if checkpoint not in reasons) - rules.disk
        left = [checkpoint for checkpoint in free if checkpoint not in reasons]
        for checkpoint in _worst_first(left, state, ranking):
            if excess <= 0:
                break
            reasons[checkpoint] = f"all checkpoints together have more than sweep.checkpoints.disk, {rules.disk} bytes"
            excess -= checkpoint.size
    prune = tuple(
        CheckpointPruned(checkpoint.trial, checkpoint.step, checkpoint.path, reason)
        for checkpoint, reason in reasons.items()
    )
    return RetentionDecision(prune, max(0, excess))


def protected_trials(state: SweepState) -> frozenset[str]:
    """Ids of the trials whose checkpoints are never deleted.

    They are those that may go on (waiting, running, paused), those that another trial was forked from, and those that
    a test evaluation used.

    Args:
        state: What the ledger says of all trials.
    """
    trials = state.trials.values()
    going_on = {trial.trial for trial in trials if not trial.ended}
    sources = {fork.source for trial in trials for fork in trial.forks}
    evaluated = set[str]()
    for evaluation in state.split_evaluations:
        evaluated.update(evaluation.metrics, evaluation.predictions, *evaluation.members.values())
    return frozenset(going_on | sources | evaluated)


def delete_checkpoint(folder: Path, pruned: CheckpointPruned) -> None:
    """Delete one checkpoint, whole: a reader sees all of it or nothing. One that is gone already is no error.

    Args:
        folder: The experiment's folder.
        pruned: The event that names it, which has to be in the ledger before.
    """
    remove_checkpoint(folder / pruned.path)


def _by_rank(
    free: Sequence[StoredCheckpoint], state: SweepState, ranking: Sequence[str], rules: SweepCheckpoints
) -> Iterator[tuple[StoredCheckpoint, str]]:
    """What ``best`` and ``per_trial`` delete, with the reason. ``free``: of one trial the newest come first."""
    kept = _kept_configs(state, ranking, rules.best) if rules.best is not None else frozenset()
    count = dict.fromkeys((checkpoint.trial for checkpoint in free), 0)
    for checkpoint in free:
        count[checkpoint.trial] += 1
        if rules.best is not None and state.trials[checkpoint.trial].config not in kept:
            yield checkpoint, f"its config is not among the best {rules.best} (sweep.checkpoints.best)"
        elif rules.per_trial is not None and count[checkpoint.trial] > rules.per_trial:
            yield checkpoint, f"its trial has ended and has {rules.per_trial} newer (sweep.checkpoints.per_trial)"


def _worst_first(free: Sequence[StoredCheckpoint], state: SweepState, ranking: Sequence[str]) -> list[StoredCheckpoint]:
    """The order in which a bounded disk is emptied.

    First all but the newest checkpoint of each trial, then those; in both, unranked trials first in the order in which
    they were proposed, then those of ranked configs, the worst first. The newest of each seed of the best config are
    not among them.
    """
    newest = {checkpoint.trial: checkpoint for checkpoint in reversed(free)}
    trials = [*state.current, *reversed(_ranked_trials(state, ranking))]
    place = {trial: index for index, trial in enumerate(trials)}  # a ranked one: its later place
    best = ranking[0] if ranking else None

    def is_kept(checkpoint: StoredCheckpoint) -> bool:
        trial = state.trials[checkpoint.trial]
        return trial.config == best and trial.status == "done" and checkpoint is newest[checkpoint.trial]

    def order(checkpoint: StoredCheckpoint) -> tuple[bool, int, int]:
        return checkpoint is newest[checkpoint.trial], place[checkpoint.trial], checkpoint.step

    return sorted((checkpoint for checkpoint in free if not is_kept(checkpoint)), key=order)


def _kept_configs(state: SweepState, ranking: Sequence[str], best: int) -> frozenset[str]:
    """Ids of the configs whose checkpoints stay: the best ones, and those whose place is not known yet.

    What is tested is a whole config, the best by the mean over its seeds. So nothing of it goes while some of its seeds
    have not ended (one that was stopped is not selected), and all that are to be confirmed stay among the best.
    """
    header = state.header or Header(name="", text="", file="")
    missing: dict[str, set[int]] = {}
    for trial in state.plan_trials():
        seeds = missing.setdefault(trial.config, set(header.seeds))
        if trial.status == "stopped":
            seeds.clear()
        elif trial.ended:
            seeds.discard(trial.seed)
    unknown = {config for config, seeds in missing.items() if seeds}
    return frozenset([*ranking[: max(best, header.confirm.get("top", 0))], *unknown])


def _ranked_trials(state: SweepState, ranking: Sequence[str]) -> list[str]:
    """The finished trials of the ranked configs, those of the best config first."""
    header = state.header
    done: dict[str, list[str]] = {config: [] for config in ranking}
    for trial in state.plan_trials():
        if header is not None and counted_value(trial, header.metric, header) is not None:
            done[trial.config].append(trial.trial)
    return [trial for trials in done.values() for trial in trials]


def _bytes_in(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
