"""Cells of a child as text: nodes that each add two operations on earlier nodes.

``sep_conv_3x3(0) + skip_connect(1), max_pool_3x3(2) + conv_1x1(1) > 2 3`` is a cell of two nodes. 0 and 1 are the
outputs of the cell before the last one and of the last one, nodes are numbered from 2, and what stands behind ``>`` is
concatenated.

Source:
    Zoph et al. 2018, "Learning Transferable Architectures for Scalable Image Recognition", section 3 (the nodes, there
    called blocks); Liu et al. 2019, "DARTS: Differentiable Architecture Search", section 2.1 (the names).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from expflow.config.child_space import OPERATIONS, OUTPUT_RULES
from expflow.errors import nearest

INPUTS = 2
"""Nodes of a cell that come from outside of it."""
MAX_NODES = 12
_MOST_ORDERS = 5040

_EDGE = re.compile(r"(\w+)\((\d+)\)")


@dataclass(frozen=True)
class CellNode:
    """A node of a cell: the sum of two operations.

    Attributes:
        edges: Operation and number of the node that it reads, twice.
    """

    edges: tuple[tuple[str, int], tuple[str, int]]

    def __str__(self) -> str:
        """The node as the text of a cell has it."""
        return " + ".join(f"{operation}({source})" for operation, source in self.edges)


@dataclass(frozen=True)
class Cell:
    """A cell of a child.

    Attributes:
        nodes: The nodes, numbered from 2.
        outputs: Numbers of those that are concatenated.
    """

    nodes: tuple[CellNode, ...]
    outputs: tuple[int, ...]

    def __str__(self) -> str:
        """The cell as text."""
        return f"{', '.join(map(str, self.nodes))} > {' '.join(map(str, self.outputs))}"

    def reads(self, source: int) -> bool:
        """Whether something in the cell, or what it gives, uses a node.

        Args:
            source: The node's number.
        """
        return source in self.outputs or any(used == source for node in self.nodes for _, used in node.edges)


def parse_cell(text: str) -> Cell:
    """The cell that a text describes, checked and in its canonical form.

    Args:
        text: The cell as text; without ``>`` the nodes that no other one reads are concatenated.

    Raises:
        ValueError: It is not written so, or is no cell.
    """
    body, _, outputs = text.partition(">")
    nodes = []
    for part in body.split(","):
        edges = [_EDGE.fullmatch(edge.strip()) for edge in part.split("+")]
        if len(edges) != 2 or None in edges:
            raise ValueError(f"{part.strip()!r} is no node; expected two operations, sep_conv_3x3(0) + skip_connect(1)")
        first, second = ((edge[1], int(edge[2])) for edge in edges if edge is not None)
        nodes.append(CellNode((first, second)))
    if not re.fullmatch(r"[\d ]*", outputs):
        raise ValueError(f"{outputs.strip()!r} are no outputs; expected numbers of nodes, > 2 3")
    return _canonical(tuple(nodes), tuple(map(int, outputs.split())) or "unused")


def canonical_cell(value: Any) -> str:
    """The one text of a cell, however it was described.

    Args:
        value: Its text; or a mapping of its nodes' numbers, from 2, to ``in1``, ``op1``, ``in2`` and ``op2``, with a
            key ``outputs``: unused, all or last.

    Raises:
        ValueError: It describes no cell.
    """
    if isinstance(value, str):
        return str(parse_cell(value))
    if not isinstance(value, Mapping):
        raise ValueError(f"expected a cell as text or as a mapping of its nodes, found {value!r}")
    numbered = {int(key): node for key, node in value.items() if str(key).isdigit()}
    rule = value.get("outputs", "unused")
    wrong = [str(key) for key in value if not str(key).isdigit() and key != "outputs"]
    if wrong or not numbered or sorted(numbered) != list(range(INPUTS, INPUTS + len(numbered))):
        raise ValueError(f"expected nodes numbered from {INPUTS}, found {', '.join(map(str, value)) or 'none'}")
    if rule not in OUTPUT_RULES:
        raise ValueError(f"outputs: expected one of {', '.join(OUTPUT_RULES)}, found {rule!r}")
    nodes = tuple(_node_of(number, numbered[number]) for number in sorted(numbered))
    return str(_canonical(nodes, rule))


def _node_of(number: int, fields: Any) -> CellNode:
    wanted = ("in1", "op1", "in2", "op2")
    if not isinstance(fields, Mapping) or set(fields) != set(wanted):
        raise ValueError(f"node {number}: expected {', '.join(wanted)}, found {fields!r}")
    for key in ("in1", "in2"):
        if not isinstance(fields[key], int) or isinstance(fields[key], bool):
            raise ValueError(f"node {number}: {key} is the number of a node, found {fields[key]!r}")
    return CellNode(((str(fields["op1"]), fields["in1"]), (str(fields["op2"]), fields["in2"])))


def _canonical(nodes: tuple[CellNode, ...], outputs: tuple[int, ...] | str) -> Cell:
    """The cell without what reaches no output, and with its nodes in an order that does not depend on their numbers.

    A sum is the same in either order, and what is concatenated is a set: its order only permutes channels.
    """
    _check(nodes)
    numbers = range(INPUTS, INPUTS + len(nodes))
    if outputs == "all":
        chosen = set(numbers)
    elif outputs == "last":
        chosen = {numbers[-1]}
    elif isinstance(outputs, str):
        read = {source for node in nodes for _, source in node.edges}
        chosen = set(numbers) - read
    else:
        chosen = set(outputs)
        if beyond := [number for number in chosen if not 0 <= number < INPUTS + len(nodes)]:
            raise ValueError(f"the output {beyond[0]} is no node; there are 0 to {INPUTS + len(nodes) - 1}")
    live = _reached(nodes, chosen)
    if not live:
        raise ValueError("the cell's output reads none of its nodes")
    return _in_order({number: nodes[number - INPUTS] for number in live}, chosen)


def _check(nodes: tuple[CellNode, ...]) -> None:
    if not 1 <= len(nodes) <= MAX_NODES:
        raise ValueError(f"{len(nodes)} nodes; a cell has 1 to {MAX_NODES}")
    for number, node in enumerate(nodes, start=INPUTS):
        for operation, source in node.edges:
            if operation not in OPERATIONS:
                close = nearest(operation, OPERATIONS)
                hint = f"nearest: {close}" if close else f"expected one of {', '.join(OPERATIONS)}"
                raise ValueError(f"node {number}: no operation {operation!r}; {hint}")
            if not 0 <= source < number:
                raise ValueError(f"node {number} reads node {source}, which is not before it")


def _reached(nodes: tuple[CellNode, ...], outputs: set[int]) -> list[int]:
    """Numbers of the nodes from which a path leads to an output."""
    live: set[int] = set()
    waiting = [number for number in outputs if number >= INPUTS]
    while waiting:
        number = waiting.pop()
        if number not in live:
            live.add(number)
            waiting += [source for _, source in nodes[number - INPUTS].edges if source >= INPUTS]
    return sorted(live)


def _in_order(nodes: dict[int, CellNode], outputs: set[int]) -> Cell:
    """The nodes by depth and by what they compute; those that compute the same in the order with the least text."""
    depth, meaning = {0: 0, 1: 0}, {0: "0", 1: "1"}
    for number, node in nodes.items():
        depth[number] = 1 + max(depth[source] for _, source in node.edges)
        terms = sorted(f"{operation}({meaning[source]})" for operation, source in node.edges)
        meaning[number] = f"[{'+'.join(terms)}]"
    ordered = sorted(nodes, key=lambda number: (depth[number], meaning[number]))
    ties = [list(group) for _, group in itertools.groupby(ordered, key=lambda number: (depth[number], meaning[number]))]
    orders = itertools.product(*(itertools.permutations(group) for group in ties))
    candidates = (
        _renumbered(nodes, list(itertools.chain(*order)), outputs) for order in itertools.islice(orders, _MOST_ORDERS)
    )
    return min(candidates, key=str)


def _renumbered(nodes: dict[int, CellNode], order: list[int], outputs: set[int]) -> Cell:
    new = {0: 0, 1: 1, **{number: place for place, number in enumerate(order, start=INPUTS)}}
    made = []
    for number in order:
        edges = sorted(((operation, new[source]) for operation, source in nodes[number].edges), key=lambda e: e[::-1])
        made.append(CellNode((edges[0], edges[1])))
    return Cell(tuple(made), tuple(sorted(new[number] for number in outputs)))
