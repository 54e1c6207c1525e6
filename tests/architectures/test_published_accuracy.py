"""Published accuracy is found by what a network costs."""

import pytest
import torchvision

from expflow.architectures.published_accuracy import accuracy_by_cost, accuracy_by_name, published_accuracies


def test_a_network_is_known_by_its_parameters_and_multiply_adds():
    published = accuracy_by_cost(25_557_032, 4_089_184_256)
    assert published.weights == "ResNet50_Weights.IMAGENET1K_V2"  # the recommended ones, not the older
    assert published.top1 == 0.80858
    assert accuracy_by_cost(138_357_544, 15_470_264_320).top1 == 0.71592


def test_the_stride_in_another_place_is_another_network():
    assert accuracy_by_cost(25_557_032, 3_858_000_000) is None


def test_an_unknown_network_has_no_accuracy():
    assert accuracy_by_cost(62_378_344, 1_135_256_096) is None
    assert accuracy_by_cost(25_557_032, None) is None


def test_every_accuracy_is_a_share():
    assert len(published_accuracies()) > 80
    assert all(0.4 < published.top1 < 0.95 and published.gmacs > 0 for published in published_accuracies())


def test_a_network_of_torchvisions_is_known_by_its_name_whatever_heads_it_was_trained_with():
    published = accuracy_by_name("inception_v3")
    assert (published.params, published.top1) == (
        27_161_264,
        0.77294,
    )  # with the auxiliary classifier, which is off by default
    assert accuracy_by_name("lenet5") is None


@pytest.mark.parametrize(("weights", "error"), [("ResNet18", 10.92), ("ResNet34", 8.58), ("VGG16", 9.62)])
def test_the_lectures_top5_errors_are_torchvisions(weights, error):
    meta = getattr(torchvision.models, f"{weights}_Weights").IMAGENET1K_V1.meta
    assert 100 - meta["_metrics"]["ImageNet-1K"]["acc@5"] == pytest.approx(error, abs=0.005)
