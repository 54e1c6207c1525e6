"""What is said of operations is what torch says, their costs are torch's, and its compiler stays out of a count."""

import json
import subprocess
import sys

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from expflow.architectures import build
from expflow.architectures.accounting import example_inputs, multiply_adds
from expflow.architectures.catalogue import usual_data
from expflow.architectures.meta_shapes import META_SHAPES, call_operation
from expflow.registry import MODELS
from tests.architectures.test_contract import NAMES, SMALL, small, zeros

aten = torch.ops.aten


def described(out):
    """Sizes, types and strides of what an operation gave; a dimension of one value has no stride to speak of."""
    parts = out if isinstance(out, tuple | list) else (out,)
    return [
        (tuple(x.shape), x.dtype, x.device.type, [s for s, n in zip(x.stride(), x.shape, strict=True) if n > 1])
        for x in parts
        if isinstance(x, torch.Tensor)
    ]


class Compare(TorchDispatchMode):
    """Asks torch as well for each operation, and keeps what it said otherwise."""

    def __init__(self):
        super().__init__()
        self.different, self.said = [], set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        written = call_operation(func, args, kwargs)
        expected = func(*args, **kwargs)
        if func in META_SHAPES:
            self.said.add(func)
            if described(written) != described(expected):
                self.different.append((str(func), described(args), described(written), described(expected)))
        return expected


@pytest.mark.parametrize("name", NAMES)
def test_every_outcome_in_every_architecture_is_torchs(name):
    spec, data = small(name)
    with torch.device("meta"), Compare() as compare:
        network = build(spec, data).eval()
        with torch.no_grad():
            network(zeros(spec, data, 2))
    assert compare.different == []
    assert compare.said


@pytest.mark.parametrize("name", NAMES)
def test_the_multiply_adds_are_half_of_what_torch_counts(name):
    spec, data = small(name)
    with torch.device("meta"), torch.no_grad():
        network, x = build(spec, data).eval(), zeros(spec, data, 1)
        with FlopCounterMode(display=False) as theirs:
            network(x)
        ours = multiply_adds(network, x)
    assert theirs.get_total_flops() == 2 * ours > 0


class Rest(nn.Module):
    """What no architecture here has: a transposed convolution, an attention of torch's, products with a bias."""

    def __init__(self):
        super().__init__()
        self.up = nn.ConvTranspose2d(3, 8, 4, 2, 1, groups=1)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x_bchw):
        tokens = self.up(x_bchw).flatten(2).transpose(1, 2)
        attended = self.attention(tokens, tokens, tokens, need_weights=False)[0]
        return torch.baddbmm(attended, attended, attended.transpose(1, 2) @ attended)


@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_so_are_those_of_transposed_convolutions_and_attentions(device):
    with torch.device(device), torch.no_grad():
        network, x = Rest().eval(), torch.zeros(2, 3, 4, 6)
        with FlopCounterMode(display=False) as theirs:
            network(x)
        ours = multiply_adds(network, x)
    assert theirs.get_total_flops() == 2 * ours > 2 * 8 * 16 * 3 * 4 * 6


def layouts():
    """Tensors that elementwise operations may meet: of all orders in memory, repeated, cut out, of fewer dimensions."""
    x = torch.empty(2, 3, 4, 5, device="meta")
    return {
        "contiguous": x,
        "channels last": x.contiguous(memory_format=torch.channels_last),
        "turned": torch.empty(4, 2, 5, 3, device="meta").permute(1, 3, 0, 2),
        "cut out": torch.empty(2, 3, 4, 9, device="meta")[..., 2:7],
        "repeated": torch.empty(2, 1, 4, 5, device="meta").expand(2, 3, 4, 5),
        "scales": torch.empty(2, 3, 1, 1, device="meta"),
        "wide": torch.empty(3, 1, 5, device="meta"),
        "one a column": torch.empty(5, device="meta"),
        "one": torch.empty((), device="meta"),
        "half": torch.empty(2, 3, 4, 5, device="meta", dtype=torch.float16),
        "whole": torch.empty(2, 3, 4, 5, device="meta", dtype=torch.int64),
        "misfit": torch.empty(2, 3, 4, 4, device="meta"),
    }


@pytest.mark.parametrize("second", layouts())
@pytest.mark.parametrize("first", layouts())
def test_elementwise_results_are_laid_out_as_torch_does(first, second):
    operands = layouts()[first], layouts()[second]
    for op in (aten.add.Tensor, aten.mul_.Tensor, aten.div.Tensor, aten.copy_.default):
        try:
            expected = described(op(*operands))
        except RuntimeError as error:
            with pytest.raises(type(error)):
                call_operation(op, operands, {})
        else:
            assert described(call_operation(op, operands, {})) == expected


