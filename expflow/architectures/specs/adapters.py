"""Networks of installed packages by name, and short names for well-known ones. Torch-free.

``timm/<name>`` and ``torchvision/<name>`` are all classification networks that those packages register. What a package
does not know, and arguments that it does not take, are refused when the experiment is read; only then is it imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

from pydantic import create_model, model_validator

from expflow.config.spec import Open, identity


class Adapter(Open):
    """A classification network of an installed package; every other key is an argument of its constructor there.

    Channels, classes and image size come from the data. Weights are fresh ones. An argument that is left out has the
    value that the package gives it for this name.
    """

    build: ClassVar[str] = "expflow.architectures.adapters:build"

    @property
    def source(self) -> str:
        """``package/name`` of what is built."""
        return self.name

    @model_validator(mode="after")
    def _the_package_takes_it(self) -> Self:
        if self.arguments or self.source == self.name:  # what a short name stands for exists: a test holds that
            from expflow.architectures.packages import check

            self._usual = check(self.source, self.arguments)
        return self


class Timm(Adapter):
    """A network of timm, `timm/<name>`; every other key is an argument of its constructor there.

    Channels, classes and image size come from the data. Weights are fresh ones. An argument that is left out has the
    value that timm gives it for this name.
    """


class Torchvision(Adapter):
    """A network of torchvision, `torchvision/<name>`; every other key is an argument of its constructor there.

    Channels, classes and image size come from the data. Weights are fresh ones. An argument that is left out has the
    value that torchvision gives it for this name.
    """


class Short(Adapter):
    """A short name; ``sources`` maps its variants to what they stand for, the usual one first."""

    sources: ClassVar[Mapping[str | int, str]] = {}
    variant: str | int = identity("", description="Which of the sizes that the package has.")

    @property
    def source(self) -> str:
        """``package/name`` of what is built."""
        return self.sources[self.variant]


@dataclass(frozen=True)
class Family:
    """What a short name stands for: a sentence with its paper, and its variants as ``package/name``."""

    about: str
    sources: Mapping[str | int, str]


def _each(pattern: str, variants: str, before: str = "") -> dict[str | int, str]:
    """``{variant: source}`` for variants that are written into ``pattern``; numbers where YAML reads numbers.

    ``before`` comes before each in its key only: YAML would take 1_0 for the number ten.
    """
    keys = {variant: before + variant for variant in variants.split()}
    return {int(key) if key.isdigit() else key: pattern.format(variant) for variant, key in keys.items()}


FAMILIES: dict[str, Family] = {
    "squeezenet": Family(
        "SqueezeNet (Iandola et al. 2016, arXiv 1602.07360).", _each("torchvision/squeezenet{}", "1_0 1_1", "v")
    ),
    "inception_v3": Family(
        "Inception v3 (Szegedy et al. 2016, arXiv 1512.00567), for images of 75 pixels and more; aux_logits adds its"
        " auxiliary classifier.",
        {"v3": "torchvision/inception_v3"},
    ),
    "inception_v4": Family("Inception v4 (Szegedy et al. 2017, arXiv 1602.07261).", {"v4": "timm/inception_v4"}),
    "inception_resnet_v2": Family(
        "Inception-ResNet v2 (Szegedy et al. 2017, arXiv 1602.07261).", {"v2": "timm/inception_resnet_v2"}
    ),
    "xception": Family(
        "Xception (Chollet 2017, arXiv 1610.02357); 41, 65 and 71 are the deeper ones of DeepLab.",
        {"original": "timm/legacy_xception", **_each("timm/xception{}", "41 65 71")},
    ),
    "mobilenet_v2": Family(
        "MobileNet v2 (Sandler et al. 2018, arXiv 1801.04381); width_mult is its width.",
        {"v2": "torchvision/mobilenet_v2"},
    ),
    "mobilenet_v3": Family(
        "MobileNet v3 (Howard et al. 2019, arXiv 1905.02244).", _each("torchvision/mobilenet_v3_{}", "large small")
    ),
    "shufflenet_v2": Family(
        "ShuffleNet v2 (Ma et al. 2018, arXiv 1807.11164).",
        _each("torchvision/shufflenet_v2_{}", "x1_0 x0_5 x1_5 x2_0"),
    ),
    "mnasnet": Family(
        "MnasNet, found by search (Tan et al. 2019, arXiv 1807.11626).",
        _each("torchvision/mnasnet{}", "1_0 0_5 0_75 1_3", "x"),
    ),
    "nasnet": Family("NASNet-A, found by search (Zoph et al. 2018, arXiv 1707.07012).", {"large": "timm/nasnetalarge"}),
    "pnasnet": Family(
        "PNASNet-5, found by search (Liu et al. 2018, arXiv 1712.00559).", {"large": "timm/pnasnet5large"}
    ),
    "efficientnet": Family(
        "EfficientNet (Tan and Le 2019, arXiv 1905.11946); l2 is that of Noisy Student (Xie et al. 2020).",
        {**_each("torchvision/efficientnet_{}", "b0 b1 b2 b3 b4 b5 b6 b7"), "l2": "timm/efficientnet_l2"},
    ),
    "efficientnet_v2": Family(
        "EfficientNet v2 (Tan and Le 2021, arXiv 2104.00298).", _each("torchvision/efficientnet_v2_{}", "s m l")
    ),
    "seresnet": Family(
        "Residual network with squeeze-and-excitation as timm has it (Hu et al. 2018, arXiv 1709.01507); resnet with"
        " se_ratio is ours.",
        _each("timm/seresnet{}", "50 18 34 101 152"),
    ),
    "senet": Family(
        "SENet-154, winner of ILSVRC 2017 (Hu et al. 2018, arXiv 1709.01507).", {154: "timm/legacy_senet154"}
    ),
    "resnetv2": Family(
        "Pre-activation residual network as timm has it (He et al. 2016, arXiv 1603.05027).",
        _each("timm/resnetv2_{}", "50 18 34 101 152"),
    ),
    "bit": Family(
        "Big Transfer: pre-activation residual network with group norm and standardised weights"
        " (Kolesnikov et al. 2020, arXiv 1912.11370).",
        _each("timm/resnetv2_{}_bit", "50x1 50x3 101x1 101x3 152x2 152x4"),
    ),
    "convnext": Family(
        "ConvNeXt (Liu et al. 2022, arXiv 2201.03545).", _each("torchvision/convnext_{}", "tiny small base large")
    ),
    "swin": Family(
        "Swin Transformer (Liu et al. 2021, arXiv 2103.14030).",
        {
            "tiny": "torchvision/swin_t",
            "small": "torchvision/swin_s",
            "base": "torchvision/swin_b",
            "large": "timm/swin_large_patch4_window7_224",
        },
    ),
    "swin_v2": Family(
        "Swin Transformer v2 (Liu et al. 2022, arXiv 2111.09883).",
        {"tiny": "torchvision/swin_v2_t", "small": "torchvision/swin_v2_s", "base": "torchvision/swin_v2_b"},
    ),
    "mvit_v2": Family(
        "Multiscale vision transformer v2 for images (Li et al. 2022, arXiv 2112.01526).",
        _each("timm/mvitv2_{}", "tiny small base large"),
    ),
    "deit3": Family(
        "DeiT III: a vision transformer with layer scale and stochastic depth (Touvron et al. 2022, arXiv 2204.07118).",
        {
            **_each("timm/deit3_{}_patch16_224", "small medium base large"),
            "huge": "timm/deit3_huge_patch14_224",
        },
    ),
    "coatnet": Family(
        "CoAtNet: convolutions below, attention above (Dai et al. 2021, arXiv 2106.04803).",
        _each("timm/coatnet_{}_224", "0 1 2 3 4 5"),
    ),
    "resmlp": Family(
        "Feed-forward layers over tokens and channels, no attention (Touvron et al. 2021, arXiv 2105.03404; the same"
        " idea: Melas-Kyriazi 2021).",
        _each("timm/resmlp_{}_224", "12 24 36"),
    ),
}
"""Short name -> what it stands for. Each is registered as ``expflow.architectures.specs.adapters:<short name>``."""


def _class(name: str, family: Family) -> type[Short]:
    """The spec of a short name; its variant is one of those in the table."""
    listed = "; ".join(f"{variant}: `{source}`" for variant, source in family.sources.items())
    described = identity(next(iter(family.sources)), description=f"Which one of the package: {listed}.")
    names: Any = Literal[tuple(family.sources)]
    about = f"{family.about} Every other key is an argument of its constructor in the package."
    made = create_model(name, __base__=Short, __doc__=about, __module__=__name__, variant=(names, described))
    made.sources = family.sources
    return made


globals().update({name: _class(name, family) for name, family in FAMILIES.items()})  # so that they can be pickled
