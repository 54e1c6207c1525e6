"""Figures of what networks cost."""

import pytest

from expflow.architectures.layer_table import LayerRow, LayerTable
from expflow.report.cost_figures import Bubble, accuracy_by_cost, layer_bars


def net(layers):
    rows = [
        LayerRow(f"conv{n}", "Conv2d", output=(4, 8, 8), memory_kb=1.0, params=100 * n, macs=10**6 * n)
        for n in range(layers)
    ]
    return LayerTable("some_$net", (3, 8, 8), tuple(rows))


@pytest.mark.parametrize("layers", [1, 11, 90])
def test_bars_for_any_number_of_layers(layers):
    drawing = layer_bars(net(layers))
    assert drawing.png[:4] == b"\x89PNG"
    assert "some_$net layer by layer, one image of 3x8x8" in drawing.alt


@pytest.mark.parametrize("macs", [(10**9, 2 * 10**9), (10**6, 10**10), (0, 10**9)])
def test_bubbles_say_what_they_show(macs):
    bubbles = [Bubble("small", macs[0], 10, 0.5), Bubble("large", macs[1], 1000, 0.75)]
    drawing = accuracy_by_cost(bubbles)
    assert drawing.alt.endswith("small 50.0, large 75.0.")
    assert drawing.caption == "Area: parameters; of all large has the most, 1,000."


def test_every_data_set_has_a_panel_of_its_own():
    bubbles = [Bubble("net", 10**9, 10**6, 0.7), Bubble("net,depth=8", 10**4, 10, 0.99, "digits val")]
    svg = accuracy_by_cost(bubbles).svg.decode()
    assert "<!-- top-1 % on ImageNet -->" in svg
    assert "<!-- top-1 % on digits val -->" in svg


def test_names_are_without_the_keys_that_they_share():
    names = ["mlp,depth=1,hidden=8", "mlp,depth=2,hidden=8", "vit,depth=2"]
    svg = accuracy_by_cost([Bubble(name, 10 + at, 5, 0.5) for at, name in enumerate(names)]).svg.decode()
    assert all(f"<!-- {shown} -->" in svg for shown in ("mlp,depth=1", "mlp,depth=2", "vit,depth=2"))


def test_bars_leave_out_norms_unless_they_are_many_parameters():
    conv = LayerRow("conv", "Conv2d", output=(4, 8, 8), memory_kb=1.0, params=1000, macs=10)
    norm, table = LayerRow("norm", "BatchNorm2d", params=4), LayerRow("positions", "ViT", params=500)
    svg = layer_bars(LayerTable("net", (3, 8, 8), (conv, norm, table)), "net,depth=1").svg.decode()
    assert all(f"<!-- {shown} -->" in svg for shown in ("conv", "positions"))
    assert "<!-- norm -->" not in svg
    assert "net,depth=1 layer by layer" in svg
