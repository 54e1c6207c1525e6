"""Losses of content and style against values worked out by hand, and what a dream climbs."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from expflow.data.dataspec import DataSpec, FieldSpec
from expflow.errors import UserError
from expflow.registry import TASKS
from expflow.tasks.dream_scores import class_odds, layer_energy
from expflow.tasks.layer_features import LayerFeatures
from expflow.tasks.style_losses import StyleLosses, content_distance, gram, style_distance

SPEC = DataSpec({"image": FieldSpec((1, 1, 2), "uint8")}, ("a", "b"), mean=(0.5,), std=(0.25,))


class TwoLayers(nn.Module):
    """Maps of an image: itself and twice itself; then their negative values, in place, and scores."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.behind = nn.Conv2d(1, 2, 1, bias=False), nn.ReLU(inplace=True), nn.Identity()
        self.first.weight.data = torch.tensor([1.0, 2.0]).view(2, 1, 1, 1)
        self.calls = 0
        self.behind.register_forward_hook(lambda *arguments: setattr(self, "calls", self.calls + 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.behind(self.second(self.first(x))).mean((2, 3))


def features() -> LayerFeatures:
    return LayerFeatures(TwoLayers(), SPEC, "net")


def test_gram_matrices_and_distances_by_hand() -> None:
    maps = torch.tensor([[[[1.0, 2.0]], [[3.0, 4.0]]]])
    assert gram(maps).tolist() == [[[5 / 4, 11 / 4], [11 / 4, 25 / 4]]]
    assert content_distance(maps, maps - torch.tensor([[[[1.0, 0.0]], [[0.0, 3.0]]]])).tolist() == [10 / 4]
    one, other = torch.eye(2)[None], torch.zeros(3, 1, 1)
    style = style_distance([one, torch.full((1, 1, 1), 2.0)], [torch.tensor([[0.0, 1.0], [0.0, 1.0]]), other[0]])
    assert style.tolist() == [2 + 4]


def test_layers_give_what_they_gave_before_an_activation_changed_it_in_place() -> None:
    looking = features()
    image = torch.tensor([[[[0.25, 1.0]]]], requires_grad=True)  # normalised: -1 and 2
    second, first = looking.of(image, ["second", "first"])
    assert first.tolist() == [[[[-1, 2]], [[-2, 4]]]]
    assert second.tolist() == [[[[0, 2]], [[0, 4]]]]
    assert looking._network.calls == 0, "what lies behind is not computed"
    (gradient,) = torch.autograd.grad(first.sum(), image)
    assert gradient.tolist() == [[[[12, 12]]]]  # (1 + 2) / 0.25
    assert looking.scores(image).tolist() == [[1, 2]]


def test_the_loss_is_the_weighted_sum_and_its_parts() -> None:
    spec = TASKS.spec("style_transfer")(
        name="style_transfer",
        features="x/best",
        style="a",
        content_layer="first",
        style_layers=("first", "second"),
        content_weight=3.0,
        style_weight=5.0,
        smoothness=7.0,
    )
    losses, looking = StyleLosses(spec), features()
    pictures = torch.tensor([[[[0, 255]] * 2], [[[255, 255]] * 2]], dtype=torch.uint8).view(2, 1, 2, 2)
    targets = losses.style_targets(looking, pictures)
    # a row of normalised pixels is -2, 2 or 2, 2: products of 8, 16, 16 and 32 over 4 values in both; behind the ReLU
    # half of that for the first picture
    assert targets[0].tolist() == [[2, 4], [4, 8]]
    assert targets[1].tolist() == [[1.5, 3], [3, 6]]
    content = losses.content_target(looking, pictures[:1])
    loss, of_content, of_style = losses.of(looking, torch.tensor([[[[0.5, 0.75]] * 2]]), content, targets)  # 0 and 1
    assert of_content.item() == (4 + 1 + 16 + 4) / 4
    grams = torch.tensor([[1.0, 2.0], [2.0, 4.0]]) / 4
    style = sum((grams - target).square().sum() for target in targets)
    assert of_style.item() == pytest.approx(float(style))
    assert loss.item() == pytest.approx(3 * of_content.item() + 5 * float(style) + 7 * 0.25**2)


def test_log_odds_and_energies_by_hand() -> None:
    climbed, shown = class_odds(torch.tensor([[1.0, 2.0, 4.0]]), 3, 2)
    assert climbed.item() == pytest.approx(4 - math.log(math.e + math.e**2))
    assert shown.item() == pytest.approx(1 / (1 + math.exp(-climbed.item())))
    assert layer_energy(torch.tensor([[1.0, -3.0], [0.0, 2.0]]), "x").tolist() == [5, 2]
    with pytest.raises(UserError, match="the network gives no score for each class; dream of a layer instead"):
        class_odds(torch.zeros(2, 4), 3, 0)
    with pytest.raises(UserError, match="stem gives list, not a tensor of numbers"):
        layer_energy([1], "stem")


def test_layers_that_are_not_there_or_give_no_maps_are_refused_by_the_key() -> None:
    looking = features()
    looking.check((1, 1, 2), {"style_layers": ["first", "second"]}, dims=4)
    with pytest.raises(UserError, match=r"task.style_layers: net: the network has no layer 'frist'; nearest: first"):
        looking.check((1, 1, 2), {"style_layers": ["frist"]}, dims=4)
    with pytest.raises(UserError, match=r"task.features: net takes images of 1 channels, and these have 3"):
        looking.check((3, 1, 2), {"style_layers": ["first"]}, dims=4)
