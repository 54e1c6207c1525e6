"""The network of a one-shot search: every child of a cell space, with weights that they share.

An edge mixes all operations by the softmax of its architecture weights, among them none. The architecture weights are
buffers and no parameters: the optimizer of the network's weights does not see them, and what steps them is the task.

Source:
    Liu et al. 2019, "DARTS: Differentiable Architecture Search", section 2; Xu et al. 2020, "PC-DARTS: Partial Channel
    Connections for Memory-Efficient Architecture Search", sections 3.2 (partial channels) and 3.3 (weights of edges).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from expflow.architectures.blocks import init_weights
from expflow.architectures.child import MapSize, fitted_input
from expflow.architectures.child_operations import make_operation
from expflow.architectures.specs.child_cells import INPUTS
from expflow.architectures.specs.supernet import SupernetSpec
from expflow.data.dataspec import DataSpec

KINDS = ("normal", "reduction")
"""The two cells; each has architecture weights of its own, which all its copies share."""
_SMALL = 1e-3
"""Deviation of the architecture weights at first, as in DARTS."""

Mixing = tuple[Tensor, Tensor]
"""Of the normal and of the reduction cell: (edges, operations), how much of each operation an edge passes on."""


ChildPath = tuple[Sequence[int], Sequence[int]]
"""Of the normal and of the reduction cell, for each edge the place of its operation; behind the last one: none."""


def edges_of(nodes: int) -> list[tuple[int, int]]:
    """The edges of a cell in their order: number of the node that reads, from 2, and of the one that is read.

    Args:
        nodes: How many nodes it has.
    """
    return [(node, source) for node in range(INPUTS, nodes + INPUTS) for source in range(node)]


class MixedOperation(nn.Module):
    """An edge: (b, width, h, w) -> (b, width, h / stride, w / stride), the weighted sum of its operations.

    Args:
        names: The operations.
        width: Channels.
        stride: 2 where it halves height and width.
        partial: One in so many channels goes through the operations.
        act: Name of the activation.
    """

    def __init__(self, names: Sequence[str], width: int, stride: int, partial: int, act: str) -> None:
        super().__init__()
        self.mixed, self.partial, self.stride = width // partial, partial, stride
        self.operations = nn.ModuleList(_plain_norms(name, self.mixed, stride, act) for name in names)

    def only(self, x_bchw: Tensor, operation: int) -> Tensor:
        """(b, c, h, w) -> (b, c, h / stride, w / stride) by one operation; zeros for the place behind the last, none.

        Args:
            x_bchw: What enters the edge.
            operation: Place of the operation.
        """
        if operation == len(self.operations):
            return x_bchw[:, :, :: self.stride, :: self.stride] * 0.0
        passed_bchw: Tensor = self.operations[operation](x_bchw)
        return passed_bchw

    def forward(self, x_bchw: Tensor, weights_o: Tensor) -> Tensor:
        """(b, c, h, w), (operations,) -> (b, c, h / stride, w / stride)."""
        part_bchw = x_bchw[:, : self.mixed] if self.partial > 1 else x_bchw
        terms = (weight * operation(part_bchw) for weight, operation in zip(weights_o, self.operations, strict=True))
        mixed_bchw = torch.stack(list(terms)).sum(0)
        if self.partial == 1:
            return mixed_bchw
        rest_bchw = x_bchw[:, self.mixed :]
        rest_bchw = rest_bchw if self.stride == 1 else functional.max_pool2d(rest_bchw, 2, 2, ceil_mode=True)
        return functional.channel_shuffle(torch.cat([mixed_bchw, rest_bchw], 1), self.partial)


def _plain_norms(name: str, width: int, stride: int, act: str) -> nn.Module:
    """An operation whose norms have no scale of their own, and pools one behind: scales would do the weights' work."""
    operation = make_operation(name, width, stride, act)
    if "pool" in name:
        operation = nn.Sequential(operation, nn.BatchNorm2d(width))
    for module in operation.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.affine, module.weight, module.bias = False, None, None  # type: ignore[assignment]
    return operation


