"""Children of an architecture search: their texts, what they compute, and published networks written as children."""

import random

import pytest
import torch
from pydantic import ValidationError

from expflow.architectures import build, count
from expflow.architectures.accounting import count_parameters
from expflow.architectures.layer_table import layer_table
from expflow.architectures.specs.child import ChildSpec
from expflow.architectures.specs.child_cells import canonical_cell, parse_cell
from expflow.architectures.specs.child_layers import canonical_layers, configuration_string, parse_layers
from expflow.architectures.specs.lenet5 import LeNet5Spec
from expflow.config.child_space import OPERATIONS
from expflow.errors import UserError
from tests.architectures.nets import data

DARTS_NORMAL = (
    "sep_conv_3x3(0) + sep_conv_3x3(1), sep_conv_3x3(0) + sep_conv_3x3(1), sep_conv_3x3(1) + skip_connect(0), "
    "skip_connect(0) + dil_conv_3x3(2) > 2 3 4 5"
)
DARTS_REDUCTION = (
    "max_pool_3x3(0) + max_pool_3x3(1), skip_connect(2) + max_pool_3x3(1), max_pool_3x3(0) + skip_connect(2), "
    "skip_connect(2) + max_pool_3x3(1) > 2 3 4 5"
)
NASNET_NORMAL = (
    "sep_conv_5x5(1) + sep_conv_3x3(0), sep_conv_5x5(0) + sep_conv_3x3(0), avg_pool_3x3(1) + skip_connect(0), "
    "avg_pool_3x3(0) + avg_pool_3x3(0), sep_conv_3x3(1) + skip_connect(1) > 0 2 3 4 5 6"
)
NASNET_REDUCTION = (
    "sep_conv_5x5(1) + sep_conv_7x7(0), max_pool_3x3(1) + sep_conv_7x7(0), avg_pool_3x3(1) + sep_conv_5x5(0), "
    "skip_connect(3) + avg_pool_3x3(2), sep_conv_3x3(2) + max_pool_3x3(1) > 4 5 6"
)


def child(**arguments):
    return ChildSpec(name="child", **arguments)


def test_the_published_darts_cell_has_the_parameters_of_its_authors_network():
    """DARTS V2 for CIFAR-10: 20 cells, 36 channels; 3.3 M in the paper's table 1. Without the auxiliary head."""
    counted = count(child(normal=DARTS_NORMAL, reduction=DARTS_REDUCTION, cells=20, width=36), data())
    assert counted.params == 3_349_342


def test_nasnet_a_has_the_parameters_of_its_papers_table():
    """NASNet-A (6 @ 768): 20 cells of 32 channels, of which the last has 6 * 128; 3.3 M in table 1."""
    spec = child(normal=NASNET_NORMAL, reduction=NASNET_REDUCTION, cells=20, width=32)
    assert count(spec, data()).params == pytest.approx(3.3e6, abs=0.05e6)
    with torch.device("meta"):
        assert build(spec, data()).head.in_features == 768


def test_lenet5s_convolutions_as_a_child_count_what_lenet5s_do():
    spec = child(
        layers="5x5 s2 n6, 5x5 s2 n16, 5x5 s1 n120",
        padding="valid",
        norm="none",
        downsample="average",
        activation="tanh",
    )

    def convolutions(network):
        rows = layer_table(network, data(1)).rows
        return [(row.params, row.macs) for row in rows if row.type == "Conv2d"]

    ours = convolutions(spec)
    assert ours == convolutions(LeNet5Spec(name="lenet5")) == [(156, 117_600), (2416, 240_000), (48_120, 48_000)]


def test_a_layer_in_the_words_of_the_lecture():
    (layer,) = parse_layers("3x5 n24")
    assert configuration_string(layer) == ["Filter height: 3", "Filter width: 5", "Stride: 1", "Num filters: 24"]


def test_two_descriptions_of_a_layer_child_are_one_text():
    numbered = {
        "count": 2,
        "1": {"height": 3, "width": 5, "filters": 8},
        "2": {"height": 1, "width": 1, "stride": 2, "filters": 4},
        "3": {"height": 3, "width": 3, "filters": 4},
    }
    wanted = "3x5 s1 n8, 1x1 s2 n4"
    assert canonical_layers(numbered) == canonical_layers(["3x5 n8", "1x1 s2 n4 +1"]) == wanted
    assert (
        canonical_layers("1x1 n1, 1x1 n1, 1x1 n1 , 1x1 n1 +2+1+1") == "1x1 s1 n1, 1x1 s1 n1, 1x1 s1 n1, 1x1 s1 n1 +1 +2"
    )


def test_a_cells_text_does_not_depend_on_the_order_of_its_nodes_and_edges():
    generator = random.Random(0)
    for _ in range(60):
        nodes = [
            tuple((generator.choice(OPERATIONS[:3]), generator.randrange(number)) for _ in range(2))
            for number in range(2, 7)
        ]
        order = shuffled_order(nodes, generator)
        new = {0: 0, 1: 1} | {number: place for place, number in enumerate(order, start=2)}
        moved = [
            tuple((operation, new[source]) for operation, source in reversed(nodes[number - 2])) for number in order
        ]
        assert canonical_cell(text_of(nodes)) == canonical_cell(text_of(moved))


