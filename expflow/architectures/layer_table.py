"""The layer table of lectures and papers, for any network: sizes, memory, parameters, multiply-adds, receptive field.

The real module runs on the meta device, and hooks and an operation observer record each of its layers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from expflow.architectures.accounting import eval_mode, example_inputs, measure_network
from expflow.architectures.operation_observer import OperationObserver, macs_of
from expflow.architectures.receptive_field import Pair, ReceptiveField, SlidingWindow, receptive_field_after, window_of
from expflow.config.component_specs import input_shape
from expflow.config.spec import Spec
from expflow.data.dataspec import DataSpec

Shape = tuple[int, ...]

BYTES = 4
"""Bytes of one value: fp32, as the lectures count."""

OPAQUE_LAYERS = (nn.MultiheadAttention,)
"""Modules that are one layer although they have parts: they use their parts' weights without calling them."""

_FUNCTIONS = {"addmm": "linear", "mm": "linear", "bmm": "matmul", "baddbmm": "matmul"}
_FUNCTIONS |= {"max_pool2d_with_indices": "max_pool2d", "_adaptive_avg_pool2d": "adaptive_avg_pool2d"}


@dataclass(frozen=True)
class LayerRow:
    """One call of one layer. Shapes and sizes are of one sample.

    Attributes:
        layer: Dotted name of the layer.
        type: Name of its class, or of the operation in lower case.
        input: Shape of its input; None where it was not called.
        output: Shape of its output; None where it was not called.
        kernel: Height and width of its window in pixels; None where it has none. Likewise ``stride`` and ``padding``.
        stride: Pixels between two positions of the window.
        padding: Pixels added around the map.
        groups: Groups of a convolution.
        memory_kb: The output in fp32, in units of 1024 bytes.
        params: Parameters that no row before has counted.
        macs: Multiply-adds of convolutions and matrix products, biases not counted.
        pool_ops: Values that a pool compares or adds up.
        field: Height and width in pixels of what one output sees; None after attention and other operations that mix
            positions freely.
    """

    layer: str
    type: str
    input: Shape | None = None
    output: Shape | None = None
    kernel: Pair | None = None
    stride: Pair | None = None
    padding: Pair | None = None
    groups: int = 1
    memory_kb: float = 0.0
    params: int = 0
    macs: int = 0
    pool_ops: int = 0
    field: Pair | None = None

    @property
    def passes_on(self) -> bool:
        """Whether it costs nothing and keeps the shape, as activations and dropout do."""
        return not (self.params or self.macs or self.pool_ops) and self.input == self.output


@dataclass(frozen=True)
class LayerTable:
    """The layers of one network in the order in which they run.

    Attributes:
        model: The network's name.
        input: Shape of the image (channels, height, width), or of a text (tokens,).
        rows: One for each call of a layer.
    """

    model: str
    input: Shape
    rows: tuple[LayerRow, ...]

    @property
    def params(self) -> int:
        """Parameters, each once, those of layers that did not run (such as auxiliary heads) included."""
        return sum(row.params for row in self.rows)

    @property
    def macs(self) -> int:
        """Multiply-adds of convolutions and matrix products."""
        return sum(row.macs for row in self.rows)

    @property
    def pool_ops(self) -> int:
        """Operations of pools, which some tables add to the multiply-adds."""
        return sum(row.pool_ops for row in self.rows)

    @property
    def memory_kb(self) -> float:
        """Outputs of convolutions, matrix products and pools, as the lectures add them up."""
        return sum(row.memory_kb for row in self.rows if row.macs or row.pool_ops)

    @property
    def all_memory_kb(self) -> float:
        """Outputs of all layers: what training keeps if nothing works in place."""
        return sum(row.memory_kb for row in self.rows)

    def totals(self) -> dict[str, float]:
        """The sums over all rows by name."""
        names = ("params", "macs", "pool_ops", "memory_kb", "all_memory_kb")
        return {name: getattr(self, name) for name in names}

    def to_json(self) -> dict[str, Any]:
        """Plain data: model, input, rows and totals."""
        rows = [asdict(row) for row in self.rows]
        return {"model": self.model, "input": list(self.input), "rows": rows, "totals": self.totals()}


