"""What ``models compare`` prints: what each architecture costs, and the accuracy that is known of it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from expflow.architectures.catalogue import usual_data
from expflow.architectures.specs.package_models import PackageModelSpec
from expflow.cli.documents.models import ComparedModelRow, ComparedModelsDocument
from expflow.cli.documents.printing import print_document
from expflow.cli.echo import echo
from expflow.cli.views.models import MeasuredModel, check_drawable, columns, measure_model, sizes, write_figure
from expflow.config.component_argument import parse_component
from expflow.config.identity import canonical_json, dump
from expflow.errors import ServerUnreachable, UserError

if TYPE_CHECKING:
    from expflow.architectures.layer_table import LayerTable
    from expflow.tracking.trained_configs import TrainedConfig

PUBLISHED_ON = "ImageNet"


@dataclass(frozen=True)
class KnownAccuracy:
    """The best accuracy that is known of a network.

    Attributes:
        top1: Top-1 accuracy, 0 to 1.
        data: The data that it is of.
        source: Name of the published weights, or the experiment.
        seeds: Over how many seeds; None of published ones.
    """

    top1: float
    data: str
    source: str
    seeds: int | None = None


@dataclass(frozen=True)
class ComparedModel:
    """One network of the comparison.

    Attributes:
        name: The name that the user gave it.
        table: Its layers.
        accuracy: Its accuracy; None where none is known.
    """

    name: str
    table: LayerTable
    accuracy: KnownAccuracy | None


def show_comparison(
    names: Sequence[str],
    sets: Sequence[str],
    shape: str | None,
    classes: int | None,
    *,
    storage: str | None,
    as_json: bool,
    out: Path | None,
) -> None:
    """Print several architectures, a line for each.

    Args:
        names: The architectures, each with keys of its own.
        sets: ``--set`` arguments, for all of them.
        shape: Shape of the image (``3x224x224``); None: the usual one of each.
        classes: Number of classes; None: the usual one of each.
        storage: The folder of all results, whose sweeps give accuracies.
        as_json: Whether JSON is printed.
        out: A file for the chart of accuracy against multiply-adds; None: no chart.
    """
    check_drawable(out, "--out")
    models = [measure_model(name, sets, shape, classes) for name in names]
    lines = [ComparedModel(name, model.table, _published(model)) for name, model in zip(names, models, strict=True)]
    if any(line.accuracy is None for line in lines):
        ours = list(_trained(storage))
        fixed = shape is not None or classes is not None
        lines = [
            line if line.accuracy is not None or not ours else _of_ours(line, model, ours, fixed=fixed)
            for line, model in zip(lines, models, strict=True)
        ]
    if as_json:
        print_document(ComparedModelsDocument("compared_models", 1, tuple(_document_row(line) for line in lines)))
    else:
        _show(lines)
    if out is not None:
        _draw(lines, out, quiet=as_json)


def _published(model: MeasuredModel) -> KnownAccuracy | None:
    from expflow.architectures.published_accuracy import accuracy_by_cost, accuracy_by_name

    spec, known = model.spec, accuracy_by_cost(model.table.params, model.table.macs)
    as_it_is = isinstance(spec, PackageModelSpec) and not spec.arguments and model.data == usual_data(spec)
    if isinstance(spec, PackageModelSpec) and as_it_is and spec.source.startswith("torchvision/"):
        known = accuracy_by_name(spec.source.removeprefix("torchvision/")) or known
    return None if known is None else KnownAccuracy(known.top1, PUBLISHED_ON, known.weights)


def _trained(storage: str | None) -> Iterator[TrainedConfig]:
    """What was trained here; nothing, and a message, where the store does not answer."""
    from expflow.config import load_site
    from expflow.sweep.result_location import storage_root
    from expflow.tracking import resolve_uri
    from expflow.tracking.trained_configs import trained_configs

    uri = resolve_uri(storage_root(storage), environ=os.environ, site=load_site().mlflow)
    try:
        yield from trained_configs(uri)
    except ServerUnreachable as error:
        echo(f"accuracies of your own are left out: {error}", err=True)


def _of_ours(line: ComparedModel, model: MeasuredModel, ours: Sequence[TrainedConfig], *, fixed: bool) -> ComparedModel:
    """``line`` with the best that its network reached on the data that it was trained on last.

    Unless the image is ``fixed`` the line then shows the costs for that data. A run only counts if its own record of
    parameters and multiply-adds says that it is this network.
    """
    same = [run for run in ours if _is_model(run, model)]
    accepted: list[tuple[TrainedConfig, LayerTable]] = []
    for run in same:
        table = model.table if fixed or run.data_spec is None else model.on(run.data_spec)
        same_costs = (run.params, run.macs) == (table.params, table.macs)
        if same_costs and (not accepted or run.data == accepted[0][0].data):
            accepted.append((run, table))
    if not accepted:
        return line
    best, table = max(accepted, key=lambda pair: pair[0].top1)
    several = f", best of {len(accepted)} recipes" if len(accepted) > 1 else ""
    seeds = f"{best.seeds} seeds" if best.seeds > 1 else "1 seed"
    return ComparedModel(
        line.name,
        table,
        KnownAccuracy(best.top1, f"{best.data} val", f"{best.experiment}, {seeds}{several}", best.seeds),
    )


def _is_model(run: TrainedConfig, model: MeasuredModel) -> bool:
    """Whether a run's network has the same keys."""
    keys = [f"{key}={text}" for key, text in run.model.items() if key != "name"]
    try:
        return canonical_json(dump(parse_component("model", run.model["name"], keys))) == canonical_json(
            dump(model.spec)
        )
    except UserError:  # a key that this version does not know, or a module that is not here
        return False


def _document_row(line: ComparedModel) -> ComparedModelRow:
    known, table = line.accuracy, line.table
    return ComparedModelRow(
        line.name,
        table.input,
        table.params,
        table.macs,
        table.pool_ops,
        table.memory_kb,
        table.all_memory_kb,
        known.top1 if known else None,
        known.data if known else None,
        known.source if known else None,
        known.seeds if known else None,
    )


def _show(lines: Sequence[ComparedModel]) -> None:
    titles = ("model", "input", "params", "multiply-adds", "memory KB", "top-1 %", "on", "accuracy from")
    rows = [
        (
            line.name,
            sizes(line.table.input),
            f"{line.table.params:,}",
            f"{line.table.macs:,}",
            f"{line.table.memory_kb:,.1f}",
            f"{100 * line.accuracy.top1:.2f}" if line.accuracy else "",
            line.accuracy.data if line.accuracy else "",
            line.accuracy.source if line.accuracy else "",
        )
        for line in lines
    ]
    columns(titles, rows, text=("model", "on", "accuracy from"))


def _draw(lines: Sequence[ComparedModel], out: Path, *, quiet: bool) -> None:
    from expflow.report.cost_figures import Bubble, accuracy_by_cost

    bubbles = [
        Bubble(line.name, line.table.macs, line.table.params, line.accuracy.top1, line.accuracy.data)
        for line in lines
        if line.accuracy
    ]
    if not bubbles:
        raise UserError(
            "no chart: torchvision publishes no accuracy for any of these (with its usual input and classes), and"
            " none of them was trained here"
        )
    left = [line.name for line in lines if line.accuracy is None]
    without = f" (without {', '.join(left)}: no accuracy known)" if left else ""
    write_figure(accuracy_by_cost(bubbles), out, without, quiet=quiet)