class SuperCell(nn.Module):
    """A cell of all its children: two maps of (b, c, h, w) -> (b, width * nodes, h', w').

    Args:
        spec: Its nodes and operations.
        before: What leaves the cell before the last one, and the last one.
        width: Channels of each node.
        stride: 2 in a reduction cell.
    """

    def __init__(self, spec: SupernetSpec, before: tuple[MapSize, MapSize], width: int, stride: int) -> None:
        super().__init__()
        halvings = max(entering.halvings for entering in before)
        self.preprocess = nn.ModuleList(fitted_input(entering, halvings, width, spec.activation) for entering in before)
        self.nodes, self.kind = spec.nodes, KINDS[stride > 1]
        self.edges = nn.ModuleList(
            MixedOperation(spec.operation_names, width, stride if source < INPUTS else 1, spec.partial, spec.activation)
            for _, source in edges_of(spec.nodes)
        )
        self.leaves = MapSize(width * spec.nodes, halvings + (stride > 1))

    def forward(
        self, before_last_bchw: Tensor, last_bchw: Tensor, weights_eo: Tensor, chosen: Sequence[int] = ()
    ) -> Tensor:
        """Two maps of (b, c, h, w), (edges, operations) -> (b, width * nodes, h', w').

        ``chosen`` has for each edge the one operation that is computed; by default all are, and mixed.
        """
        maps = [layer(entering) for layer, entering in zip(self.preprocess, (before_last_bchw, last_bchw), strict=True)]
        sums: dict[int, Tensor] = {}
        for place, (node, source) in enumerate(edges_of(self.nodes)):
            edge = cast(MixedOperation, self.edges[place])
            term = edge.only(maps[source], chosen[place]) if chosen else edge(maps[source], weights_eo[place])
            sums[node] = sums[node] + term if node in sums else term
            if source == node - 1:
                maps.append(sums[node])
        return torch.cat(maps[INPUTS:], 1)


class Supernet(nn.Module):
    """The network: (b, c, h, w) -> (b, classes). Cells are stacked as those of a child.

    Args:
        spec: The space and the sizes.
        data_spec: The images and classes that it is for.
    """

    def __init__(self, spec: SupernetSpec, data_spec: DataSpec) -> None:
        super().__init__()
        self.operation_names, self.nodes = spec.operation_names, spec.nodes
        self._path: ChildPath | None = None
        strides = [2 if place in (spec.cells // 3, 2 * spec.cells // 3) else 1 for place in range(spec.cells)]
        width = spec.stem_factor * spec.width
        self.stem = nn.Sequential(
            nn.Conv2d(data_spec.in_channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        )
        before_last = last = MapSize(width, 0)
        width = spec.width
        self.cells = nn.ModuleList()
        for stride in strides:
            width *= stride
            cell = SuperCell(spec, (before_last, last), width, stride)
            self.cells.append(cell)
            before_last, last = last, cell.leaves
        self.pool, self.flatten = nn.AdaptiveAvgPool2d(1), nn.Flatten()
        self.head = nn.Linear(last.channels, data_spec.num_classes)
        edges = len(edges_of(spec.nodes))
        for kind in KINDS:
            self.register_buffer(f"operations_{kind}", _SMALL * torch.randn(edges, len(self.operation_names) + 1))
            if spec.partial > 1:
                self.register_buffer(f"edges_{kind}", _SMALL * torch.randn(edges))

    @property
    def architecture(self) -> list[Tensor]:
        """The architecture weights: (edges, operations and none) of each kind of cell, and (edges,) of partial ones."""
        names = [f"{part}_{kind}" for part in ("operations", "edges") for kind in KINDS]
        return [self.get_buffer(name) for name in names if hasattr(self, name)]

    def mixing(self, architecture: Sequence[Tensor]) -> Mixing:
        """How much of each operation each edge passes on.

        Args:
            architecture: Tensors like :attr:`architecture`.
        """
        normal, reduction = (functional.softmax(weights, 1)[:, :-1] for weights in architecture[: len(KINDS)])
        if len(architecture) == len(KINDS):
            return normal, reduction
        first, second = (self._of_edges(weights)[:, None] for weights in architecture[len(KINDS) :])
        return normal * first, reduction * second

    def _of_edges(self, weights_e: Tensor) -> Tensor:
        """(edges,) -> (edges,): their softmax over the edges of each node."""
        nodes = [node for node, _ in edges_of(self.nodes)]
        counts = [nodes.count(node) for node in dict.fromkeys(nodes)]
        return torch.cat([functional.softmax(part, 0) for part in torch.split(weights_e, counts)])

    @contextmanager
    def following(self, path: ChildPath) -> Iterator[None]:
        """In the body the network is one of its children.

        Args:
            path: Of each kind of cell, the place of the operation on each edge.
        """
        before, self._path = self._path, path
        try:
            yield
        finally:
            self._path = before

    def forward(self, image_bchw: Tensor, mixing: Mixing | None = None) -> Tensor:
        """(b, c, h, w) -> (b, classes); mixed by the architecture weights unless ``mixing`` says otherwise."""
        normal, reduction = mixing if mixing is not None else self.mixing(self.architecture)
        before_last: Tensor = self.stem(image_bchw)
        last = before_last
        for cell in self.cells:
            weights = normal if cell.kind == "normal" else reduction
            chosen = self._path[KINDS.index(cell.kind)] if self._path else ()
            before_last, last = last, cell(before_last, last, weights, chosen)
        scores: Tensor = self.head(self.flatten(self.pool(last)))
        return scores


def build(spec: SupernetSpec, data_spec: DataSpec) -> Supernet:
    """The network of a one-shot search: (b, c, h, w) -> (b, classes).

    Args:
        spec: The space and the sizes.
        data_spec: The images and classes that it is for.
    """
    network = Supernet(spec, data_spec)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            init_weights(module, spec.init)
    return network