def layer_table(spec: Spec, data_spec: DataSpec) -> LayerTable:
    """The layer table of a network for one image; nothing is allocated.

    Args:
        spec: The network.
        data_spec: The image and the classes that it is built for.

    Raises:
        UserError: It cannot be built, or cannot take such an image; the message has the reason.
    """

    def measure(network: nn.Module) -> tuple[LayerRow, ...]:
        return tuple(layer_rows(network, *example_inputs(spec, data_spec)))

    first = next(iter(data_spec.fields.values())).shape
    shape = input_shape(spec, data_spec.image_shape) if "image" in data_spec.fields else first
    return LayerTable(spec.name, shape, measure_network(spec, data_spec, measure))


def layer_rows(network: nn.Module, *inputs: Tensor) -> list[LayerRow]:
    """One row for each call of a layer while an image passes through a network in eval mode.

    A layer is a module without children. What a module with children computes by itself has rows of its own (in lower
    case), and so have its own parameters. Layers that did not run stand at the end.

    Args:
        network: The network; it keeps its mode.
        inputs: What it is given of one sample, as an image (1, c, h, w), on the network's device, which may be meta.
    """
    recorder = _LayerRecorder(inputs[0])
    with ExitStack() as stack:
        stack.enter_context(eval_mode(network))
        for handle in recorder.attach(network):
            stack.callback(handle.remove)
        stack.enter_context(OperationObserver(recorder.record))
        network(*inputs)
    recorder.add_idle(network)
    return recorder.rows


