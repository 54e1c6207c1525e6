"""A child of an architecture search as a drawing: its layers in a row, or its cells as graphs."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import escape

from expflow.architectures.specs.child_cells import INPUTS, parse_cell
from expflow.architectures.specs.child_layers import parse_layers

_STEP, _ROW, _WIDTH, _HEIGHT, _EDGE, _LINE = 160, 84, 110, 28, 20, 15
_FONT = "font-family='sans-serif' font-size='11'"


@dataclass(frozen=True)
class ChildDrawing:
    """A drawing of a child.

    Attributes:
        title: What stands above it.
        alt: The child as text.
        svg: The drawing.
    """

    title: str
    alt: str
    svg: str

    @property
    def source(self) -> str:
        """The drawing as the address of a picture."""
        return f"data:image/svg+xml;base64,{base64.b64encode(self.svg.encode()).decode()}"


@dataclass(frozen=True)
class _Node:
    label: str
    x: float
    y: float
    terms: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Line:
    start: _Node
    end: _Node
    term: int = 0
    lift: float = 0.0


def draw_child(model: Mapping[str, Any], title: str) -> ChildDrawing | None:
    """The drawing of a network's recipe; None of one that is no child.

    Args:
        model: The recipe's ``model`` as plain data.
        title: What the drawing is called.
    """
    if model.get("name") != "child":
        return None
    if model.get("layers"):
        return ChildDrawing(title, str(model["layers"]), layers_svg(str(model["layers"])))
    cells = {kind: str(model[kind]) for kind in ("normal", "reduction") if model.get(kind)}
    if not cells:
        return None
    return ChildDrawing(title, "; ".join(f"{kind}: {text}" for kind, text in cells.items()), cells_svg(cells))


def layers_svg(text: str) -> str:
    """The layers of a child as SVG: a box for each, an arc for each skip connection.

    Args:
        text: The child as text.

    Raises:
        ValueError: It is no child.
    """
    layers = parse_layers(text)
    longest = max((number - skip for number, layer in enumerate(layers, start=1) for skip in layer.skips), default=0)
    y = _HEIGHT + 22.0 * longest
    labels = ["image", *(f"{one.height}x{one.width} s{one.stride} n{one.filters}" for one in layers), "scores"]
    nodes = [_Node(label, _WIDTH / 2 + _EDGE + place * (_STEP - 20), y) for place, label in enumerate(labels)]
    lines = [_Line(one, other) for one, other in itertools.pairwise(nodes)]
    for number, layer in enumerate(layers, start=1):
        lines += [_Line(nodes[skip], nodes[number], lift=22.0 * (number - skip)) for skip in layer.skips]
    return _svg(nodes, lines, ())


def cells_svg(cells: Mapping[str, str]) -> str:
    """The cells of a child as SVG, below each other: nodes from left to right, an arrow for each operation.

    Args:
        cells: The kind of each cell, ``normal`` or ``reduction``, and its text.

    Raises:
        ValueError: One is no cell.
    """
    nodes, lines, titles = list[_Node](), list[_Line](), list[_Node]()
    top = 0.0
    for kind, text in cells.items():
        titles.append(_Node(f"{kind} cell", _EDGE, top + 16))
        mine, drawn = _cell(text, top + 50)
        nodes += mine
        lines += drawn
        top = max(node.y + _LINE * len(node.terms) for node in mine) + _HEIGHT
    return _svg(nodes, lines, titles)


def _cell(text: str, top: float) -> tuple[list[_Node], list[_Line]]:
    cell = parse_cell(text)
    depth = {0: 0, 1: 0}
    for number, node in enumerate(cell.nodes, start=INPUTS):
        depth[number] = 1 + max(depth[source] for _, source in node.edges)
    rows: dict[int, int] = {}
    placed: dict[int, _Node] = {}
    for number, column in depth.items():
        row = rows.get(column, 0)
        rows[column] = row + 1
        label = ("cell before last", "last cell")[number] if number < INPUTS else f"node {number}"
        terms = tuple(operation for operation, _ in cell.nodes[number - INPUTS].edges) if number >= INPUTS else ()
        x = _WIDTH / 2 + _EDGE + column * _STEP
        placed[number] = _Node(label, x, top + row * _ROW + (column % 2) * _ROW / 2, terms)
    out = _Node("output", _WIDTH / 2 + _EDGE + (max(depth.values()) + 1) * _STEP, top + _ROW / 2)
    lines = [_Line(placed[number], out) for number in cell.outputs]
    for number, node in enumerate(cell.nodes, start=INPUTS):
        lines += [_Line(placed[source], placed[number], place) for place, (_, source) in enumerate(node.edges, start=1)]
    return [*placed.values(), out], lines


def _svg(nodes: list[_Node], lines: Iterable[_Line], titles: Iterable[_Node]) -> str:
    width = max(node.x for node in nodes) + _WIDTH / 2 + _EDGE
    height = max(node.y + _LINE * len(node.terms) for node in nodes) + _HEIGHT + _EDGE
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{width:g}' height='{height:g}' "
        f"viewBox='0 0 {width:g} {height:g}'>",
        "<defs><marker id='tip' viewBox='0 0 8 8' refX='7' refY='4' markerWidth='7' markerHeight='7' orient='auto'>"
        "<path d='M0 0 L8 4 L0 8 z' fill='#555'/></marker></defs>",
        f"<rect width='{width:g}' height='{height:g}' fill='#fff'/>",
    ]
    parts += [_line(line) for line in lines]
    parts += [_box(node) for node in nodes]
    parts += [
        f"<text x='{one.x:g}' y='{one.y:g}' {_FONT} font-weight='bold'>{escape(one.label)}</text>" for one in titles
    ]
    return "".join([*parts, "</svg>"])


def _box(node: _Node) -> str:
    """A node's box: its name, and below it a line for each operation that enters it."""
    left, top, height = node.x - _WIDTH / 2, node.y - _HEIGHT / 2, _HEIGHT + _LINE * len(node.terms)
    parts = [
        f"<rect x='{left:g}' y='{top:g}' width='{_WIDTH}' height='{height}' rx='5' fill='#eef3fa' stroke='#456'/>",
        f"<text x='{node.x:g}' y='{node.y + 4:g}' text-anchor='middle' {_FONT}>{escape(node.label)}</text>",
    ]
    for place, term in enumerate(node.terms, start=1):
        y = node.y + _LINE * place + 4
        parts.append(f"<text x='{left + 8:g}' y='{y:g}' {_FONT} fill='#345'>{escape(term)}</text>")
    return "".join(parts)


def _line(line: _Line) -> str:
    """An arrow from the right edge of a box to a line of another; a lifted one goes in an arc over the boxes."""
    x1, y1, x2, y2 = line.start.x + _WIDTH / 2, line.start.y, line.end.x - _WIDTH / 2, line.end.y + _LINE * line.term
    if line.lift:
        x1, x2, y1, y2 = line.start.x, line.end.x, y1 - _HEIGHT / 2, y2 - _HEIGHT / 2
    way = f"M{x1:g} {y1:g} Q{(x1 + x2) / 2:g} {(y1 + y2) / 2 - 2 * line.lift:g} {x2:g} {y2:g}"
    return f"<path d='{way}' fill='none' stroke='#555' marker-end='url(#tip)'/>"