@pytest.mark.parametrize("layout", layouts())
def test_zeros_and_stacks_are_laid_out_as_torch_does(layout):
    x = layouts()[layout]
    assert described(call_operation(aten.zeros_like.default, (x,), {})) == described(aten.zeros_like.default(x))
    for dim in (0, x.ndim, -1):
        stack = aten.stack.default
        assert described(call_operation(stack, ([x, x], dim), {})) == described(stack([x, x], dim))


MISFITS = [
    (aten.mm.default, ((2, 3), (4, 5))),
    (aten.bmm.default, ((2, 3, 4), (3, 4, 5))),
    (aten.addmm.default, ((4,), (2, 3), (3, 5))),
]


@pytest.mark.parametrize(("op", "shapes"), MISFITS)
def test_what_does_not_fit_is_torchs_error(op, shapes):
    with pytest.raises(RuntimeError):
        call_operation(op, [torch.empty(shape, device="meta") for shape in shapes], {})


@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize("size", [6, 7, 8, 9, 10])
@pytest.mark.parametrize(("kernel", "stride", "padding"), [(2, 2, 0), (3, 2, 1), (3, 2, 0), (2, 3, 1), (3, 1, 1)])
def test_pools_round_as_torch_does(size, kernel, stride, padding, ceil):
    x = torch.empty(1, 2, size, size + 1, device="meta")
    window = ([kernel, kernel], [stride, stride], [padding, padding])
    for op, rest in ((aten.max_pool2d_with_indices.default, ([1, 1], ceil)), (aten.avg_pool2d.default, (ceil,))):
        assert described(call_operation(op, (x, *window, *rest), {})) == described(op(x, *window, *rest))


@pytest.mark.parametrize("padding", [(0, 1, 0, 1), (1, 2, 3, 0), (0, -1, 1, 0)])
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_padded_edges_are_as_large_as_torchs(padding, order):
    x = torch.empty(2, 3, 4, 5, device="meta").contiguous(memory_format=order)
    op = aten.replication_pad2d.default
    assert described(call_operation(op, (x, padding), {})) == described(op(x, padding))


@pytest.mark.parametrize("padding", [(0, 1, 0, 1), (1, 2, 3, 0), (4, 0, 0, 3)])
@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_reflected_edges_are_as_large_as_torchs(padding, order):
    x = torch.empty(2, 3, 4, 5, device="meta").contiguous(memory_format=order)
    op = aten.reflection_pad2d.default
    assert described(call_operation(op, (x, padding), {})) == described(op(x, padding))


def test_more_than_there_is_cannot_be_reflected():
    with pytest.raises(RuntimeError):
        call_operation(aten.reflection_pad2d.default, (torch.empty(2, 3, 4, 5, device="meta"), (5, 0, 0, 0)), {})


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("groups", [1, 3, 6])
@pytest.mark.parametrize("affine", [True, False])
def test_normed_groups_have_the_shapes_of_torchs(order, groups, affine):
    x = torch.empty(2, 6, 4, 5, device="meta").contiguous(memory_format=order)
    parts = (torch.empty(6, device="meta"),) * 2 if affine else (None, None)
    op, arguments = aten.native_group_norm.default, (x, *parts, 2, 6, 20, groups, 1e-5)
    assert described(call_operation(op, arguments, {})) == described(op(*arguments))


@pytest.mark.parametrize("places", [5, 6])
def test_scattered_values_have_the_shape_of_what_they_go_into(places):
    x, index, source = (torch.empty(2, 3, n, device="meta") for n in (9, 5, places))
    arguments = (x, 2, index.to(torch.int64), source)
    if places > 5:
        arguments = (torch.empty(2, 2, 9, device="meta"), *arguments[1:])  # more rows than there is room for
        with pytest.raises(RuntimeError):
            call_operation(aten.scatter.src, arguments, {})
    else:
        assert described(call_operation(aten.scatter.src, arguments, {})) == described(aten.scatter.src(*arguments))


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_resized_maps_are_as_large_as_torchs(order):
    x = torch.empty(2, 3, 4, 5, device="meta").contiguous(memory_format=order)
    op = aten.upsample_bilinear2d.default
    assert described(call_operation(op, (x, [7, 9], False), {})) == described(op(x, [7, 9], False))


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(("stride", "padding", "dilation", "rest"), [(2, 1, 1, 0), (3, 0, 2, 1), (1, 2, 1, 0)])
def test_transposed_convolutions_are_as_large_as_torchs(stride, padding, dilation, rest, groups):
    x, weight = torch.empty(2, 4, 5, 6, device="meta"), torch.empty(4, 3, 4, 2, device="meta")
    options = ([stride] * 2, [padding] * 2, [dilation] * 2, True, [rest] * 2, groups)
    op = aten.convolution.default
    assert described(call_operation(op, (x, weight, None, *options), {})) == described(op(x, weight, None, *options))


