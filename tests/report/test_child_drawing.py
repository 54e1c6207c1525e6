"""Children of architecture searches as drawings."""

from xml.etree import ElementTree

import pytest

from expflow.report.child_drawing import cells_svg, draw_child, layers_svg

SVG = "{http://www.w3.org/2000/svg}"


def texts(svg):
    return [node.text for node in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def test_layers_are_boxes_in_a_row_with_an_arc_for_each_skip():
    svg = layers_svg("3x5 s1 n24, 5x3 s2 n36, 3x3 s1 n8 +1")
    assert texts(svg) == ["image", "3x5 s1 n24", "5x3 s2 n36", "3x3 s1 n8", "scores"]
    assert len(list(ElementTree.fromstring(svg).iter(f"{SVG}path"))) == 4 + 1 + 1


def test_cells_are_graphs_whose_arrows_name_operations():
    svg = cells_svg({"normal": "sep_conv_3x3(0) + skip_connect(1), max_pool_3x3(2) + conv_1x1(1) > 2 3"})
    for name in ("sep_conv_3x3", "skip_connect", "max_pool_3x3", "conv_1x1", "normal cell", "output", "node 3"):
        assert name in texts(svg)


def test_everything_lies_within_the_drawing():
    root = ElementTree.fromstring(layers_svg("1x1 s1 n4, 1x1 s1 n4, 1x1 s1 n4, 1x1 s1 n4 +1 +2"))
    width, height = (float(root.get(side)) for side in ("width", "height"))
    for box in root.iter(f"{SVG}rect"):
        x, y = (float(box.get(side, 0)) for side in ("x", "y"))
        assert 0 <= x <= width
        assert 0 <= y <= height


@pytest.mark.parametrize("model", [{"name": "mlp"}, {}])
def test_other_networks_have_no_drawing(model):
    assert draw_child(model, "x") is None
