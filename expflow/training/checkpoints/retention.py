"""Which checkpoints of a sweep are kept: a pure function over the ledger's events, and the act that follows from it.

Each trial prunes its own while it runs. What is left after hundreds of trials is decided here: of a trial that has
ended the last checkpoint is enough, and where the disk is bounded the worst trials give theirs up first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from expflow.events import CheckpointSaved
from expflow.training.checkpoints.folder import remove


@dataclass(frozen=True)
class Rules:
    """``best``: trials whose last checkpoint is never removed. ``disk``: bytes of all together; None for no bound."""

    best: int = 1
    disk: int | None = None


@dataclass(frozen=True)
class Retention:
    """What is kept and what is removed, each in the order it was saved. ``over``: bytes that still are too many."""

    keep: tuple[CheckpointSaved, ...]
    remove: tuple[CheckpointSaved, ...]
    over: int = 0


def decide(
    saved: Iterable[CheckpointSaved],
    *,
    ranking: Sequence[str],
    running: Collection[str],
    rules: Rules,
    pinned: Collection[str] = (),
) -> Retention:
    """What is kept of ``saved``, the checkpoints on the disk in the order of the ledger.

    ``ranking`` holds trials, the best first; ``running`` those that may go on or be forked from: nothing of theirs is
    removed, nor what ``pinned`` names by path. Of the others the last checkpoint is kept. Beyond ``rules.disk`` the
    unranked and worst trials lose that one too, except for the ``rules.best`` best. The same events give the same
    answer.
    """
    latest = {each.path: each for each in saved}  # the same step may have been saved twice
    last = {each.trial: each.path for each in latest.values()}
    fixed = {each.path for each in latest.values() if each.trial in running or each.path in pinned}
    fixed |= {last[trial] for trial in [each for each in ranking if each in last][: rules.best]}
    keep = {path: each for path, each in latest.items() if path in fixed or last[each.trial] == path}
    used = sum(each.size for each in keep.values())
    for path in _worst_first(last, ranking):
        if rules.disk is None or used <= rules.disk:
            break
        if path not in fixed and path in keep:
            used -= keep.pop(path).size
    over = max(0, used - rules.disk) if rules.disk is not None else 0
    gone = tuple(each for path, each in latest.items() if path not in keep)
    return Retention(tuple(keep.values()), gone, over)


def _worst_first(last: Mapping[str, str], ranking: Sequence[str]) -> list[str]:
    """The trials' last checkpoints: of unranked trials, the oldest first, then of ranked ones, the worst first."""
    place = {trial: len(ranking) - index for index, trial in enumerate(ranking)}
    return [path for trial, path in sorted(last.items(), key=lambda item: place.get(item[0], 0))]


def present(folder: Path, saved: Iterable[CheckpointSaved]) -> list[CheckpointSaved]:
    """Those of ``saved`` that lie on the disk under the experiment's ``folder``."""
    return [each for each in saved if (folder / each.path).is_dir()]


def carry_out(folder: Path, retention: Retention) -> int:
    """Remove what ``retention`` says under the experiment's ``folder``; returns the bytes that were freed."""
    freed = 0
    for each in retention.remove:
        path = folder / each.path
        if path.is_dir():
            remove(path)
            freed += each.size
    return freed
