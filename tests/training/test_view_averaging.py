"""Probabilities averaged over views of an image: mirrored, scaled, through windows."""

import itertools

import pytest
import torch
from torch import nn

from expflow.errors import UserError
from expflow.training.evaluation.augmented_views import AugmentedViews, parse_views
from expflow.training.evaluation.view_averaging import ViewAverage, window_starts


class PixelScores(nn.Module):
    """Scores at each pixel that follow from that pixel alone."""

    def forward(self, image_bchw):
        return torch.cat([image_bchw, -image_bchw, 2 * image_bchw], 1)


class LeftScores(nn.Module):
    """Scores of an image that depend on where things are."""

    def forward(self, image_bchw):
        left = image_bchw[..., : image_bchw.shape[-1] // 2].mean((1, 2, 3))
        return torch.stack([left, -left], 1)


@pytest.fixture
def image():
    return torch.randn(3, 1, 12, 20, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("views", [AugmentedViews(), AugmentedViews(flip=True), AugmentedViews(flip=True, window=7)])
def test_views_come_back_to_the_pixels_that_they_are_of(image, views):
    """A network that looks at one pixel gives the same, however the image is mirrored and cut into windows."""
    expected = PixelScores()(image).log_softmax(1)
    assert torch.allclose(ViewAverage(PixelScores(), views)(image), expected, atol=1e-5)


def test_scales_are_seen_at_their_size_and_averaged_at_the_image_s(image):
    sizes = []

    class Noting(PixelScores):
        def forward(self, image_bchw):
            sizes.append(tuple(image_bchw.shape[2:]))
            return super().forward(image_bchw)[:, :, ::2, ::2]  # half of the image's size, as many networks give

    given = ViewAverage(Noting(), AugmentedViews(scales=(0.5, 1, 1.5)))(image)
    assert sizes == [(6, 10), (12, 20), (18, 30)]
    assert given.shape == (3, 3, 12, 20)
    assert torch.allclose(given.exp().sum(1), torch.ones(3, 12, 20), atol=1e-5)


def test_the_probabilities_of_images_are_averaged_not_their_scores(image):
    network = LeftScores()
    both = (network(image).softmax(1) + network(image.flip(-1)).softmax(1)) / 2
    assert torch.allclose(ViewAverage(network, AugmentedViews(flip=True))(image).exp(), both, atol=1e-6)


def test_windows_of_images_are_averaged(image):
    network = LeftScores()
    columns = (0, 4, 8)
    windows = torch.stack([network(image[..., x : x + 12]).softmax(1) for x in columns]).mean(0)
    assert window_starts(20, 12) == list(columns)
    assert torch.allclose(ViewAverage(network, AugmentedViews(window=12))(image).exp(), windows, atol=1e-6)


@pytest.mark.parametrize(("length", "window"), [(12, 12), (13, 12), (20, 7), (100, 32), (5, 9)])
def test_windows_cover_a_side_and_overlap_by_half(length, window):
    starts = window_starts(length, window)
    assert starts[0] == 0
    assert starts[-1] == max(length - window, 0)
    assert all(0 < after - before <= (window + 1) // 2 for before, after in itertools.pairwise(starts))


def test_a_network_that_does_not_take_a_view_is_named_with_its_size(image):
    network = nn.Sequential(nn.Flatten(), nn.Linear(12 * 20, 3))
    assert ViewAverage(network, AugmentedViews(flip=True))(image).shape == (3, 3)
    with pytest.raises(UserError, match=r"--augment scales=0.5: the network does not take a view of 6x10 pixels"):
        ViewAverage(network, AugmentedViews(scales=(0.5,)))(image)


def test_words_are_views():
    assert parse_views([]) is None
    views = parse_views(["flip", "scales=0.75,1,1.25", "windows=64"])
    assert views == AugmentedViews(True, (0.75, 1.0, 1.25), 64)
    assert views.text == "flip scales=0.75,1,1.25 windows=64"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["mirror"], "--augment mirror: expected flip, scales="),
        (["flip=2"], "--augment flip=2: expected flip"),
        (["flip", "flip"], "flip is given twice"),
        (["scales"], "--augment scales=: expected up to 20 different factors"),
        (["scales=1,1"], "different factors"),
        (["scales=nan"], "factors"),
        (["scales=0.01"], "from 0.1 to 10"),
        (["windows=many"], "--augment windows=many: expected the height and width of a window in pixels"),
        (["windows=1"], "windows=1"),
    ],
)
def test_what_is_no_view_is_refused(words, message):
    with pytest.raises(UserError) as error:
        parse_views(words)
    assert message in str(error.value)
