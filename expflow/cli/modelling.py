"""How architectures are listed and shown."""

from __future__ import annotations

import csv
import gc
import io
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from expflow.architectures.catalogue import arguments_of, catalogue, usual_data
from expflow.config.single import component
from expflow.config.spec import Spec
from expflow.errors import UserError
from expflow.registry import MODELS

if TYPE_CHECKING:
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


def columns(titles: Sequence[str], rows: Sequence[Sequence[str]], *, text: Sequence[str]) -> None:
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


def check_drawable(path: Path | None, option: str) -> None:
    """Refuse a file that cannot be drawn before anything is counted."""
    if path is not None and path.suffix not in DRAWN:
        raise UserError(f"{option} {path}: expected a file that ends in {' or '.join(DRAWN)}")


def write_figure(drawing: Drawing, path: Path, more: str = "", *, quiet: bool) -> None:
    """Write a figure and say where it is: on stderr where ``quiet``, because stdout is for a program then."""
    from expflow.cli.answer import relative

    try:
        path.write_bytes(drawing.svg if path.suffix == ".svg" else drawing.png)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from error
    typer.echo(f"figure   {relative(path)}{more}", err=quiet)


@contextmanager
def _in_passing() -> Iterator[None]:
    """Torch and the packages of networks, imported in the body, are not to cost a second more than they must.

    Next to nothing becomes garbage: there are no collections, and none at exit of what is there after the body. And
    timm has torch look for triton, the compiler for GPUs, which takes longer to import than a network to count.
    """
    collecting, fresh = gc.isenabled(), not {"torch", "triton"} & sys.modules.keys()
    gc.disable()
    if fresh:
        sys.modules["triton"] = None  # type: ignore[assignment] # how Python is told that there is no such module
    try:
        yield
    finally:
        if fresh:
            del sys.modules["triton"]
            gc.freeze()
        if collecting:
            gc.enable()


@dataclass(frozen=True)
class Measured:
    """One architecture, the data that it is shown with, and its layers."""

    spec: Spec
    data: DataSpec
    table: Table

    def on(self, data: DataSpec) -> Table:
        """Its layers for other data."""
        from expflow.architectures.table import layer_table

        return (
            self.table
            if data.image_shape == self.table.input and data.num_classes == self.data.num_classes
            else layer_table(self.spec, data)
        )


def measured(name: str, sets: Sequence[str], shape: str | None, classes: int | None) -> Measured:
    """The architecture ``name`` with the keys ``sets``, on images of ``shape`` (``3x224x224``) or its usual ones."""
    with _in_passing():
        spec = component("model", name, sets)
        data = usual_data(spec, _shape(shape), classes)
        from expflow.architectures.table import layer_table

        return Measured(spec, data, layer_table(spec, data))


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
    check_drawable(bars, "--bars")
    found = measured(name, sets, shape, classes)
    spec, data, table = found.spec, found.data, found.table
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

        write_figure(layer_bars(table, ",".join((name, *sets))), bars, quiet=form != "table")


def _keys(spec: Spec) -> dict[str, object]:
    from expflow.config.identity import dump

    return dump(spec)


def _csv(table: Table) -> str:
    text = io.StringIO()
    rows = table.to_json()["rows"]
    writer = csv.DictWriter(text, fieldnames=list(rows[0]) if rows else ["layer"], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: sizes(value) if isinstance(value, tuple) else value for key, value in row.items()})
    return text.getvalue()


def sizes(values: Sequence[int] | None) -> str:
    """``3x224x224``; nothing where there is nothing."""
    return "" if values is None else "x".join(map(str, values))


def _square(pair: tuple[int, int] | None) -> str:
    """``7`` for 7x7, ``1x7`` where the sides differ."""
    if pair is None:
        return ""
    return str(pair[0]) if pair[0] == pair[1] else sizes(pair)


def _number(value: int) -> str:
    return f"{value:,}" if value else ""


def _kilobytes(value: float) -> str:
    return f"{value:,.1f}" if value else ""


def _show_table(table: Table) -> None:
    titles = ("layer", "type", "input", "kernel", "stride", "pad", "output", "KB", "params", "multiply-adds", "field")
    shown = [row for row in table.rows if not row.passes_on]
    columns(titles, [_cells(row) for row in shown], text=("layer", "type"))
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
        sizes(row.input),
        _square(row.kernel) + groups,
        _square(row.stride),
        _square(row.padding),
        sizes(row.output),
        _kilobytes(row.memory_kb),
        _number(row.params),
        _number(row.macs) or (f"({row.pool_ops:,})" if row.pool_ops else ""),
        _square(row.field),
    )
