"""Image GPT: its published sizes, its order, what it draws, and the palette that its pixels are named by."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from expflow.architectures import build, count
from expflow.architectures.catalogue import usual_data
from expflow.architectures.igpt import IGPT, Past
from expflow.data.dataspec import DataSpec
from expflow.data.prepare.build import build as build_data
from expflow.data.prepare.palette import palette_of
from expflow.data.prepare.prepared import data_key
from expflow.errors import UserError
from expflow.registry import MODELS, SOURCES
from expflow.tasks import build_task
from expflow.tasks.igpt import ImageGPT
from tests.architectures.nets import data
from tests.tasks.test_task_contract import PALETTED, labelled_images, recipe_of


def spec_of(**keys: Any) -> Any:
    return MODELS.spec("igpt")(name="igpt", **keys)


def small(seed: int = 0) -> IGPT:
    torch.manual_seed(seed)
    network = build(spec_of(depth=2, width=8, heads=2), PALETTED)
    assert isinstance(network, IGPT)
    return network.eval()


@pytest.mark.parametrize(
    ("keys", "params"),
    [
        ({}, 76_682_240),
        ({"depth": 36, "width": 1024}, 455_489_536),
        ({"depth": 48, "width": 1536, "heads": 16}, 1_362_914_304),
    ],
)
def test_the_papers_networks_have_their_published_sizes(keys: dict[str, int], params: int) -> None:
    spec = spec_of(**keys)
    assert count(spec, usual_data(spec)).params == params


def test_a_pixel_is_named_from_those_before_it_alone() -> None:
    network, colours = small(), torch.tensor([[3, 0, 1, 2, 1, 0]])
    with torch.no_grad():
        scores = network(colours)
        later = colours.clone()
        later[0, 4] = 2
        again = network(later)
    assert torch.allclose(scores[:, :4], again[:, :4], atol=1e-6)
    assert not torch.allclose(scores[:, 4:], again[:, 4:], atol=1e-4)


def test_drawing_pixel_by_pixel_sees_what_the_whole_network_sees() -> None:
    network, colours, pasts = small(), torch.tensor([[3, 0, 1, 2, 1], [3, 2, 2, 0, 1]]), list[Past]()
    with torch.no_grad():
        whole = network(colours)
        for place in range(colours.shape[1]):
            scores = network.next_scores(colours[:, place], place, pasts)
            assert torch.allclose(scores, whole[:, place], atol=1e-5)


def task_of() -> ImageGPT:
    torch.manual_seed(0)
    task = build_task(recipe_of("igpt"), PALETTED)
    assert isinstance(task, ImageGPT)
    return task.eval()


def test_known_pixels_stay_and_the_others_follow_the_scores() -> None:
    task = task_of()
    nn.init.zeros_(task.model.head.weight)
    known = torch.full((200, 16), -1)
    known[:, :8] = torch.arange(8) % 3
    with torch.no_grad():
        drawn = task.drawn(known, torch.Generator().manual_seed(0))
        again = task.drawn(known, torch.Generator().manual_seed(0))
    assert torch.equal(drawn, again)
    assert torch.equal(drawn[:, :8], known[:, :8])
    shares = torch.bincount(drawn[:, 8:].flatten(), minlength=3) / drawn[:, 8:].numel()
    assert torch.allclose(shares, torch.full((3,), 1 / 3), atol=0.05)


def test_a_network_that_knows_nothing_needs_the_bits_of_one_colour_of_three() -> None:
    task, batch = task_of(), labelled_images()
    nn.init.zeros_(task.model.head.weight)
    pixels = torch.tensor([[[[0, 40], [60, 250]]]], dtype=torch.uint8)
    assert torch.equal(task.colours(pixels), torch.tensor([[0, 0, 1, 2]]))
    loss, samples = task.training_loss(batch)
    assert samples == 3
    assert loss.item() == pytest.approx(math.log(3))
    assert task.measured(torch.tensor([3.0, loss.item()]) * torch.tensor([1.0, 3.0]))["bits_per_dim"].item() == (
        pytest.approx(math.log2(3))
    )


def test_a_palette_is_that_of_the_images_and_belongs_to_the_datas_key(tmp_path: Path) -> None:
    few = np.array([[[0, 0], [10, 200]]], np.uint8)
    assert palette_of([few], 8) == ((0,), (10,), (200,))
    colours = np.array([[[250, 246, 4, 6]], [[5, 5, 20, 20]], [[0, 2, 90, 90]]], np.uint8)  # two reds, two blues
    assert palette_of([colours], 2) == ((5, 20, 90), (248, 5, 1))
    spec = SOURCES.spec("digits")(name="digits", palette=4)
    prepared = build_data(spec, cache=tmp_path)
    palette = prepared.spec.fields["image"].palette
    assert len(palette) == 4
    assert palette == tuple(sorted(palette))
    assert DataSpec.from_json(prepared.spec.to_json()) == prepared.spec
    without = SOURCES.spec("digits")(name="digits")
    assert data_key(spec) != data_key(without)
    assert "palette" not in without.description()


def test_images_without_a_palette_are_refused() -> None:
    with pytest.raises(UserError, match=r"write data\.palette, such as 16"):
        build(spec_of(depth=1, width=4, heads=2), data(1, 4, 7))