def layer_field(network: nn.Module, x_1chw: Tensor, layer: str) -> ReceptiveField | None:
    """What one position of a module's output sees of the image; None where that cannot be told.

    Args:
        network: The network; it keeps its mode.
        x_1chw: One image (1, c, h, w) on the network's device.
        layer: Dotted path of a module that has an output tensor.
    """
    recorder, fields = _LayerRecorder(x_1chw), list[ReceptiveField | None]()
    with ExitStack() as stack:
        stack.enter_context(eval_mode(network))
        hook = network.get_submodule(layer).register_forward_hook(
            lambda module, args, out: fields.append(recorder.field_of(out))
        )
        stack.callback(hook.remove)
        stack.enter_context(OperationObserver(recorder.record))
        network(x_1chw)
    return fields[-1] if fields else None


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _tensors(values: Any) -> Iterator[Tensor]:
    """The tensors in the arguments or results of a module or an operation."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _tensors(value)
    elif isinstance(values, Mapping):
        yield from _tensors(list(values.values()))


def _shape(tensor: Tensor | None) -> Shape | None:
    return None if tensor is None else tuple(tensor.shape[1:])


@dataclass
class _RunningLayer:
    """A layer that is running."""

    windows: list[SlidingWindow] = field(default_factory=list)
    macs: int = 0


class _LayerRecorder:
    """Records every operation of a running network, and through hooks in which layer it happens."""

    def __init__(self, x: Tensor) -> None:
        self.rows: list[LayerRow] = []
        self._image: Pair = (x.shape[2], x.shape[3]) if x.ndim == 4 else (1, 1)
        self._receptive: Any = WeakIdKeyDictionary()
        if x.ndim == 4:
            self._receptive[x] = ReceptiveField((1, 1))
        self._paths: list[str] = [""]
        self._running: _RunningLayer | None = None
        self._counted: set[int] = set()

    # Hooks: which layer runs

    def attach(self, network: nn.Module) -> Iterator[Any]:
        """Hook every layer, and the modules around them; yields the handles that remove the hooks."""
        inside: set[str] = set()
        for path, module in network.named_modules():
            if any(path.startswith(f"{outer}.") or not outer for outer in inside):
                continue
            if isinstance(module, OPAQUE_LAYERS):
                inside.add(path)
            if isinstance(module, OPAQUE_LAYERS) or next(module.children(), None) is None:
                yield module.register_forward_pre_hook(self._enter_layer())
                yield module.register_forward_hook(self._leave_layer(path), with_kwargs=True)
            else:
                yield module.register_forward_pre_hook(self._enter(path))
                yield module.register_forward_hook(self._leave)

    def _enter(self, path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any) -> None:
            self._paths.append(path)
            if params := self._new_parameters(module, recurse=False):
                self.rows.append(LayerRow(path or "parameters", type(module).__name__, params=params))

        return hook

    def _leave(self, module: nn.Module, args: Any, out: Any) -> None:
        self._paths.pop()

    def _enter_layer(self) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any) -> None:
            self._running = _RunningLayer()

        return hook

    def _leave_layer(self, path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, kwargs: Any, out: Any) -> None:
            done, self._running = self._running or _RunningLayer(), None
            name = path or type(module).__name__.lower()
            params = self._new_parameters(module, recurse=True)
            self._add(name, type(module).__name__, (args, kwargs), out, done, params)

        return hook

    def _new_parameters(self, module: nn.Module, *, recurse: bool) -> int:
        """Number of the module's parameters that no row has counted yet."""
        new = {
            id(parameter): parameter.numel()
            for parameter in module.parameters(recurse)
            if id(parameter) not in self._counted
        }
        self._counted |= new.keys()
        return sum(new.values())

    def add_idle(self, network: nn.Module) -> None:
        """Rows for the parameters of modules that were not called."""
        for path, module in network.named_modules():
            if params := self._new_parameters(module, recurse=False):
                self.rows.append(LayerRow(path, type(module).__name__, params=params))

    # Operations: their costs and receptive fields

    def record(self, op: Any, args: Any, out: Any) -> None:
        """Record the cost of one operation in the layer that is running, or in a row of its own where none is."""
        macs = macs_of(op, args, out)
        self._record_receptive_field(op, args, out)
        window = window_of(op, args, out)
        pooled = window is not None and window.pool_ops > 0
        if self._running is not None:
            self._running.macs += macs
            self._running.windows += [window] if window is not None else []
        elif macs or pooled:
            name = str(op).removeprefix("aten.")
            name = _FUNCTIONS.get(name, name)
            done = _RunningLayer([window] if window is not None else [], macs)
            self._add(_joined(self._paths[-1], name), name, args, out, done, 0)

    def field_of(self, out: Any) -> ReceptiveField | None:
        """The receptive field of what a module returned."""
        tensor = next(_tensors(out), None)
        return self._receptive.get(tensor) if tensor is not None else None

    def _record_receptive_field(self, op: Any, args: Any, out: Any) -> None:
        seen = [(tensor, self._receptive[tensor]) for tensor in _tensors(args) if tensor in self._receptive]
        if seen:
            for tensor in _tensors(out):
                self._receptive[tensor] = receptive_field_after(op, args, seen, tensor, self._image)

    def _add(self, layer: str, kind: str, given: Any, out: Any, done: _RunningLayer, params: int) -> None:
        first, result = next(_tensors(given), None), next(_tensors(out), None)
        window = done.windows[0] if done.windows else None
        receptive = self._receptive.get(result) if result is not None else None
        self.rows.append(
            LayerRow(
                layer,
                kind,
                input=_shape(first),
                output=_shape(result),
                kernel=window.kernel if window else None,
                stride=window.stride if window else None,
                padding=window.padding if window else None,
                groups=window.groups if window else 1,
                memory_kb=0.0 if result is None else math.prod(result.shape[1:]) * BYTES / 1024,
                params=params,
                macs=done.macs,
                pool_ops=sum(window.pool_ops for window in done.windows),
                field=receptive.field if receptive is not None else None,
            )
        )
