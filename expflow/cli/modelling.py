"""How architectures are listed, shown and compared."""

from __future__ import annotations

import csv
import gc
import importlib
import io
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from expflow.architectures.catalogue import arguments_of, catalogue, usual_data
from expflow.architectures.specs.adapters import Adapter
from expflow.config.single import component
from expflow.config.spec import Spec
from expflow.errors import UserError
from expflow.registry import MODELS

if TYPE_CHECKING:
    from expflow.architectures.published import Published
    from expflow.architectures.table import Row, Table
    from expflow.data.dataspec import DataSpec
    from expflow.report.drawing import Drawing

DRAWN = (".png", ".svg")


def show_list(*, as_json: bool) -> None:
    """Every architecture and what it is; as JSON with all of its keys."""
    entries, prefixes = catalogue(), MODELS.prefixes()
    if as_json:
        plain = {"models": [asdict(each) for each in entries], "prefixes": prefixes}
        typer.echo(json.dumps(plain, indent=2))
        return
    from rich.console import Console
    from rich.table import Table as Grid

    console, grid = Console(highlight=False), Grid(box=None, pad_edge=False, header_style="bold")
    for title in ("name", "what it is"):
        grid.add_column(title)
    for each in entries:
        grid.add_row(each.name, each.summary)
    console.print(grid)
    further = [f"{prefix}NAME" for prefix in prefixes] + ["your own package.module:Name"]
    text = f"and {', '.join(further)}; expflow models show NAME counts one, expflow models A B compares"
    console.print(text, soft_wrap=True, markup=False)


def _columns(titles: Sequence[str], rows: Sequence[Sequence[str]], *, text: Sequence[str]) -> None:
    """Print a table of numbers, right-aligned but for the columns named in ``text``; as wide as it needs to be.

    Written by hand because rich takes half a second for a thousand lines, as long as counting them.
    """
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    for row in (titles, *rows):
        cells = [
            cell.ljust(width) if title in text else cell.rjust(width)
            for title, cell, width in zip(titles, row, widths, strict=True)
        ]
        typer.echo("  ".join(cells).rstrip())


def _shape(text: str | None) -> tuple[int, int, int] | None:
    """(channels, height, width) of ``3x224x224``."""
    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) != 3 or not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise UserError(f"--input {text}: expected channels, height and width, such as 3x224x224")
    channels, height, width = map(int, parts)
    return channels, height, width


def _drawable(path: Path | None, option: str) -> None:
    """Refuse a file that cannot be drawn before anything is counted."""
    if path is not None and path.suffix not in DRAWN:
        raise UserError(f"{option} {path}: expected a file that ends in {' or '.join(DRAWN)}")


def _write(drawing: Drawing, path: Path, more: str = "", *, quiet: bool) -> None:
    """Write a figure and say where it is: on stderr where ``quiet``, because stdout is for a program then."""
    from expflow.cli.answer import relative

    try:
        path.write_bytes(drawing.svg if path.suffix == ".svg" else drawing.png)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from error
    typer.echo(f"figure   {relative(path)}{more}", err=quiet)


