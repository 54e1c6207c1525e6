"""How results that are already there are shown."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from expflow.cli.answer import show_answer
from expflow.cli.live import name_of, seconds_text
from expflow.cli.story import Story
from expflow.cli.testing import images_line
from expflow.config.identity import dump_yaml, recipe_from_identity
from expflow.errors import AddressUnknown
from expflow.ledger import SweepState, TrialState, load
from expflow.report import best, write
from expflow.report.words import interval, metric_value
from expflow.sweep.results import Found, experiments, find, running, storage_root

_STATES = ("running", "cut short", "waiting", "done", "stopped", "failed")
_WATCH_SECONDS = 1.0


def _state(trial: TrialState, alive: bool) -> str:
    """The ledger's word, except for what nobody works on any more."""
    return "cut short" if trial.status == "running" and not alive else trial.status


def _counts(state: SweepState, alive: bool) -> str:
    states = [_state(trial, alive) for trial in state.plan_trials()]
    return ", ".join(f"{states.count(each)} {each}" for each in _STATES if each in states) or "nothing yet"


def show_all(storage: str | None) -> None:
    """One line for each experiment with results."""
    console, root = Console(), storage_root(storage)
    found = experiments(root)
    if not found:
        console.print(f"no results in {root}; `expflow sweep FILE` makes some", highlight=False, soft_wrap=True)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("experiment", "", "trials"):
        table.add_column(title)
    for folder in found:
        alive = running(folder)
        table.add_row(folder.name, "running" if alive else "", _counts(load(folder), alive))
    console.print(table)


def show_status(name: str, storage: str | None, *, follow: bool) -> None:
    """The trials of one experiment; ``follow`` says each change until no driver works on it any more."""
    console = Console()
    found = find(name, storage)
    alive = running(found.folder)
    _status_table(console, found, alive)
    last = _counts(found.state, alive)
    while follow and alive:
        time.sleep(_WATCH_SECONDS)
        alive = running(found.folder)
        now = _counts(load(found.folder), alive)
        if now != last or not alive:
            console.print(f"{time.strftime('%H:%M:%S')}  {now}{'' if alive else '; not running now'}", highlight=False)
            last = now


def _status_table(console: Console, found: Found, alive: bool) -> None:
    header = found.state.header
    metric = header.metric if header else ""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("trial", "state", "config", metric, "time", "why"):
        table.add_column(title)
    for trial in found.state.plan_trials():
        table.add_row(
            trial.trial,
            _state(trial, alive),
            name_of(trial),
            metric_value(metric, trial.metrics[metric]) if metric in trial.metrics else "",
            seconds_text(trial.seconds) if trial.ended else f"{trial.progress:.0%}" if trial.reports else "",
            Text(trial.failures[-1].message) if trial.status == "failed" and trial.failures else "",
        )
    console.print(table)
    console.print(f"{found.name}: {_counts(found.state, alive)}; {_work(found, alive)}", highlight=False)


def _work(found: Found, alive: bool) -> str:
    if alive:
        return "running now"
    left = any(not trial.ended for trial in found.state.plan_trials())
    return "not running now" + ("; the command that started it continues it" if left else "")


def show_log(what: str, storage: str | None, *, follow: bool) -> None:
    """Tell a trial's story and print its log; ``follow`` goes on until the driver ends."""
    found = find(what, storage)
    if not found.which:
        raise AddressUnknown(f"{what} is a whole experiment; name one of its trials ({found.name}/3fa9)")
    trial = found.trial()
    story = Story(found.folder, trial.trial, found.trial_folder(trial) / "log.txt")
    alive = running(found.folder)
    head = f"{found.name}/{trial.trial}  {name_of(trial)}  {_state(trial, alive)}"
    Console().print(head, style="bold", markup=False, highlight=False, soft_wrap=True)
    story.tell()
    while follow and alive:
        time.sleep(_WATCH_SECONDS)
        alive = running(found.folder)
        story.tell()


