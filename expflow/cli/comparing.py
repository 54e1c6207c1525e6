"""How architectures are compared: what each costs, and the accuracy that is known of it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from expflow.architectures.catalogue import usual_data
from expflow.architectures.specs.adapters import Adapter
from expflow.cli.modelling import Measured, check_drawable, columns, measured, sizes, write_figure
from expflow.config.identity import canonical, dump
from expflow.config.single import component
from expflow.errors import ServerUnreachable, UserError

if TYPE_CHECKING:
    from expflow.architectures.table import Table
    from expflow.tracking.results import Trained

PUBLISHED_ON = "ImageNet"


@dataclass(frozen=True)
class Accuracy:
    """A top-1 accuracy as a share, the data that it is of, and its source; ``seeds`` is None of published ones."""

    top1: float
    data: str
    source: str
    seeds: int | None = None


@dataclass(frozen=True)
class Line:
    """One network of the comparison, under the name that the user gave it."""

    name: str
    table: Table
    accuracy: Accuracy | None


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
    """Several architectures, a line for each, and where asked for a chart of accuracy against complexity."""
    check_drawable(out, "--out")
    found = [measured(name, sets, shape, classes) for name in names]
    lines = [Line(name, each.table, _published(each)) for name, each in zip(names, found, strict=True)]
    if any(line.accuracy is None for line in lines):
        ours = list(_trained(storage))
        fixed = shape is not None or classes is not None
        lines = [
            line if line.accuracy is not None or not ours else _of_ours(line, each, ours, fixed=fixed)
            for line, each in zip(lines, found, strict=True)
        ]
    if as_json:
        typer.echo(json.dumps([_plain(line) for line in lines], indent=2))
    else:
        _show(lines)
    if out is not None:
        _draw(lines, out, quiet=as_json)


def _published(found: Measured) -> Accuracy | None:
    from expflow.architectures.published import published, published_as

    spec, known = found.spec, published(found.table.params, found.table.macs)
    as_it_is = isinstance(spec, Adapter) and not spec.arguments and found.data == usual_data(spec)
    if isinstance(spec, Adapter) and as_it_is and spec.source.startswith("torchvision/"):
        known = published_as(spec.source.removeprefix("torchvision/")) or known
    return None if known is None else Accuracy(known.top1, PUBLISHED_ON, known.weights)


def _trained(storage: str | None) -> Iterator[Trained]:
    """What was trained here; nothing, and a word about it, where the store does not answer."""
    from expflow.config import load_site
    from expflow.sweep.results import storage_root
    from expflow.tracking import resolve_uri
    from expflow.tracking.results import trained

    uri = resolve_uri(storage_root(storage), environ=os.environ, site=load_site().mlflow)
    try:
        yield from trained(uri)
    except ServerUnreachable as error:
        typer.echo(f"accuracies of your own are left out: {error}", err=True)


def _of_ours(line: Line, found: Measured, ours: Sequence[Trained], *, fixed: bool) -> Line:
    """``line`` with the best that its network reached on the data that it was trained on last.

    Unless the image is ``fixed`` the line then shows the costs for that data. A run only counts if its own record of
    parameters and multiply-adds says that it is this network.
    """
    same = [each for each in ours if _is(each, found)]
    accepted: list[tuple[Trained, Table]] = []
    for each in same:
        table = found.table if fixed or each.data_spec is None else found.on(each.data_spec)
        if (each.params, each.macs) == (table.params, table.macs) and (
            not accepted or each.data == accepted[0][0].data
        ):
            accepted.append((each, table))
    if not accepted:
        return line
    best, table = max(accepted, key=lambda each: each[0].top1)
    several = f", best of {len(accepted)} recipes" if len(accepted) > 1 else ""
    seeds = f"{best.seeds} seeds" if best.seeds > 1 else "1 seed"
    return Line(
        line.name, table, Accuracy(best.top1, f"{best.data} val", f"{best.experiment}, {seeds}{several}", best.seeds)
    )


def _is(run: Trained, found: Measured) -> bool:
    """Whether a run's network has the same keys."""
    keys = [f"{key}={text}" for key, text in run.model.items() if key != "name"]
    try:
        return canonical(dump(component("model", run.model["name"], keys))) == canonical(dump(found.spec))
    except UserError:  # a key that this version does not know, or a module that is not here
        return False


def _plain(line: Line) -> dict[str, object]:
    known = line.accuracy
    more = {
        "top1": known.top1 if known else None,
        "data": known.data if known else None,
        "source": known.source if known else None,
        "seeds": known.seeds if known else None,
    }
    return {"model": line.name, "input": list(line.table.input), **line.table.totals(), **more}


def _show(lines: Sequence[Line]) -> None:
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


def _draw(lines: Sequence[Line], out: Path, *, quiet: bool) -> None:
    from expflow.report.complexity import Bubble, accuracy_by_cost

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
