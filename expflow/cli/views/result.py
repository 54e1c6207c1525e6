"""What ``show`` prints of one result: the selected config's or one trial's, with its recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from expflow.config.identity import dump_yaml, recipe_from_identity
from expflow.errors import AddressUnknown
from expflow.ledger import TrialState
from expflow.live.console import LiteralConsole
from expflow.metrics import metric_value
from expflow.report import selected_row
from expflow.report.artifacts import newest_artifacts
from expflow.report.formatting import interval, measured_value, plural, trial_label
from expflow.report.prediction_statistics import interval_words, trials_interval
from expflow.sweep.objective import mean_metrics
from expflow.sweep.result_location import ResultLocation, find_results
from expflow.text import relative
from expflow.tracking.exported_models import model_folder, read_exports


def show_result(name: str, storage: str | None) -> None:
    """Print a result and its recipe: the selected config's, over its seeds, or one trial's.

    Args:
        name: Address of a trial or of an experiment, whose selected config is shown.
        storage: The folder of all results; None: the site's.

    Raises:
        AddressUnknown: There is no such trial, or no config is complete.
    """
    location = find_results(name, storage)
    if location.which in (None, "best"):
        _show_best(location)
    else:
        _show_trial(location, location.trial())


def _show_best(location: ResultLocation) -> None:
    console, row, header = LiteralConsole(), selected_row(location.state), location.state.header
    if row is None or row.estimate is None or header is None:
        raise AddressUnknown(f"{location.name} has no trial at full budget yet, hence no best one")
    value = metric_value(header.metric, row.estimate.mean)
    console.print(f"{location.name}/best  {row.label}", style="bold")
    extent = " ".join(filter(None, (value, interval(header.metric, row.estimate))))
    console.print(
        f"  {header.metric} {extent}, n = {len(row.trials)}; selected on {header.metric}, hence optimistic",
        soft_wrap=True,
    )
    if images := _images_line(location, header.metric, row.trials):
        console.print(f"  {images}", soft_wrap=True)
    for trial in row.trials:
        console.print(f"  {trial.trial} s{trial.seed}  {metric_value(header.metric, trial.metrics[header.metric])}")
    if len(row.trials) > 1:
        console.print(f"  means over the {len(row.trials)} trials:")
    _show_metrics(console, mean_metrics(row.trials), without=header.metric)
    for trial in row.trials:
        _show_artifacts(console, location, trial)
    _show_recipe(console, row.recipe, row.trials[0].budget)


def _images_line(location: ResultLocation, metric: str, trials: Sequence[TrialState]) -> str:
    """The intervals over the choice of images in words; empty where the kept predictions allow none."""
    over = trials_interval(location.folder, location.state, trials, metric)
    words = interval_words(metric, over)
    if not words or over is None:
        return ""
    text = f"over the choice of {over.n:,} images {words} (95 %, {plural(len(trials), 'network')})"
    both = interval_words(metric, trials_interval(location.folder, location.state, trials, metric, both=True))
    return f"{text}; over seeds and images {both}" if both else text


def _show_trial(location: ResultLocation, trial: TrialState) -> None:
    console = LiteralConsole()
    console.print(f"{location.name}/{trial.trial}  {trial_label(trial)}  {trial.status}", style="bold")
    _show_metrics(console, trial.metrics)
    if trial.status == "failed" and trial.failures:
        last = trial.failures[-1]
        console.print(f"  {last.failure}: {last.message}", style="red", soft_wrap=True)
    _show_artifacts(console, location, trial)
    if (export := read_exports(location.folder).get(trial.trial)) is not None:
        place = relative(model_folder(location.folder, trial.trial))
        console.print(f"  model {f'not exported: {export.reason}' if export.reason else place}", soft_wrap=True)
    _show_recipe(console, trial.recipe, trial.budget)
    console.print(f"log      {location.command('logs', which=trial.trial)}", soft_wrap=True)


def _show_metrics(console: LiteralConsole, metrics: Mapping[str, float], *, without: str = "") -> None:
    for metric, value in sorted(metrics.items()):
        if metric != without:
            console.print(f"  {metric:16} {measured_value(metric, value)}")


def _show_artifacts(console: LiteralConsole, location: ResultLocation, trial: TrialState) -> None:
    """What the trial wrote beside its metrics: the newest step of each name, and where it lies."""
    for artifact in newest_artifacts(trial):
        key = artifact.name, artifact.artifact_kind
        steps = sum((other.name, other.artifact_kind) == key for other in trial.artifacts.values())
        earlier = f" (of {steps} steps)" if steps > 1 else ""
        path = location.folder / artifact.path
        missing = "" if path.is_file() else "  (missing)"
        console.print(
            f"  {artifact.artifact_kind:5} {artifact.name}, step {artifact.step}{earlier}  {relative(path)}{missing}",
            soft_wrap=True,
        )


def _show_recipe(console: LiteralConsole, identity: Mapping[str, Any], budget: Mapping[str, Any]) -> None:
    text = dump_yaml(recipe_from_identity(identity, budget))
    console.print(f"\n{text}", soft_wrap=True)
