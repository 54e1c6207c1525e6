"""Well-known names give the networks that everybody else calls so."""

import pytest
import torch
import torchvision

from expflow.architectures import build
from expflow.architectures.accounting import count_parameters
from expflow.architectures.catalogue import image_data_spec
from expflow.architectures.specs.package_models import ALIASES
from expflow.config.component_argument import parse_component
from expflow.registry import MODELS

OURS = [name for name, preset in MODELS.presets.items() if preset.component not in ALIASES]
OF_TORCHVISION = sorted({*OURS} & {*torchvision.models.list_models(module=torchvision.models)})
PUBLISHED = {
    # name -> parameters for the data that the paper has: (image, classes, parameters)
    "resnet20": (32, 10, 269_722),  # with option A and biases in the head alone
    "resnet110": (32, 10, 1_727_962),
    "mixer_b_16": (224, 1000, 59_880_472),
    "gmlp_s_16": (224, 1000, 19_422_656),
    "convmixer_768_32": (224, 1000, 21_110_248),
    "convmixer_1536_20": (224, 1000, 51_625_960),
    "vit_s_16": (224, 1000, 22_050_664),
    "vit_ti_16": (224, 1000, 5_717_416),
}


def parameters(name, size, classes):
    with torch.device("meta"):
        return count_parameters(build(parse_component("model", name), image_data_spec((3, size, size), classes)))


def test_the_usual_names_are_there():
    assert {"resnet50", "wide_resnet50_2", "vgg16_bn", "densenet121", "vit_b_16"} <= {*OF_TORCHVISION}
    assert len(OF_TORCHVISION) >= 25


@pytest.mark.parametrize("name", OF_TORCHVISION)
def test_it_has_the_parameters_of_torchvisions(name):
    with torch.device("meta"):
        theirs = count_parameters(torchvision.models.get_model(name, weights=None))
    assert parameters(name, 224, 1000) == theirs


@pytest.mark.parametrize(("name", "size", "classes", "count"), [(name, *of) for name, of in PUBLISHED.items()])
def test_it_has_the_published_parameters(name, size, classes, count):
    assert parameters(name, size, classes) == count
