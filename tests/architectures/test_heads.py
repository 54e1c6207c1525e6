"""Which part of a network is its head, whoever wrote the network; and weights that were saved under other names."""

import re

import pytest
import timm
import torch
import torchvision
from torch import nn

from expflow.architectures.heads import check_paths, heads_of, path_selector
from expflow.errors import UserError
from expflow.training.transfer.weight_loading import fitting_weights


def network(name: str, classes: int = 7, **arguments) -> nn.Module:
    package, _, short = name.partition("/")
    with torch.device("meta"):
        if package == "timm":
            return timm.create_model(short, num_classes=classes, **arguments)
        return torchvision.models.get_model(short, weights=None, num_classes=classes, **arguments)


HEADS = {
    "torchvision/resnet18": ("fc",),
    "torchvision/vgg11": ("classifier.6",),
    "torchvision/squeezenet1_1": ("classifier.1",),
    "torchvision/vit_b_16": ("heads.head",),
    "torchvision/convnext_tiny": ("classifier.2",),
    "timm/resnet18": ("fc",),
    "timm/vit_tiny_patch16_224": ("head",),
    "timm/convnext_atto": ("head.fc",),
    "timm/deit_tiny_distilled_patch16_224": ("head", "head_dist"),
}


@pytest.mark.parametrize("name", HEADS)
def test_the_head_is_what_gives_scores(name):
    net = network(name)
    assert heads_of(net) == HEADS[name]
    for path in HEADS[name]:
        head = net.get_submodule(path)
        assert getattr(head, "out_features", None) == 7 or head.out_channels == 7


@pytest.mark.parametrize("name", HEADS)
def test_weights_for_other_classes_fit_all_but_the_head(name):
    net, weights = network(name), network(name, 11).state_dict()
    taken = fitting_weights(net, weights, head="new", origin="x")
    left = net.state_dict().keys() - taken.keys()
    assert left
    assert all(any(key.startswith(f"{head}.") for head in HEADS[name]) for key in left)


def test_auxiliary_classifiers_are_heads_and_may_be_absent():
    with_them = network("torchvision/googlenet", aux_logits=True, init_weights=False)
    without = network("torchvision/googlenet", aux_logits=False, init_weights=False)
    assert heads_of(with_them) == ("fc", "aux1", "aux2")
    assert heads_of(without) == ("fc",)
    taken = fitting_weights(without, with_them.state_dict(), head="keep", origin="x")
    assert taken.keys() == without.state_dict().keys()


def test_the_published_names_of_densenet_are_understood():
    net = network("torchvision/densenet121")
    published = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))([12]\.)", r"\1.\2", name): tensor
        for name, tensor in net.state_dict().items()
    }
    assert published.keys() != net.state_dict().keys()
    assert fitting_weights(net, published, head="keep", origin="x").keys() == net.state_dict().keys()


def test_what_holds_the_head_is_not_the_backbone():
    chosen = path_selector(network("torchvision/vgg11"), ["backbone"])
    assert chosen("features.0")
    assert chosen("classifier.3.weight")
    assert not chosen("classifier")
    assert not chosen("classifier.6.bias")


def test_a_network_without_a_head_says_so():
    with pytest.raises(UserError, match="no child `head` and no linear layer"):
        heads_of(nn.Sequential(nn.Conv2d(1, 2, 3)))
    with pytest.raises(
        UserError, match=r"init\.freeze\.layer9: no module with parameters has this path; nearest: layer"
    ):
        check_paths(network("torchvision/resnet18"), ["layer9"], "init.freeze")
