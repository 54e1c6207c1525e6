"""What ``models`` and ``models show`` print: the list of architectures, and the layers of one."""

from __future__ import annotations

import csv
import gc
import io
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from expflow.architectures.catalogue import arguments_of, catalogue, usual_data
from expflow.architectures.specs.child import ChildSpec
from expflow.architectures.specs.child_layers import configuration_string, parse_layers
from expflow.cli.echo import echo
from expflow.config.component_argument import parse_component
from expflow.config.spec import Spec
from expflow.errors import UserError
from expflow.garbage import nothing_collected
from expflow.registry import MODELS

if TYPE_CHECKING:
    from expflow.architectures.layer_table import LayerRow, LayerTable
    from expflow.data.dataspec import DataSpec
    from expflow.report.canvas import RenderedFigure

DRAWN = (".png", ".svg")


def show_list(*, as_json: bool) -> None:
    """Print every architecture and what it is.

    Args:
        as_json: Whether JSON is printed, which has all keys of each.
    """
    entries, prefixes = catalogue(), MODELS.prefixes()
    if as_json:
        from expflow.cli.documents.models import ModelsDocument
        from expflow.cli.documents.printing import print_document

        presets = tuple(MODELS.presets.values())
        print_document(ModelsDocument("models", 1, tuple(entries), tuple(prefixes), presets))
        return
    from rich.table import Table as Grid

    from expflow.live.console import LiteralConsole

    console, grid = LiteralConsole(), Grid(box=None, pad_edge=False, header_style="bold")
    for title in ("name", "what it is"):
        grid.add_column(title)
    for entry in entries:
        grid.add_row(entry.name, entry.summary)
    console.print(grid)
    console.print("\nwell-known names, each a family above with some of its keys:")
    for family in dict.fromkeys(preset.component for preset in MODELS.presets.values()):
        names = [name for name, preset in MODELS.presets.items() if preset.component == family]
        console.print(f"  {family}: {', '.join(names)}")
    console.print()
    further = [f"{prefix}NAME" for prefix in prefixes] + ["your own package.module:Name"]
    text = f"and {', '.join(further)}; expflow models show NAME counts one, expflow models A B compares"
    console.print(text, soft_wrap=True)


def columns(titles: Sequence[str], rows: Sequence[Sequence[str]], *, text: Sequence[str]) -> None:
    """Print a table of numbers, as wide as it needs to be.

    Written by hand because rich takes half a second for a thousand lines, as long as counting them.

    Args:
        titles: The columns' titles.
        rows: For each row a cell for each column.
        text: Titles of the columns that are aligned left; all others are aligned right.
    """
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    for row in (titles, *rows):
        cells = [
            cell.ljust(width) if title in text else cell.rjust(width)
            for title, cell, width in zip(titles, row, widths, strict=True)
        ]
        echo("  ".join(cells).rstrip())


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
    """Refuse a file that cannot be drawn before anything is counted.

    Args:
        path: The file; None: nothing is drawn.
        option: The option that it was given to.

    Raises:
        UserError: It is neither PNG nor SVG.
    """
    if path is not None and path.suffix not in DRAWN:
        raise UserError(f"{option} {path}: expected a file that ends in {' or '.join(DRAWN)}")


def write_figure(drawing: RenderedFigure, path: Path, more: str = "", *, quiet: bool) -> None:
    """Write a figure and print where it is.

    Args:
        drawing: The figure.
        path: The file; its ending says which kind it is.
        more: What is printed behind its path.
        quiet: Whether it is printed on stderr, because stdout is for a program.

    Raises:
        UserError: The file cannot be written.
    """
    from expflow.text import relative

    try:
        path.write_bytes(drawing.svg if path.suffix == ".svg" else drawing.png)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from error
    echo(f"figure   {relative(path)}{more}", err=quiet)


@contextmanager
def _in_passing() -> Iterator[None]:
    """Make the body's imports of torch and of packages of networks as quick as possible.

    Next to nothing becomes garbage: there are no collections, and none at exit of what is there after the body. And
    timm has torch look for triton, the compiler for GPUs, which takes longer to import than a network to count.
    """
    fresh = not {"torch", "triton"} & sys.modules.keys()
    with nothing_collected():
        if fresh:
            sys.modules["triton"] = None  # type: ignore[assignment] # how Python is told that there is no such module
        try:
            yield
        finally:
            if fresh:
                del sys.modules["triton"]
                gc.freeze()


@dataclass(frozen=True)
class MeasuredModel:
    """One architecture and its layers.

    Attributes:
        spec: The architecture with its arguments.
        data: The data that it is counted for.
        table: Its layers.
    """

    spec: Spec
    data: DataSpec
    table: LayerTable

    def on(self, data: DataSpec) -> LayerTable:
        """Its layers for other data.

        Args:
            data: Shape of the images and number of classes.
        """
        from expflow.architectures.layer_table import layer_table

        return (
            self.table
            if "image" not in data.fields
            or (data.image_shape == self.table.input and data.num_classes == self.data.num_classes)
            else layer_table(self.spec, data)
        )