@contextmanager
def _uncollected() -> Iterator[None]:
    """No garbage collection in the body, where next to nothing becomes garbage: half a second less."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def _import_torch() -> None:
    """Import torch, and keep its objects out of the collections at exit, which would take half a second too."""
    if "torch" not in sys.modules:
        importlib.import_module("torch")
        gc.freeze()


def _measured(name: str, sets: Sequence[str], shape: str | None, classes: int | None) -> tuple[Spec, DataSpec, Table]:
    with _uncollected():
        if (base := name.partition(",")[0]) in MODELS and issubclass(
            MODELS.spec(base), Adapter
        ):  # only its package knows what it takes
            _import_torch()
        spec = component("model", name, sets)
        data = usual_data(spec, _shape(shape), classes)
        _import_torch()  # now that it is clear that there is something to count
        from expflow.architectures.table import layer_table

        return spec, data, layer_table(spec, data)


def show_model(
    name: str,
    sets: Sequence[str],
    shape: str | None,
    classes: int | None,
    *,
    form: Literal["table", "json", "csv"],
    bars: Path | None,
) -> None:
    """One architecture, layer by layer."""
    _drawable(bars, "--bars")
    spec, data, table = _measured(name, sets, shape, classes)
    if form == "json":
        takes = [asdict(each) for each in arguments_of(spec)]
        more = {"classes": data.num_classes, "keys": _keys(spec), "takes": takes}
        typer.echo(json.dumps({**table.to_json(), **more}, indent=2))
    elif form == "csv":
        typer.echo(_csv(table), nl=False)
    else:
        _show_table(table)
    if bars is not None:
        from expflow.report.complexity import layer_bars

        _write(layer_bars(table), bars, quiet=form != "table")


def _keys(spec: Spec) -> dict[str, object]:
    from expflow.config.identity import dump

    return dump(spec)


def _csv(table: Table) -> str:
    text = io.StringIO()
    rows = table.to_json()["rows"]
    writer = csv.DictWriter(text, fieldnames=list(rows[0]) if rows else ["layer"], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: _sizes(value) if isinstance(value, tuple) else value for key, value in row.items()})
    return text.getvalue()


def _sizes(values: Sequence[int] | None) -> str:
    """``3x224x224``; nothing where there is nothing."""
    return "" if values is None else "x".join(map(str, values))


def _square(pair: tuple[int, int] | None) -> str:
    """``7`` for 7x7, ``1x7`` where the sides differ."""
    if pair is None:
        return ""
    return str(pair[0]) if pair[0] == pair[1] else _sizes(pair)


def _number(value: int) -> str:
    return f"{value:,}" if value else ""


def _kilobytes(value: float) -> str:
    return f"{value:,.1f}" if value else ""


def _show_table(table: Table) -> None:
    titles = ("layer", "type", "input", "kernel", "stride", "pad", "output", "KB", "params", "multiply-adds", "field")
    shown = [row for row in table.rows if not row.passes_on]
    _columns(titles, [_cells(row) for row in shown], text=("layer", "type"))
    typer.echo("")
    if hidden := len(table.rows) - len(shown):
        typer.echo(f"{hidden} layers that cost nothing and keep the shape (activations, dropout) are left out")
    if table.pool_ops:
        typer.echo("in brackets: operations of pools, which are no multiply-adds")
    if any(row.output is None and row.params for row in shown):
        typer.echo("layers without an output hold parameters only: they do not run, or the one around uses them")
    together = table.macs + table.pool_ops
    typer.echo(f"parameters     {table.params:,}")
    typer.echo(f"multiply-adds  {table.macs:,} (with the pools' {table.pool_ops:,}: {together:,})")
    typer.echo(f"memory         {table.memory_kb:,.1f} KB of convolutions, matrix products and pools")
    typer.echo(f"               {table.all_memory_kb:,.1f} KB of all layers")


def _cells(row: Row) -> tuple[str, ...]:
    groups = f" /{row.groups}" if row.groups > 1 else ""
    return (
        row.layer,
        row.type,
        _sizes(row.input),
        _square(row.kernel) + groups,
        _square(row.stride),
        _square(row.padding),
        _sizes(row.output),
        _kilobytes(row.memory_kb),
        _number(row.params),
        _number(row.macs) or (f"({row.pool_ops:,})" if row.pool_ops else ""),
        _square(row.field),
    )


def show_comparison(
    names: Sequence[str],
    sets: Sequence[str],
    shape: str | None,
    classes: int | None,
    *,
    as_json: bool,
    out: Path | None,
) -> None:
    """Several architectures, a line for each, and where asked for a chart of accuracy against complexity."""
    _drawable(out, "--out")
    measured = [(name, _measured(name, sets, shape, classes)[2]) for name in names]
    from expflow.architectures.published import published

    found = [(name, table, published(table.params, table.macs)) for name, table in measured]
    if as_json:
        typer.echo(json.dumps([_plain(*each) for each in found], indent=2))
    else:
        _show_comparison(found)
    if out is not None:
        _draw_comparison(found, out, quiet=as_json)


def _plain(name: str, table: Table, known: Published | None) -> dict[str, object]:
    top1 = {"top1": known.top1, "weights": known.weights} if known else {"top1": None, "weights": None}
    return {"model": name, "input": list(table.input), **table.totals(), **top1}


def _show_comparison(found: Sequence[tuple[str, Table, Published | None]]) -> None:
    titles = ("model", "input", "params", "multiply-adds", "memory KB", "top-1 %", "published for")
    rows = [
        (
            name,
            _sizes(table.input),
            f"{table.params:,}",
            f"{table.macs:,}",
            f"{table.memory_kb:,.1f}",
            f"{100 * known.top1:.2f}" if known else "",
            known.weights if known else "",
        )
        for name, table, known in found
    ]
    _columns(titles, rows, text=("model", "published for"))


def _draw_comparison(found: Sequence[tuple[str, Table, Published | None]], out: Path, *, quiet: bool) -> None:
    from expflow.report.complexity import Bubble, accuracy_by_cost

    bubbles = [Bubble(name, table.macs, table.params, known.top1) for name, table, known in found if known]
    if not bubbles:
        raise UserError(
            "no chart: torchvision publishes no accuracy for any of these (with their usual input and 1000 classes)"
        )
    left = [name for name, _, known in found if known is None]
    without = f" (without {', '.join(left)}: no published accuracy)" if left else ""
    _write(accuracy_by_cost(bubbles), out, without, quiet=quiet)
