"""Child networks of an architecture search: layers with skip connections, or stacked cells.

Source:
    Zoph and Le 2017, "Neural Architecture Search with Reinforcement Learning", section 3.3 (skip connections: inputs
    are concatenated in depth, and smaller maps padded with zeros); Liu et al. 2019, "DARTS: Differentiable Architecture
    Search", section 3.1 and appendix A (cells, and how they are stacked).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from expflow.architectures.blocks import activation, dropout, init_weights, norm2d, pool2d
from expflow.architectures.child_operations import FactorizedReduction, make_operation, pointwise
from expflow.architectures.specs.child import ChildSpec
from expflow.architectures.specs.child_cells import INPUTS, Cell, parse_cell
from expflow.architectures.specs.child_layers import ChildLayer, parse_layers
from expflow.data.dataspec import DataSpec
from expflow.errors import UserError


class LayerStack(nn.Module):
    """Layers that each read the one before and the outputs of earlier ones: (b, c, h, w) -> (b, filters, h', w').

    Args:
        layers: What the child has.
        channels: Channels of the image.
        spec: Normalisation, activation, padding and how sizes are reduced.
    """

    def __init__(self, layers: Sequence[ChildLayer], channels: int, spec: ChildSpec) -> None:
        super().__init__()
        self.skips = [layer.skips for layer in layers]
        self.layers = nn.ModuleList()
        widths = [channels]
        for layer in layers:
            entering = widths[-1] + sum(widths[number] for number in layer.skips)
            self.layers.append(_layer(layer, entering, spec))
            widths.append(layer.filters)
        self.channels = widths[-1]

    def forward(self, x_bchw: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, filters, h', w')."""
        outputs = [x_bchw]
        for layer, skips in zip(self.layers, self.skips, strict=True):
            outputs.append(layer(_concatenated([outputs[-1], *(outputs[number] for number in skips)])))
        return outputs[-1]


