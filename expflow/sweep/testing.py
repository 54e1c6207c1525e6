"""Looks at the test split: evaluated once, counted, and kept (design section 11).

A look is a record in the ledger, written after everything was evaluated and before anything of it can be seen. Killed
before the record, a look showed nothing and is none; killed after it, its numbers are in the ledger and its predictions
beside the trials, under the hidden names that :func:`settle` makes the usual ones.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expflow.config.space import metric_mode
from expflow.errors import LookRefused, UserError
from expflow.events import Looked
from expflow.files import sync
from expflow.ledger import Ledger, SweepState, TrialState
from expflow.ledger import load as load_state
from expflow.sweep.finished import Finished, finished
from expflow.sweep.results import Found, experiments

if TYPE_CHECKING:
    from expflow.training.protocol.evaluating import Bench, Measured, Soup, Weights

SPLIT = "test"
ENSEMBLE, UNIFORM_SOUP, GREEDY_SOUP = "ensemble", "uniform_soup", "greedy_soup"
COMBINED = (ENSEMBLE, UNIFORM_SOUP, GREEDY_SOUP)
"""What several trials make together; trials themselves go by their ids."""


@dataclass(frozen=True)
class Asked:
    """What is to be evaluated: the trials of one config, and what is made of them or of ``members`` besides.

    ``members`` are the trials that an ensemble and soups are made of; none: those of the config.
    """

    config: str
    trials: tuple[TrialState, ...]
    ensemble: bool = False
    soup: bool = False
    members: tuple[TrialState, ...] = ()

    @property
    def combined(self) -> tuple[TrialState, ...]:
        """Whom an ensemble and soups are made of."""
        return self.members or self.trials


@dataclass
class Evaluated:
    """What was measured on one split, by trial id and by what was combined."""

    measured: dict[str, Measured] = field(default_factory=dict)
    members: dict[str, list[str]] = field(default_factory=dict)
    val: dict[str, Measured] = field(default_factory=dict)
    """What the combined ones gave on val."""


def evaluate(found: Found, asked: Asked, split: str, *, on_trial: Any = None) -> Evaluated:
    """Evaluate what is ``asked`` on ``split``, in this process, without Ray and without writing anything.

    ``on_trial(id)`` is called before each trial. A greedy soup is chosen on val, whatever ``split`` is; without a val
    split there is none. Raises what :func:`~expflow.sweep.finished.finished` and the task raise.
    """
    ready = {each.trial: finished(found, each) for each in (*asked.trials, *asked.combined)}
    if len(asked.combined) < 2 and (asked.ensemble or asked.soup):
        raise UserError("an ensemble or a soup is made of at least two finished trials; this config has one")
    out, rows = Evaluated(), {each.trial for each in asked.combined} if asked.ensemble else set()
    weights: dict[str, Weights] = {}
    on_val: dict[str, Measured] = {}
    for name, each in ready.items():
        if on_trial is not None:
            on_trial(name)
        with each.bench() as bench:
            held = each.held(bench).weights
            out.measured[name] = bench.measure(held, split, rows=name in rows)
            if asked.soup:
                weights[name] = held
            if name in rows and split != "val" and each.has_val:
                on_val[name] = bench.measure(held, "val", rows=True)
    names = [each.trial for each in asked.combined]
    if asked.ensemble:
        _ensemble(out, names, on_val)
    if asked.soup:
        _soups(out, found, ready[names[0]], {name: weights[name] for name in names}, split)
    only_members = set(names) - {each.trial for each in asked.trials}
    out.measured = {name: each for name, each in out.measured.items() if name not in only_members}
    return out


def _ensemble(out: Evaluated, names: Sequence[str], on_val: Mapping[str, Measured]) -> None:
    from expflow.training.protocol.evaluating import ensemble

    out.measured[ENSEMBLE] = ensemble([out.measured[name] for name in names])
    out.members[ENSEMBLE] = list(names)
    if len(on_val) == len(names):
        out.val[ENSEMBLE] = ensemble([on_val[name] for name in names])


def _soups(out: Evaluated, found: Found, first: Finished, weights: Mapping[str, Weights], split: str) -> None:
    from expflow.training.protocol.evaluating import greedy_soup, uniform_soup

    metric = _val_metric(found.state)
    with first.bench() as bench:
        _put_soup(out, UNIFORM_SOUP, uniform_soup(bench, weights, val=first.has_val), bench, split)
        if first.has_val:
            soup = greedy_soup(bench, weights, metric, better=_mode(found.state, metric))
            _put_soup(out, GREEDY_SOUP, soup, bench, split)


def _put_soup(out: Evaluated, name: str, soup: Soup, bench: Bench, split: str) -> None:
    if split == "val" and soup.val is not None:
        out.measured[name] = soup.val
    else:
        out.measured[name] = bench.measure(soup.weights, split)
        if soup.val is not None:
            out.val[name] = soup.val
    out.members[name] = list(soup.members)


def _val_metric(state: SweepState) -> str:
    """What a choice on val goes by: the sweep's metric where that is one of val."""
    metric = state.header.metric if state.header is not None else ""
    return metric if metric.startswith("val/") else "val/top1"


def _mode(state: SweepState, metric: str) -> str:
    header = state.header
    return header.mode if header is not None and header.metric == metric else metric_mode(metric)