COUNTS = """
import sys
import torch
from expflow.architectures import count
from expflow.architectures.catalogue import image_data_spec, usual_data
from expflow.registry import MODELS

for name, keys in {of_tokens}.items():
    spec = MODELS.spec(name).model_validate_json(keys)
    count(spec, usual_data(spec))
    late = {{"torch._dynamo", "sympy", "torchvision"}} & sys.modules.keys()
    assert not late, (name, late)
for name, (keys, shape) in {cases}.items():
    count(MODELS.spec(name).model_validate_json(keys), image_data_spec(shape, 10))
    late = {{"torch._dynamo", "sympy", "torchvision"}} & sys.modules.keys()
    assert not late, (name, late)
"""


OF_TOKENS_SMALL = {
    "transformer": {"width": 8, "depth": 1, "heads": 2, "hidden": 8},
    "clip": {"backbone": "vit", "patch": 32, "depth": 1, "width": 8, "heads": 2, "text_depth": 1},
    "igpt": {"width": 8, "depth": 1, "heads": 2},
}
"""Networks that are called with tokens, and keys of small ones."""


@pytest.mark.parametrize("name", OF_TOKENS_SMALL)
def test_every_outcome_in_a_network_of_tokens_is_torchs(name):
    spec = MODELS.spec(name).model_validate_json(json.dumps({"name": name, **OF_TOKENS_SMALL[name]}))
    data = usual_data(spec)
    with torch.device("meta"), Compare() as compare:
        network = build(spec, data).eval()
        with torch.no_grad():
            network(*example_inputs(spec, data))
    assert compare.different == []
    assert compare.said


MASKS = [((2, 1, 1, 5), (5, 5)), ((3, 4), (3, 4)), ((4,), (2, 3, 1)), ((2, 3, 1), (4,)), ((1, 4), (3, 1))]


@pytest.mark.parametrize(("first", "second"), MASKS)
def test_masks_of_masks_are_as_large_as_torchs(first, second):
    both = [torch.empty(shape, dtype=torch.bool, device="meta") for shape in (first, second)]
    op = aten.bitwise_and.Tensor
    assert described(call_operation(op, both, {})) == described(op(*both))


def test_places_and_rows_have_the_shapes_of_torchs():
    x, index = torch.empty(2, 5, 3, device="meta"), torch.empty(2, 1, 3, dtype=torch.int64, device="meta")
    table, row = torch.empty(7, 4, device="meta"), torch.empty(3, device="meta")
    column = torch.empty(6, 1, device="meta")
    calls = [
        (aten.gather.default, (x, 1, index)),
        (aten.gather.default, (x, -2, index)),
        (aten.argmax.default, (index, 1)),
        (aten.argmax.default, (index, 1, True)),
        (aten.argmax.default, (index,)),
        (aten.embedding.default, (table, index)),
        (aten.linalg_vector_norm.default, (x, 2, [1], True)),
        (aten.linalg_vector_norm.default, (x, 2, [0, 2])),
        (aten.where.self, (x > 0, torch.empty((), device="meta"), torch.empty((), device="meta"))),
        (aten.where.self, (x > 0, x, torch.empty((), device="meta"))),
        (aten.tril.default, (x, 1)),
        (aten.ne.Scalar, (index, 0)),
        (aten.eq.Scalar, (x.transpose(0, 1), 0)),
        (aten.div.Tensor, (column, row)),
        (aten.div.Tensor, (row, column)),
        (aten.pow.Scalar, (3.0, row)),
        (aten.clamp_min.default, (x, 0.5)),
        (aten.stack.default, ([x, x], -1)),
    ]
    for op, args in calls:
        assert described(call_operation(op, args, {})) == described(op(*args)), (op, args)


HEADS_OF_TORCHVISION = {"faster_rcnn", "keypoint_rcnn", "mask_rcnn", "retinanet", "fcos", "ssd"}
"""Families that cannot do without that package."""


def test_counting_a_family_of_ours_imports_neither_torchs_compiler_nor_torchvision():
    ours = {name: keys_and_shape for name, keys_and_shape in SMALL.items() if name not in HEADS_OF_TORCHVISION}
    cases = {name: (json.dumps({"name": name, **keys}), shape) for name, (keys, shape) in ours.items()}
    written = {name: json.dumps({"name": name, **keys}) for name, keys in OF_TOKENS_SMALL.items()}
    done = subprocess.run(
        [sys.executable, "-c", COUNTS.format(cases=cases, of_tokens=written)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
