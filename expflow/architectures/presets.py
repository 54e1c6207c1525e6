"""Well-known names of networks, and what each one is as a family with keys. Torch-free.

They are those of the papers, and of torchvision and timm where these have them: ``resnet50`` is the family ``resnet``
in its imagenet layout with depth 50. A recipe holds the family and its keys, so ids do not depend on these names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from expflow.architectures.components import MODELS
from expflow.architectures.specs import densenet, resnet
from expflow.architectures.specs.package_models import ALIASES
from expflow.registry import Preset

CIFAR_DEPTHS = (20, 32, 44, 56, 110, 1202)
"""Depths of section 4.2 of the paper on residual networks."""

RESNEXT = {"resnext50_32x4d": (50, 32, 4), "resnext101_32x8d": (101, 32, 8), "resnext101_64x4d": (101, 64, 4)}
"""Name -> depth, groups, channels of each group."""

WIDE = {"wide_resnet50_2": 50, "wide_resnet101_2": 101}
"""Name -> depth; their 3x3 convolutions are twice as wide."""

TOKEN_WIDTHS = {"ti": (12, 192, 3), "s": (12, 384, 6), "b": (12, 768, 12), "l": (24, 1024, 16), "h": (32, 1280, 16)}
"""Size of a vision transformer -> layers, width, heads; tiny and small are DeiT's."""

VIT = ("ti_16", "s_16", "s_32", "b_16", "b_32", "l_16", "l_32", "h_14")

MIXER = {"s_32": (8, 512), "s_16": (8, 512), "b_32": (12, 768), "b_16": (12, 768), "l_32": (24, 1024)}
MIXER |= {"l_16": (24, 1024), "h_14": (32, 1280)}
"""Size and patch -> layers, width: table 1 of the paper on MLP-Mixer."""

GMLP = {"gmlp_ti_16": 128, "gmlp_s_16": 256, "gmlp_b_16": 512}
"""Name -> width: table 1 of the paper on gMLP."""

CONVMIXER = {"convmixer_768_32": (768, 32, 7, 7, "relu"), "convmixer_1536_20": (1536, 20, 9, 7, "gelu")}
CONVMIXER |= {"convmixer_1024_20": (1024, 20, 9, 14, "gelu")}
"""Name -> width, depth, kernel, patch, activation: table 1 of the paper and the weights that it publishes."""


def _resnets() -> Iterator[Preset]:
    imagenet = {"layout": "imagenet"}
    for depth in resnet.IMAGENET:
        yield Preset(f"resnet{depth}", "resnet", {**imagenet, "depth": depth})
    for depth in CIFAR_DEPTHS:
        yield Preset(f"resnet{depth}", "resnet", {"layout": "cifar", "depth": depth})
    for name, (depth, groups, width) in RESNEXT.items():
        yield Preset(name, "resnet", {**imagenet, "depth": depth, "groups": groups, "group_width": width})
    for name, depth in WIDE.items():
        yield Preset(name, "resnet", {**imagenet, "depth": depth, "width_factor": 2})


FAST_STYLE = {"width": 32, "blocks": 5, "kernel": 9, "norm": "instance_affine", "enlarge": "nearest"}
"""The image transformation network of Johnson et al. 2016, with the instance norms of Ulyanov et al. 2016."""


def _convolutional() -> Iterator[Preset]:
    for depth in (11, 13, 16, 19):
        yield Preset(f"vgg{depth}", "vgg", {"depth": depth})
        yield Preset(f"vgg{depth}_bn", "vgg", {"depth": depth, "norm": "batch"})
    yield Preset("vgg_m", "vgg", {"depth": "M"})
    for depth in densenet.IMAGENET:
        yield Preset(f"densenet{depth}", "densenet", {"layout": "imagenet", "depth": depth})
    for name, (width, depth, kernel, patch, activation) in CONVMIXER.items():
        keys = {"width": width, "depth": depth, "kernel": kernel, "patch": patch, "activation": activation}
        yield Preset(name, "convmixer", keys)
    yield Preset("fast_style", "resnet_generator", FAST_STYLE)


def _of_patches() -> Iterator[Preset]:
    for name in VIT:
        size, _, patch = name.partition("_")
        depth, width, heads = TOKEN_WIDTHS[size]
        yield Preset(f"vit_{name}", "vit", {"depth": depth, "width": width, "heads": heads, "patch": int(patch)})
    for name, (depth, width) in MIXER.items():
        yield Preset(f"mixer_{name}", "mixer", {"depth": depth, "width": width, "patch": int(name[-2:])})
    for name, width in GMLP.items():
        yield Preset(name, "gmlp", {"width": width})


def _of_packages() -> Iterator[Preset]:
    """The packages' own names of what has a short name here: ``efficientnet_b0``, ``swin_t``."""
    for family, alias in ALIASES.items():
        for variant, source in alias.sources.items():
            yield Preset(source.partition("/")[2], family, {alias.key: variant})


def _by_name() -> Mapping[str, Preset]:
    """Name -> preset; the names of components go before, and twice the same name is an error."""
    own = {component.name for component in MODELS}
    presets: dict[str, Preset] = {}
    for preset in (*_resnets(), *_convolutional(), *_of_patches(), *_of_packages()):
        if presets.setdefault(preset.name, preset) is not preset:
            raise ValueError(f"the preset {preset.name!r} is declared twice")
    return {name: preset for name, preset in presets.items() if name not in own}


PRESETS: Mapping[str, Preset] = _by_name()
"""Every well-known name that is no component of its own."""