def looks_at(found: Found, data: str) -> list[Looked]:
    """All looks at the test split of ``data``, by all results of the experiment: also by those of ``--fresh`` and
    ``--set``, which look at the same images."""
    file = Path(found.state.header.file).name if found.state.header is not None else ""
    states = [found.state]
    for folder in experiments(found.folder.parent):
        if folder != found.folder and _stem(folder.name) == _stem(found.name):
            other = load_state(folder)
            if other.header is not None and Path(other.header.file).name == file:
                states.append(other)
    looks = [look for state in states for look in state.looks if look.split == SPLIT and look.data == data]
    return sorted(looks, key=lambda look: look.number)


def _stem(name: str) -> str:
    """``digits`` of ``digits``, ``digits.2``, ``digits+train`` and ``digits+optimizer.lr=0.1.3``."""
    return re.sub(r"\.\d+$", "", name.partition("+")[0])


def look(found: Found, asked: Asked, *, again: bool = False, on_trial: Any = None) -> Looked:
    """Evaluate what is ``asked`` on the test split, record the look, and only then give it.

    Raises LookRefused where there was a look at this split before and ``again`` is not said; LedgerLocked while a
    driver works on these results; otherwise as :func:`evaluate`.
    """
    settle(found)
    first = finished(found, asked.trials[0])
    data = first.split_key or str(found.state.header.data.get("key", "") if found.state.header else "")
    _refuse(found, looks_at(found, data), again)
    with _recording(found) as ledger:
        before = looks_at(replace(found, state=load_state(found.folder)), data)
        _refuse(found, before, again)
        evaluated = evaluate(found, asked, SPLIT, on_trial=on_trial)
        number = max((each.number for each in before), default=0) + 1
        record = Looked(
            config=asked.config,
            split=SPLIT,
            data=data,
            number=number,
            again=bool(before),
            metrics={name: dict(each.metrics) for name, each in evaluated.measured.items()},
            predictions=_keep(found, evaluated.measured, number),
            members=evaluated.members,
            val={name: dict(each.metrics) for name, each in evaluated.val.items()},
            when=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        )
        ledger.append(record)
    settle(replace(found, state=load_state(found.folder)))
    return record


def _refuse(found: Found, before: Sequence[Looked], again: bool) -> None:
    if not before or again:
        return
    times = "once" if len(before) == 1 else f"{len(before)} times"
    last = before[-1]
    said = ", ".join(f"{name} {value:.4g}" for name, value in sorted(_means(last, found.state).items()))
    raise LookRefused(
        f"{found.name} was looked at on its test split {times}, last on {last.when}: config {last.config[:4]} gave "
        f"{said} (`expflow report {found.name}` shows it). Every further look makes the test set "
        "more of a validation set; if it has to be, say --again: it is counted and reported"
    )


def _means(record: Looked, state: SweepState) -> dict[str, float]:
    """The look's metrics, each its mean over the trials of the config."""
    rows = [metrics for name, metrics in record.metrics.items() if name not in COMBINED]
    return {name: sum(row[name] for row in rows) / len(rows) for name in (rows[0] if rows else {})}


@contextmanager
def _recording(found: Found) -> Iterator[Ledger]:
    """The ledger, as its only driver: nobody trains or prunes meanwhile, and two looks cannot both be the first."""
    header = found.state.header
    if header is None:
        raise UserError(f"{found.name} has no results yet")
    complete = all(trial.ended for trial in found.state.plan_trials())
    ledger = Ledger.open(found.folder, header)
    began = time.monotonic()
    try:
        yield ledger
    except BaseException:
        ledger.close("interrupted", {"seconds": 0.0, "why": "a look at the test split was cut off"})
        raise
    spent = round(time.monotonic() - began, 3)
    ledger.close("finished" if complete else "interrupted", {"seconds": 0.0, "test_seconds": spent})


def _keep(found: Found, measured: Mapping[str, Measured], number: int) -> dict[str, str]:
    """Write the predictions under hidden names, whole and on the disk; sha256 by name, "" where there are none."""
    from expflow.training.protocol.predictions import write

    return {
        name: write(each.predictions, _hidden(predictions_path(found.folder, found.state, name), number))
        if each.predictions
        else ""
        for name, each in measured.items()
    }


def predictions_path(folder: Path, state: SweepState, name: str, split: str = SPLIT) -> Path:
    """Where the predictions on ``split`` of a trial (by id), or of what was combined, lie in the results ``folder``."""
    if name in COMBINED:
        return folder / "combined" / f"predictions-{split}-{name}.npz"
    return Found(folder, state).trial_folder(state.trials[name]) / f"predictions-{split}.npz"


def _hidden(path: Path, number: int) -> Path:
    return path.with_name(f".{path.name}.look{number}")


def settle(found: Found) -> None:
    """Give the predictions of recorded looks their usual names, which a kill right after the record kept them from.

    Those of looks that were cut off before stay hidden: nobody saw them.
    """
    recorded = {(look.number, name) for look in found.state.looks for name in look.metrics}
    names = [*found.state.trials, *COMBINED]
    for name in names:
        path = predictions_path(found.folder, found.state, name)
        for left in sorted(path.parent.glob(f".{path.name}.look*"), key=_number):
            if (_number(left), name) in recorded:
                left.replace(path)
                sync(path.parent)


def _number(path: Path) -> int:
    return int(path.name.rpartition("look")[2] or 0)