def show_report(name: str, storage: str | None) -> None:
    """Write the report and print what it concludes."""
    found = find(name, storage)
    show_answer(Console(), found.state, write(found.folder, found.state))


def show_result(name: str, storage: str | None) -> None:
    """Print a result and its recipe: the selected config's, over its seeds, or one trial's."""
    found = find(name, storage)
    if found.which == "best":
        _show_best(found)
    elif found.which:
        _show_trial(found, found.trial())
    else:
        raise AddressUnknown(f"{name}: which of its results? {found.name}/best, or a trial ({found.name}/3fa9)")


def _show_best(found: Found) -> None:
    console, row, header = Console(), best(found.state), found.state.header
    if row is None or row.estimate is None or header is None:
        raise AddressUnknown(f"{found.name} has no trial at full budget yet, hence no best one")
    value = metric_value(header.metric, row.estimate.mean)
    console.print(f"{found.name}/best  {row.label}", style="bold", highlight=False)
    extent = " ".join(filter(None, (value, interval(header.metric, row.estimate))))
    console.print(
        f"  {header.metric} {extent}, n = {len(row.trials)}; selected on {header.metric}, hence optimistic",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    if images := images_line(found, header.metric, row.trials):
        console.print(f"  {images}", markup=False, highlight=False, soft_wrap=True)
    for trial in row.trials:
        console.print(f"  {trial.trial} s{trial.seed}  {metric_value(header.metric, trial.metrics[header.metric])}")
    _show_recipe(console, row.recipe, row.trials[0].budget)


def _show_trial(found: Found, trial: TrialState) -> None:
    console = Console()
    console.print(f"{found.name}/{trial.trial}  {name_of(trial)}  {trial.status}", style="bold", highlight=False)
    for metric, value in sorted(trial.metrics.items()):
        console.print(f"  {metric:16} {metric_value(metric, value)}", highlight=False)
    if trial.status == "failed" and trial.failures:
        last = trial.failures[-1]
        console.print(f"  {last.failure}: {last.message}", style="red", markup=False, highlight=False, soft_wrap=True)
    _show_recipe(console, trial.recipe, trial.budget)
    console.print(f"log      expflow logs {found.name}/{trial.trial}", highlight=False, soft_wrap=True)


def _show_recipe(console: Console, identity: Mapping[str, Any], budget: Mapping[str, Any]) -> None:
    text = dump_yaml(recipe_from_identity(identity, budget))
    console.print(f"\n{text}", markup=False, highlight=False, soft_wrap=True)


def show_ui(name: str | None, port: int, storage: str | None) -> None:
    """Serve the MLflow UI on loopback until Ctrl-C; with ``name``, print the link that compares its configs."""
    from expflow.config import load_site
    from expflow.tracking import public_uri, resolve_uri
    from expflow.tracking.follower import catch_up
    from expflow.tracking.ui import end, is_server, serve

    console = Console()
    found = find(name, storage) if name else None
    root = found.folder.parent if found else storage_root(storage)
    uri = resolve_uri(root, environ=os.environ, site=load_site().mlflow)
    for folder in [found.folder] if found else experiments(root):
        if not running(folder) and not catch_up(folder, uri):
            console.print(f"{public_uri(uri)} is behind {folder.name}'s ledger", highlight=False)
    if is_server(uri):  # it has its own UI
        _say_ui(console, uri, uri, found)
        return
    base = f"http://127.0.0.1:{port}"
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # who ends this command ends the server too
    server = serve(uri, port=port)
    try:
        _say_ui(console, base, uri, found)
        console.print("Ctrl-C ends it", highlight=False)
        server.wait()
    except KeyboardInterrupt:
        console.print()
    finally:
        end(server)


def _say_ui(console: Console, base: str, uri: str, found: Found | None) -> None:
    from expflow.tracking.ui import compare_link

    console.print(f"MLflow   {base}", highlight=False, soft_wrap=True)
    if found:
        console.print(f"compare  {compare_link(base, uri, found.name)}", highlight=False, soft_wrap=True)
