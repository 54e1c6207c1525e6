"""Figures of what a network sees, and of what is found inside it."""

import numpy as np
import pytest

from expflow.architectures.layer_table import LayerRow, LayerTable
from expflow.errors import UserError
from expflow.report.inside_figures import attention_figure, dream_figure, patches_figure, slug
from expflow.report.receptive_figure import receptive_figure
from expflow.training.evaluation.attention_maps import AttentionMaps
from expflow.training.evaluation.dreams import Dreams
from expflow.training.evaluation.top_patches import Patch, TopPatches


def net(*fields):
    rows = [LayerRow(f"conv{n}", "Conv2d", output=(4, 8, 8), macs=9, field=field) for n, field in enumerate(fields)]
    return LayerTable("some_$net", (3, 32, 32), tuple(rows))


def test_growth_is_drawn_and_said():
    drawing = receptive_figure(net((3, 3), (5, 5), (40, 40)))
    assert "conv2 sees 40x40 pixels; from conv2 on an output sees as much as the whole image." in drawing.caption
    assert "some_$net" in drawing.alt
    many = receptive_figure(net(*((n, n) for n in range(1, 90))))
    assert many.png[:4] == b"\x89PNG"


def test_layers_that_mix_positions_are_counted():
    drawing = receptive_figure(net((4, 4), None, None))
    assert "conv1 and 1 more mix all positions" in drawing.caption
    assert "then 2 layers that mix all positions" in drawing.svg.decode()
    with pytest.raises(UserError, match="no layer whose receptive field can be told"):
        receptive_figure(net(None))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("rule", "name"), [(None, "top-patches"), ("guided", "invert"), ("deconvnet", "deconvnet")])
def test_patches_of_any_number(channels, rule, name):
    picture = np.full((5, 7, channels), 200, np.uint8)
    patch = Patch(1.5, picture, np.ones((5, 7, channels)) if rule else None)
    top = TopPatches("layer1.conv", (5, 7), False, 30, 100, ((patch,) * 9, (), (patch,) * 2), rule)
    drawing = patches_figure(top, "net, $1$")
    assert drawing.name == f"{name}-layer1.conv"
    assert "of 5x7 pixels" in drawing.caption
    assert "the first 3 of 30 maps" in drawing.caption
    assert "map 1: never above 0" in drawing.svg.decode()


def test_dreams_say_what_rose():
    picture = np.zeros((4, 4, 1), np.uint8)
    drawing = dream_figure(Dreams("T-shirt/top", True, (picture,) * 2, (picture,) * 2, ((0.1, 0.9), (0.2, 1.0))), "net")
    assert drawing.name == "dream-T-shirt-top"
    assert all(f"<!-- {text} -->" in drawing.svg.decode() for text in ("10.0%", "90.0%", "100.0%"))


def test_many_layers_and_heads_are_a_choice_of_them():
    pictures = (np.zeros((8, 8, 3), np.uint8),) * 2
    maps = AttentionMaps(pictures, np.ones((2, 24, 4, 4)), np.ones((2, 16, 4, 4)), np.ones((2, 4, 4)), True)
    drawing = attention_figure(maps, "net")
    text = drawing.svg.decode()
    assert "the first 8 of 16" in drawing.caption
    assert all(f"<!-- {shown} -->" in text for shown in ("layer 1", "layer 24", "all layers", "head 8"))
    assert "<!-- head 9 -->" not in text


def test_names_become_parts_of_file_names():
    assert [slug(name) for name in ("layer1.0", "ankle boot", "../etc", "…")] == [
        "layer1.0",
        "ankle-boot",
        "etc",
        "unnamed",
    ]