def _layer(layer: ChildLayer, channels: int, spec: ChildSpec) -> nn.Sequential:
    sides = (layer.height, layer.width)
    edges = (layer.height // 2, layer.width // 2) if spec.padding == "same" else (0, 0)
    by_convolution = spec.downsample == "convolution"
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    parts["conv"] = nn.Conv2d(
        channels, layer.filters, sides, layer.stride if by_convolution else 1, edges, bias=spec.norm == "none"
    )
    if spec.norm != "none":
        parts["norm"] = norm2d(spec.norm, layer.filters)
    parts["activation"] = activation(spec.activation)
    if not by_convolution and layer.stride > 1:
        parts["pool"] = pool2d(spec.downsample, layer.stride)
    return nn.Sequential(parts)


def _concatenated(maps: Sequence[Tensor]) -> Tensor:
    """Maps side by side in depth; smaller ones are padded with zeros below and to the right."""
    if len(maps) == 1:
        return maps[0]
    height, width = (max(part.shape[side] for part in maps) for side in (2, 3))
    padded = [
        part
        if part.shape[2:] == (height, width)
        else functional.pad(part, (0, width - part.shape[3], 0, height - part.shape[2]))
        for part in maps
    ]
    return torch.cat(padded, 1)


@dataclass(frozen=True)
class MapSize:
    """The size of what leaves a cell.

    Attributes:
        channels: Its channels; 0 of a cell that no later one needs.
        halvings: How often height and width were halved before.
    """

    channels: int
    halvings: int


class SearchedCell(nn.Module):
    """A cell: two maps of (b, c, h, w) -> (b, width * outputs, h', w').

    Args:
        cell: Its nodes and outputs.
        before: What leaves the cell before the last one, and the last one.
        width: Channels of each node.
        stride: 2 in a reduction cell, where operations on the cell's inputs halve the size.
        act: Name of the activation.
    """

    def __init__(self, cell: Cell, before: tuple[MapSize, MapSize], width: int, *, stride: int, act: str) -> None:
        super().__init__()
        self.cell, self.stride = cell, stride
        read = {source: before[source] for source in range(INPUTS) if cell.reads(source)}
        halvings = max(entering.halvings for entering in read.values())
        self.preprocess = nn.ModuleDict(
            {str(source): fitted_input(entering, halvings, width, act) for source, entering in read.items()}
        )
        self.operations = nn.ModuleList(
            make_operation(name, width, stride if source < INPUTS else 1, act)
            for node in cell.nodes
            for name, source in node.edges
        )
        self.passed = nn.ModuleDict(
            {str(source): FactorizedReduction(width, width, act) for source in self._shrunk_outputs()}
        )
        self.leaves = MapSize(width * len(cell.outputs), halvings + (stride > 1))

    def _shrunk_outputs(self) -> list[int]:
        """Inputs that a reduction cell concatenates, whose size has to be halved for that."""
        return [source for source in self.cell.outputs if source < INPUTS and self.stride > 1]

    def forward(self, before_last_bchw: Tensor, last_bchw: Tensor) -> Tensor:
        """Two maps of (b, c, h, w) -> (b, width * outputs, h', w')."""
        inputs = (before_last_bchw, last_bchw)
        maps = {int(source): layer(inputs[int(source)]) for source, layer in self.preprocess.items()}
        for number, node in enumerate(self.cell.nodes):
            first, second = (
                self.operations[2 * number + place](maps[source]) for place, (_, source) in enumerate(node.edges)
            )
            maps[INPUTS + number] = first + second
        for source, layer in self.passed.items():
            maps[int(source)] = layer(maps[int(source)])
        return torch.cat([maps[source] for source in self.cell.outputs], 1)


def fitted_input(entering: MapSize, halvings: int, width: int, act: str) -> nn.Module:
    """What gives an input of a cell the cell's width and size.

    Args:
        entering: The size of the input.
        halvings: How often the cell's maps were halved.
        width: Channels of the cell's nodes.
        act: Name of the activation.
    """
    missing = halvings - entering.halvings
    if not missing:
        return pointwise(entering.channels, width, act)
    first = FactorizedReduction(entering.channels, width, act)
    return nn.Sequential(first, *(FactorizedReduction(width, width, act) for _ in range(missing - 1)))


class CellStack(nn.Module):
    """A convolution and cells, of which those after a third and two thirds halve the size.

    Cells that lead to nothing, because those behind them read only the cell before the last one, are left out.

    Args:
        spec: The cells and their width.
        channels: Channels of the image.
    """

    def __init__(self, spec: ChildSpec, channels: int) -> None:
        super().__init__()
        cells = {1: parse_cell(spec.normal), 2: parse_cell(spec.reduction or spec.normal)}
        strides = [
            2 if spec.cells > 2 and place in (spec.cells // 3, 2 * spec.cells // 3) else 1
            for place in range(spec.cells)
        ]
        live = _live_cells([cells[stride] for stride in strides])
        width = spec.stem_factor * spec.width
        self.stem = nn.Sequential(nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))
        before_last = last = MapSize(width, 0)
        width = spec.width
        self.cells = nn.ModuleDict()
        for place, stride in enumerate(strides):
            width *= stride
            leaves = MapSize(0, last.halvings)
            if place in live:
                cell = SearchedCell(cells[stride], (before_last, last), width, stride=stride, act=spec.activation)
                self.cells[str(place)], leaves = cell, cell.leaves
            before_last, last = last, leaves
        self.count, self.channels = spec.cells, last.channels

    def forward(self, x_bchw: Tensor) -> Tensor:
        """(b, c, h, w) -> (b, channels, h / 4, w / 4)."""
        before_last: Tensor = self.stem(x_bchw)
        last = before_last
        for place in range(self.count):
            name = str(place)
            output_bchw = self.cells[name](before_last, last) if name in self.cells else last
            before_last, last = last, output_bchw
        return last


def _live_cells(cells: Sequence[Cell]) -> set[int]:
    """Places of the cells from which a path leads to the last one."""
    live = {len(cells) - 1}
    for place in reversed(range(len(cells))):
        if place in live:
            live |= {place - INPUTS + source for source in range(INPUTS) if cells[place].reads(source)}
    return live


def build(spec: ChildSpec, data_spec: DataSpec) -> nn.Sequential:
    """The network of a child: (b, c, h, w) -> (b, classes).

    Args:
        spec: The child.
        data_spec: The images and classes that it is for.

    Raises:
        UserError: Its layers leave nothing of the images; the message says which layer.
    """
    features: CellStack | LayerStack
    if spec.normal:
        features = CellStack(spec, data_spec.in_channels)
    else:
        layers = parse_layers(spec.layers)
        _check_sizes(layers, spec, data_spec.image_size)
        features = LayerStack(layers, data_spec.in_channels, spec)
    for module in features.modules():
        if isinstance(module, nn.Conv2d):
            init_weights(module, spec.init)
    return nn.Sequential(
        OrderedDict(
            features=features,
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            dropout=dropout(spec.dropout),
            head=nn.Linear(features.channels, data_spec.num_classes),
        )
    )


def _check_sizes(layers: Sequence[ChildLayer], spec: ChildSpec, image: tuple[int, int]) -> None:
    sizes = [image]
    for number, layer in enumerate(layers, start=1):
        sources = [sizes[-1], *(sizes[skip] for skip in layer.skips)]
        height, width = (max(size[side] for size in sources) for side in (0, 1))
        left = _left(height, layer.height, layer.stride, spec), _left(width, layer.width, layer.stride, spec)
        if min(left) < 1:
            raise UserError(
                f"model child cannot take images of {image[0]}x{image[1]} pixels: layer {number} ({layer})"
                f" leaves nothing of the {height}x{width} pixels that it is given"
            )
        sizes.append(left)


def _left(size: int, side: int, stride: int, spec: ChildSpec) -> int:
    """Rows that a layer leaves of ``size`` rows."""
    rows = size + 2 * (side // 2 if spec.padding == "same" else 0) - side
    if spec.downsample == "convolution":
        return rows // stride + 1 if rows >= 0 else 0
    return (rows + 1) // stride