def measure_model(name: str, sets: Sequence[str], shape: str | None, classes: int | None) -> MeasuredModel:
    """Count an architecture's layers; nothing is allocated.

    Args:
        name: The architecture, with keys of its own.
        sets: ``--set`` arguments.
        shape: Shape of the image (``3x224x224``); None: the usual one.
        classes: Number of classes; None: the usual one.
    """
    with _in_passing():
        spec = parse_component("model", name, sets)
        data = usual_data(spec, _shape(shape), classes)
        from expflow.architectures.layer_table import layer_table

        return MeasuredModel(spec, data, layer_table(spec, data))


def show_model(
    name: str,
    sets: Sequence[str],
    shape: str | None,
    classes: int | None,
    *,
    form: Literal["table", "json", "csv"],
    bars: Path | None,
    receptive: Path | None,
    draw: Path | None = None,
) -> None:
    """Print one architecture, layer by layer.

    Args:
        name: The architecture, with keys of its own.
        sets: ``--set`` arguments.
        shape: Shape of the image (``3x224x224``); None: the usual one.
        classes: Number of classes; None: the usual one.
        form: What is printed.
        bars: A file for a chart of the layers; None: no chart.
        receptive: A file for a picture of the receptive fields; None: no picture.
        draw: A file for a drawing of a child; None: no drawing.
    """
    check_drawable(bars, "--bars")
    check_drawable(receptive, "--receptive")
    model = measure_model(name, sets, shape, classes)
    table = model.table
    if form == "json":
        _print_model(model)
    elif form == "csv":
        echo(_csv(table), nl=False)
    else:
        _show_table(table)
        _show_configuration(model.spec)
    _draw_layers(table, ",".join((name, *sets)), bars, receptive, quiet=form != "table")
    if draw is not None:
        _draw(model, draw, quiet=form != "table")


def _draw_layers(table: LayerTable, title: str, bars: Path | None, receptive: Path | None, *, quiet: bool) -> None:
    if bars is not None:
        from expflow.report.cost_figures import layer_bars

        write_figure(layer_bars(table, title), bars, quiet=quiet)
    if receptive is not None:
        from expflow.report.receptive_figure import receptive_figure

        write_figure(receptive_figure(table, title), receptive, quiet=quiet)


def _draw(model: MeasuredModel, file: Path, *, quiet: bool) -> None:
    from expflow.config.identity import dump
    from expflow.report.canvas import RenderedFigure
    from expflow.report.child_drawing import draw_child

    drawing = draw_child(dump(model.spec), model.spec.name)
    if drawing is None:
        raise UserError(f"--draw: {model.spec.name} is no child of an architecture search; --bars draws its layers")
    if file.suffix != ".svg":
        raise UserError(f"--draw: {file} is to end in .svg")
    write_figure(
        RenderedFigure("child", drawing.title, "", drawing.alt, png=b"", svg=drawing.svg.encode()), file, quiet=quiet
    )


def _print_model(model: MeasuredModel) -> None:
    from expflow.cli.documents.models import ModelDocument, ModelLayer, ModelTotals
    from expflow.cli.documents.printing import print_document
    from expflow.config.identity import dump

    table = model.table
    rows = tuple(ModelLayer(**asdict(row)) for row in table.rows)
    totals = ModelTotals(table.params, table.macs, table.pool_ops, table.memory_kb, table.all_memory_kb)
    classes, takes = model.data.num_classes, arguments_of(model.spec)
    print_document(ModelDocument("model", 1, table.model, table.input, classes, rows, totals, dump(model.spec), takes))


def _csv(table: LayerTable) -> str:
    text = io.StringIO()
    rows = table.to_json()["rows"]
    writer = csv.DictWriter(text, fieldnames=list(rows[0]) if rows else ["layer"], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: sizes(value) if isinstance(value, tuple) else value for key, value in row.items()})
    return text.getvalue()


def sizes(values: Sequence[int] | None) -> str:
    """``3x224x224``; an empty string where there are no sizes.

    Args:
        values: The sizes.
    """
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


def _show_table(table: LayerTable) -> None:
    titles = ("layer", "type", "input", "kernel", "stride", "pad", "output", "KB", "params", "multiply-adds", "field")
    shown = [row for row in table.rows if not row.passes_on]
    columns(titles, [_cells(row) for row in shown], text=("layer", "type"))
    echo("")
    if hidden := len(table.rows) - len(shown):
        echo(f"{hidden} layers that cost nothing and keep the shape (activations, dropout) are left out")
    if table.pool_ops:
        echo("in brackets: operations of pools, which are no multiply-adds")
    if any(row.output is None and row.params for row in shown):
        echo("layers without an output hold parameters only: they do not run, or the one around uses them")
    together = table.macs + table.pool_ops
    echo(f"parameters     {table.params:,}")
    echo(f"multiply-adds  {table.macs:,} (with the pools' {table.pool_ops:,}: {together:,})")
    echo(f"memory         {table.memory_kb:,.1f} KB of convolutions, matrix products and pools")
    echo(f"               {table.all_memory_kb:,.1f} KB of all layers")


def _show_configuration(spec: Spec) -> None:
    """The configuration string of a child, as a controller writes it: a line for each layer."""
    if isinstance(spec, ChildSpec) and not spec.normal:
        echo("")
        for number, layer in enumerate(parse_layers(spec.layers), start=1):
            echo(f"layer {number}        {', '.join(configuration_string(layer))}")


def _cells(row: LayerRow) -> tuple[str, ...]:
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