def shuffled_order(nodes, generator):
    """The nodes' numbers in another order in which each still comes after those that it reads."""
    order, waiting = [], list(range(2, 2 + len(nodes)))
    while waiting:
        able = [n for n in waiting if all(source < 2 or source in order for _, source in nodes[n - 2])]
        order.append(generator.choice(able))
        waiting.remove(order[-1])
    return order


def text_of(nodes):
    return ", ".join(" + ".join(f"{operation}({source})" for operation, source in node) for node in nodes)


def test_nodes_that_reach_no_output_are_no_part_of_a_cell():
    node = {"in1": 0, "op1": "conv_1x1", "in2": 1, "op2": "skip_connect"}
    alone = canonical_cell({"2": node})
    dead = {"in1": 2, "op1": "sep_conv_3x3", "in2": 0, "op2": "sep_conv_3x3"}
    assert canonical_cell({"outputs": "last", "2": dead | {"in1": 1}, "3": node}) == alone
    assert alone == "conv_1x1(0) + skip_connect(1) > 2"
    assert canonical_cell({"outputs": "all", "2": node, "3": node}).endswith("> 2 3")


def test_a_canonical_text_stays_as_it_is():
    for text in (DARTS_NORMAL, DARTS_REDUCTION, NASNET_NORMAL, NASNET_REDUCTION):
        assert canonical_cell(canonical_cell(text)) == canonical_cell(text)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_operation_halves_odd_and_even_sizes_alike(operation):
    spec = child(normal=f"{operation}(0) + {operation}(1), skip_connect(2) + {operation}(0)", cells=3, width=4)
    network = build(spec, data(1, 7, 3, width=8)).eval()
    assert network(torch.randn(2, 1, 7, 8)).shape == (2, 3)
    assert network.features(torch.randn(2, 1, 7, 8)).shape[2:] == (2, 2)


def test_cells_that_lead_to_nothing_are_left_out():
    """Each cell reads only the one before the last: every second cell is the whole network."""
    spec = child(normal="conv_3x3(0) + conv_1x1(0)", cells=5, width=4)
    network = build(spec, data(1, 8, 3))
    network(torch.randn(4, 1, 8, 8)).sum().backward()
    assert list(network.features.cells) == ["0", "2", "4"]
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_skip_connections_concatenate_and_pad_what_is_smaller():
    spec = child(layers="3x3 s2 n4, 1x1 s2 n5, 3x1 s1 n6 +1", norm="none", activation="relu")
    network = build(spec, data(1, 8, 3))
    third = network.features.layers[2]
    seen = []
    third.register_forward_pre_hook(lambda module, arguments: seen.append(arguments[0]))
    x_bchw = torch.randn(2, 1, 8, 8)
    network(x_bchw)
    first = network.features.layers[0](x_bchw)
    second = network.features.layers[1](first)
    assert third.conv.in_channels == 9
    assert torch.equal(seen[0][:, 5:], first)
    assert torch.equal(seen[0][:, :5, :2, :2], second)
    assert not seen[0][:, :5, 2:].any()
    assert count(spec, data(1, 8, 3)).params == count_parameters(network)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layers": "3 x 3 n4"}, "is no layer; expected HEIGHTxWIDTH"),
        ({"layers": "3x3 n4, 3x3 n4 +2"}, "layer 2 is not before it"),
        ({"layers": "2x3 n4"}, "padding `same` needs odd sides"),
        ({"layers": {"1": {"height": 3, "width": 3, "filters": 4}, "3": {}}}, "layers numbered from 1"),
        ({"layers": {"1": {"height": 3, "depth": 3}}}, "unknown key 'depth' of a layer"),
        ({"normal": "sep_conv_3x3(0)"}, "is no node; expected two operations"),
        ({"normal": "sep_conv_3x4(0) + conv_1x1(1)"}, "no operation 'sep_conv_3x4'; nearest: sep_conv_3x3"),
        ({"normal": "conv_1x1(0) + conv_1x1(2)"}, "node 2 reads node 2, which is not before it"),
        ({"normal": "conv_1x1(0) + conv_1x1(1) > 5"}, "the output 5 is no node"),
        ({"normal": "conv_1x1(0) + conv_1x1(1) > 0"}, "reads none of its nodes"),
        ({"reduction": "conv_1x1(0) + conv_1x1(1)"}, "needs a normal one"),
        ({"normal": "conv_1x1(0) + conv_1x1(1)", "layers": "3x3 n4"}, "not both"),
    ],
)
def test_what_describes_no_child_is_refused(arguments, message):
    with pytest.raises(ValidationError, match=message.replace("(", r"\(").replace(")", r"\)")):
        child(**arguments)


def test_a_child_that_leaves_nothing_of_the_image_names_the_layer():
    with pytest.raises(UserError, match=r"layer 2 .5x5 s1 n4. leaves nothing of the 2x2 pixels"):
        build(child(layers="5x5 s2 n4, 5x5 s1 n4", padding="valid"), data(1, 8, 3))


def test_parse_keeps_the_nodes_and_outputs_of_a_cell():
    cell = parse_cell(DARTS_NORMAL)
    assert (len(cell.nodes), cell.outputs) == (4, (2, 3, 4, 5))
