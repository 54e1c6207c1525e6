"""``models``, ``models show`` and ``models compare`` with ``--json``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from expflow.architectures.catalogue import ArchitectureDescription, ArgumentDescription
from expflow.registry import Preset


@dataclass(frozen=True)
class ModelsDocument:
    """The architectures that have a name.

    Attributes:
        document: Which document this is.
        version: Its version.
        models: Each with its keys.
        prefixes: What names of networks of other packages begin with (``timm/``).
        presets: Well-known names, each a family with some of its keys.
    """

    document: Literal["models"]
    version: Literal[1]
    models: tuple[ArchitectureDescription, ...]
    prefixes: tuple[str, ...]
    presets: tuple[Preset, ...]


@dataclass(frozen=True)
class ModelLayer:
    """A call of a layer, in the order in which they run.

    Attributes:
        layer: Dotted name of the layer.
        type: Name of its class, or of the operation in lower case.
        input: Shape of its input; None where it was not called.
        output: Shape of its output; None where it was not called.
        kernel: Height and width of its window in pixels; None where it has none.
        stride: Pixels between two positions of the window; likewise.
        padding: Pixels added around the map; likewise.
        groups: Groups of a convolution.
        memory_kb: The output in fp32, in units of 1024 bytes.
        params: Parameters that no row before has counted.
        macs: Multiply-adds of convolutions and matrix products for one image.
        pool_ops: Values that a pool compares or adds up.
        field: Height and width in pixels of what one output sees; None behind operations that mix positions freely.
    """

    layer: str
    type: str
    input: tuple[int, ...] | None
    output: tuple[int, ...] | None
    kernel: tuple[int, int] | None
    stride: tuple[int, int] | None
    padding: tuple[int, int] | None
    groups: int
    memory_kb: float
    params: int
    macs: int
    pool_ops: int
    field: tuple[int, int] | None


@dataclass(frozen=True)
class ModelTotals:
    """The sums over all layers.

    Attributes:
        params: Parameters.
        macs: Multiply-adds for one image.
        pool_ops: Operations of pools.
        memory_kb: Outputs of convolutions, matrix products and pools, in units of 1024 bytes.
        all_memory_kb: Outputs of all layers.
    """

    params: int
    macs: int
    pool_ops: int
    memory_kb: float
    all_memory_kb: float


@dataclass(frozen=True)
class ModelDocument:
    """The layers of one architecture.

    Attributes:
        document: Which document this is.
        version: Its version.
        model: Its name.
        input: Channels, height and width of the image.
        classes: Number of classes.
        rows: Its layers.
        totals: Their sums.
        keys: The keys that it is built with.
        takes: The keys that it may have.
    """

    document: Literal["model"]
    version: Literal[1]
    model: str
    input: tuple[int, ...]
    classes: int
    rows: tuple[ModelLayer, ...]
    totals: ModelTotals
    keys: Mapping[str, Any]
    takes: tuple[ArgumentDescription, ...]


@dataclass(frozen=True)
class ComparedModelRow:
    """One of several architectures.

    Attributes:
        model: Its name, with its keys.
        input: Channels, height and width of the image.
        params: Parameters.
        macs: Multiply-adds for one image.
        pool_ops: Operations of pools.
        memory_kb: Outputs of convolutions, matrix products and pools, in units of 1024 bytes.
        all_memory_kb: Outputs of all layers.
        top1: The best accuracy that is known (0 to 1); None where none is. So are the following.
        data: What that is on.
        source: Where it is known from.
        seeds: Over how many seeds; None of published weights, too.
    """

    model: str
    input: tuple[int, ...]
    params: int
    macs: int
    pool_ops: int
    memory_kb: float
    all_memory_kb: float
    top1: float | None
    data: str | None
    source: str | None
    seeds: int | None


@dataclass(frozen=True)
class ComparedModelsDocument:
    """Several architectures.

    Attributes:
        document: Which document this is.
        version: Its version.
        models: The architectures, in the order in which they were asked for.
    """

    document: Literal["compared_models"]
    version: Literal[1]
    models: tuple[ComparedModelRow, ...]
