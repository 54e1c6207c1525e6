"""Figures of what networks cost."""

import pytest

from expflow.architectures.table import Row, Table
from expflow.report.complexity import Bubble, accuracy_by_cost, layer_bars


def net(layers):
    rows = [
        Row(f"conv{n}", "Conv2d", output=(4, 8, 8), memory_kb=1.0, params=100 * n, macs=10**6 * n)
        for n in range(layers)
    ]
    return Table("some_$net", (3, 8, 8), tuple(rows))


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
    assert "1,000" in drawing.caption
