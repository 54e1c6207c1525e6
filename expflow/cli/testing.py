"""How ``test`` and the pictures of ``show`` are asked for and shown."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.text import Text

from expflow.cli.answer import relative
from expflow.cli.live import name_of
from expflow.config import load_site
from expflow.errors import AddressUnknown, ServerUnreachable
from expflow.ledger import TrialState
from expflow.ledger import load as load_state
from expflow.report import looks, looks_text, write
from expflow.report.choosing import asked_for, first_selected
from expflow.report.images import interval_words, mcnemar_on, trials_interval
from expflow.report.words import metric_value, plural
from expflow.sweep.results import Found, find
from expflow.sweep.testing import COMBINED, Asked, Evaluated, evaluate, look
from expflow.tracking import public_uri, resolve_uri

_WHAT = {"ensemble": "ensemble", "uniform_soup": "uniform soup", "greedy_soup": "greedy soup"}


def show_test(
    name: str, storage: str | None, *, again: bool, config: str | None, ensemble: bool, soup: bool, members: str
) -> None:
    """Look at the test split, record it, and show what it gave and how often it was looked at."""
    console, found = Console(), find(name, storage)
    if found.which not in (None, "best"):
        raise AddressUnknown(f"{name} is one trial; `test` evaluates a config with all its seeds: --config says which")
    asked = asked_for(found, config, ensemble=ensemble, soup=soup, members=members)
    record = look(found, asked, again=again, on_trial=_told(console, found))
    found = replace(found, state=load_state(found.folder))
    section = looks(found.state, found.folder)
    files = write(found.folder, found.state)
    console.print(f"look {record.number} at the test split of {found.name}, recorded {record.when}", style="bold")
    if section is not None:
        console.print(Text(looks_text(section, console.width)), soft_wrap=True)
    for sentence in mcnemar_on("test", found.state, found.folder):
        console.print(sentence, markup=False, highlight=False)
    console.print(f"report   {relative(files.html)}", highlight=False, soft_wrap=True)
    _tell_mlflow(console, found)


def show_on_val(name: str, storage: str | None, *, ensemble: bool, soup: bool) -> None:
    """What an ensemble and soups of a config's seeds give on val. No look: nothing of the test split is read."""
    console, found = Console(), find(name, storage)
    asked = asked_for(
        found, None if found.which in (None, "best") else found.trial().config, ensemble=ensemble, soup=soup
    )
    evaluated = evaluate(found, asked, "val", on_trial=_told(console, found))
    _print_val(console, found, asked, evaluated)


def show_pictures(
    name: str, storage: str | None, out: Path | None, *, filters: bool, confusion: bool, worst: bool
) -> None:
    """Draw what is asked for of one finished trial, keep it beside the trial, and say where."""
    from expflow.report.inside import draw_inside, keep, write_pictures

    console, found = Console(), find(name, storage)
    if found.which is None:
        raise AddressUnknown(f"{name}: the pictures of which trial? {found.name}/best, or a trial ({found.name}/3fa9)")
    trial = found.trial() if found.which != "best" else first_selected(found)
    drawings = draw_inside(found, trial, filters=filters, confusion=confusion, worst=worst)
    places = keep(drawings, found, trial)
    if out is not None:
        places = write_pictures(drawings, out)
    console.print(f"{found.name}/{trial.trial}  {name_of(trial)}", style="bold", highlight=False)
    for drawing, place in zip(drawings, places, strict=True):
        console.print(f"{drawing.name:8} {relative(place)}", highlight=False, soft_wrap=True)
        console.print(f"  {drawing.caption}", markup=False, highlight=False)
    write(found.folder, found.state)
    _tell_mlflow(console, found)


def _told(console: Console, found: Found) -> Callable[[str], None]:
    """Says which trial is being evaluated, on a terminal only."""

    def tell(trial: str) -> None:
        if console.is_terminal:
            console.print(f"evaluating {name_of(found.state.trials[trial])}", style="dim", highlight=False)

    return tell


def _print_val(console: Console, found: Found, asked: Asked, evaluated: Evaluated) -> None:
    header = found.state.header
    wanted = header.metric if header is not None else "val/top1"
    rows = [(_line(found.state.trials[name]), name) for name in evaluated.measured if name not in COMBINED]
    rows += [(f"{_WHAT[name]} of {len(evaluated.members[name])}", name) for name in evaluated.members]
    width = max(len(words) for words, _ in rows)
    for words, name in rows:
        metrics = evaluated.measured[name].metrics
        shown = [wanted, *(each for each in sorted(metrics) if each != wanted)]
        values = "  ".join(f"{each} {metric_value(each, metrics[each])}" for each in shown if each in metrics)
        console.print(f"  {words:{width}}  {values}", markup=False, highlight=False, soft_wrap=True)
    taken = evaluated.members.get("greedy_soup")
    if taken is not None and len(taken) < len(asked.combined):
        seeds = ", ".join(f"s{found.state.trials[each].seed}" for each in taken)
        console.print(f"  the greedy soup takes {seeds}: with more of them val gets worse", highlight=False)


def _line(trial: TrialState) -> str:
    return f"{trial.trial} s{trial.seed}"


def images_line(found: Found, metric: str, trials: tuple[TrialState, ...]) -> str:
    """What the kept predictions say of the choice of images; "" where they say nothing of ``metric``."""
    interval = trials_interval(found.folder, found.state, trials, metric)
    words = interval_words(metric, interval)
    if not words or interval is None:
        return ""
    return f"over the choice of {interval.n:,} images {words} (95 % bootstrap, {plural(len(trials), 'network')})"


def _tell_mlflow(console: Console, found: Found) -> None:
    """Bring MLflow up to the ledger; that it does not answer is no failure of what was asked."""
    from expflow.tracking.follower import catch_up

    uri = resolve_uri(found.folder.parent, environ=os.environ, site=load_site().mlflow)
    try:
        catch_up(found.folder, uri)
    except ServerUnreachable as error:
        console.print(f"MLflow at {public_uri(uri)} is behind: {error}", markup=False, highlight=False, soft_wrap=True)
