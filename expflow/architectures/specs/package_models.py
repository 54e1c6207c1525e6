"""Networks of installed packages by name, and short names for well-known ones. Torch-free.

``timm/<name>`` and ``torchvision/<name>`` are all classification networks that those packages register,
``torchvision/<name>`` and ``smp/<name>`` also segmentation networks, and ``torchvision/<name>`` detectors. What a
package does not know, and arguments that it does not take, are refused when the experiment is read; only then is it
imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

from pydantic import create_model, model_validator

from expflow.architectures.specs.detection_names import TORCHVISION_DETECTION
from expflow.architectures.specs.segmentation_names import TORCHVISION_SEGMENTATION
from expflow.config.component_specs import ModelOutput, ModelSpec
from expflow.config.spec import PassthroughSpec, identity


class PackageModelSpec(ModelSpec, PassthroughSpec):
    """Base: a network of an installed package; other keys are arguments of its constructor there.

    Channels, classes and image size come from the data. Weights are fresh ones. An argument that is left out has the
    value that the package gives it for this name.
    """

    build: ClassVar[str] = "expflow.architectures.package_models:build"

    @property
    def source(self) -> str:
        """``package/name`` of what is built."""
        return self.name

    @property
    def segments(self) -> bool:
        """Whether it is a segmentation network."""
        package, _, name = self.source.partition("/")
        return package == "smp" or (package == "torchvision" and name in TORCHVISION_SEGMENTATION)

    @property
    def detects(self) -> bool:
        """Whether it is a detector."""
        package, _, name = self.source.partition("/")
        return package == "torchvision" and name in TORCHVISION_DETECTION

    @property
    def gives_here(self) -> ModelOutput:
        """What this network gives for an image."""
        return "boxes" if self.detects else "maps" if self.segments else "scores"

    @model_validator(mode="after")
    def _the_package_takes_it(self) -> Self:
        if self.arguments or self.source == self.name:  # what a short name stands for exists: a test holds that
            from expflow.architectures.packages import check_package_model

            self.note_defaults(check_package_model(self.source, self.arguments))
        return self


class TimmSpec(PackageModelSpec):
    """A network of timm, `timm/<name>`; every other key is an argument of its constructor there.

    Channels, classes and image size come from the data. Weights are fresh ones. An argument that is left out has the
    value that timm gives it for this name.
    """


class TorchvisionSpec(PackageModelSpec):
    """A network of torchvision, `torchvision/<name>`; every other key is an argument of its constructor there.

    Channels, classes and image size come from the data. Weights are fresh ones. An argument that is left out has the
    value that torchvision gives it for this name.
    """


class SegmentationModelsSpec(PackageModelSpec):
    """A network of segmentation_models_pytorch, `smp/<name>`; every other key is an argument of its constructor there.

    Channels and classes come from the data. Weights are fresh ones. An argument that is left out has the value that the
    package gives it. It is an optional package: pip install 'expflow[segmentation]'.
    """

    gives: ClassVar[ModelOutput] = "maps"


class AliasSpec(PackageModelSpec):
    """Base of the specs of short names; ``sources`` maps the values of ``key`` to ``package/name``, the usual first."""

    sources: ClassVar[Mapping[str | int, str]] = {}
    key: ClassVar[str] = "variant"

    @property
    def source(self) -> str:
        """``package/name`` of what is built."""
        return self.sources[getattr(self, self.key)]


@dataclass(frozen=True)
class Alias:
    """What a short name stands for.

    Attributes:
        spec: Name of its spec class in this module.
        about: A sentence with its paper.
        sources: Its variants as ``package/name``, the usual one first.
        key: The key that chooses among them: ``depth`` where they are numbers of layers, else ``variant``.
    """

    spec: str
    about: str
    sources: Mapping[str | int, str]
    key: Literal["depth", "variant"] = "variant"


def _variants(pattern: str, variants: str, before: str = "") -> dict[str | int, str]:
    """``{variant: source}`` for variants that are written into ``pattern``; numbers where YAML reads numbers.

    ``before`` precedes a variant in its key only: YAML would take 1_0 for the number ten.
    """
    keys = {variant: before + variant for variant in variants.split()}
    return {int(key) if key.isdigit() else key: pattern.format(variant) for variant, key in keys.items()}


ALIASES: dict[str, Alias] = {
    "squeezenet": Alias(
        "SqueezeNetSpec",
        "SqueezeNet (Iandola et al. 2016, arXiv 1602.07360).",
        _variants("torchvision/squeezenet{}", "1_0 1_1", "v"),
    ),
    "inception_v3": Alias(
        "InceptionV3Spec",
        "Inception v3 (Szegedy et al. 2016, arXiv 1512.00567), for images of 75 pixels and more; aux_logits adds its"
        " auxiliary classifier.",
        {"v3": "torchvision/inception_v3"},
    ),
    "inception_v4": Alias(
        "InceptionV4Spec", "Inception v4 (Szegedy et al. 2017, arXiv 1602.07261).", {"v4": "timm/inception_v4"}
    ),
    "inception_resnet_v2": Alias(
        "InceptionResNetV2Spec",
        "Inception-ResNet v2 (Szegedy et al. 2017, arXiv 1602.07261).",
        {"v2": "timm/inception_resnet_v2"},
    ),
    "xception": Alias(
        "XceptionSpec",
        "Xception (Chollet 2017, arXiv 1610.02357); 41, 65 and 71 are the deeper ones of DeepLab.",
        {"original": "timm/legacy_xception", **_variants("timm/xception{}", "41 65 71")},
    ),
    "mobilenet_v2": Alias(
        "MobileNetV2Spec",
        "MobileNet v2 (Sandler et al. 2018, arXiv 1801.04381); width_mult is its width.",
        {"v2": "torchvision/mobilenet_v2"},
    ),
    "mobilenet_v3": Alias(
        "MobileNetV3Spec",
        "MobileNet v3 (Howard et al. 2019, arXiv 1905.02244).",
        _variants("torchvision/mobilenet_v3_{}", "large small"),
    ),
    "shufflenet_v2": Alias(
        "ShuffleNetV2Spec",
        "ShuffleNet v2 (Ma et al. 2018, arXiv 1807.11164).",
        _variants("torchvision/shufflenet_v2_{}", "x1_0 x0_5 x1_5 x2_0"),
    ),
    "mnasnet": Alias(
        "MNASNetSpec",
        "MnasNet, found by search (Tan et al. 2019, arXiv 1807.11626).",
        _variants("torchvision/mnasnet{}", "1_0 0_5 0_75 1_3", "x"),
    ),
    "nasnet": Alias(
        "NASNetSpec", "NASNet-A, found by search (Zoph et al. 2018, arXiv 1707.07012).", {"large": "timm/nasnetalarge"}
    ),
    "pnasnet": Alias(
        "PNASNetSpec",
        "PNASNet-5, found by search (Liu et al. 2018, arXiv 1712.00559).",
        {"large": "timm/pnasnet5large"},
    ),
    "efficientnet": Alias(
        "EfficientNetSpec",
        "EfficientNet (Tan and Le 2019, arXiv 1905.11946); l2 is that of Noisy Student (Xie et al. 2020).",
        {**_variants("torchvision/efficientnet_{}", "b0 b1 b2 b3 b4 b5 b6 b7"), "l2": "timm/efficientnet_l2"},
    ),
    "efficientnet_v2": Alias(
        "EfficientNetV2Spec",
        "EfficientNet v2 (Tan and Le 2021, arXiv 2104.00298).",
        _variants("torchvision/efficientnet_v2_{}", "s m l"),
    ),
    "seresnet": Alias(
        "SEResNetSpec",
        "Residual network with squeeze-and-excitation as timm has it (Hu et al. 2018, arXiv 1709.01507); resnet with"
        " se_ratio is ours.",
        _variants("timm/seresnet{}", "50 18 34 101 152"),
        key="depth",
    ),
    "senet": Alias(
        "SENetSpec",
        "SENet-154, winner of ILSVRC 2017 (Hu et al. 2018, arXiv 1709.01507).",
        {154: "timm/legacy_senet154"},
        key="depth",
    ),
    "resnetv2": Alias(
        "ResNetV2Spec",
        "Pre-activation residual network as timm has it (He et al. 2016, arXiv 1603.05027).",
        _variants("timm/resnetv2_{}", "50 18 34 101 152"),
        key="depth",
    ),
    "bit": Alias(
        "BigTransferSpec",
        "Big Transfer: pre-activation residual network with group norm and standardised weights"
        " (Kolesnikov et al. 2020, arXiv 1912.11370).",
        _variants("timm/resnetv2_{}_bit", "50x1 50x3 101x1 101x3 152x2 152x4"),
    ),
    "convnext": Alias(
        "ConvNeXtSpec",
        "ConvNeXt (Liu et al. 2022, arXiv 2201.03545).",
        _variants("torchvision/convnext_{}", "tiny small base large"),
    ),
    "swin": Alias(
        "SwinSpec",
        "Swin Transformer (Liu et al. 2021, arXiv 2103.14030).",
        {
            "tiny": "torchvision/swin_t",
            "small": "torchvision/swin_s",
            "base": "torchvision/swin_b",
            "large": "timm/swin_large_patch4_window7_224",
        },
    ),
    "swin_v2": Alias(
        "SwinV2Spec",
        "Swin Transformer v2 (Liu et al. 2022, arXiv 2111.09883).",
        {"tiny": "torchvision/swin_v2_t", "small": "torchvision/swin_v2_s", "base": "torchvision/swin_v2_b"},
    ),
    "mvit_v2": Alias(
        "MViTV2Spec",
        "Multiscale vision transformer v2 for images (Li et al. 2022, arXiv 2112.01526).",
        _variants("timm/mvitv2_{}", "tiny small base large"),
    ),
    "deit3": Alias(
        "DeiT3Spec",
        "DeiT III: a vision transformer with layer scale and stochastic depth (Touvron et al. 2022, arXiv 2204.07118).",
        {
            **_variants("timm/deit3_{}_patch16_224", "small medium base large"),
            "huge": "timm/deit3_huge_patch14_224",
        },
    ),
    "coatnet": Alias(
        "CoAtNetSpec",
        "CoAtNet: convolutions below, attention above (Dai et al. 2021, arXiv 2106.04803).",
        _variants("timm/coatnet_{}_224", "0 1 2 3 4 5"),
    ),
    "resmlp": Alias(
        "ResMLPSpec",
        "Feed-forward layers over tokens and channels, no attention (Touvron et al. 2021, arXiv 2105.03404; the same"
        " idea: Melas-Kyriazi 2021).",
        _variants("timm/resmlp_{}_224", "12 24 36"),
        key="depth",
    ),
}
"""Short name -> what it stands for; its spec class is the registered one."""


def _spec_class(alias: Alias) -> type[AliasSpec]:
    """The spec of a short name; its variant (or depth) is one of those in the table."""
    listed = "; ".join(f"{variant}: `{source}`" for variant, source in alias.sources.items())
    former = "variant" if alias.key == "depth" else ""
    described = identity(next(iter(alias.sources)), description=f"Which one of the package: {listed}.", former=former)
    names: Any = Literal[tuple(alias.sources)]
    about = f"{alias.about} Every other key is an argument of its constructor in the package."
    fields: Any = {alias.key: (names, described)}
    made = create_model(alias.spec, __base__=AliasSpec, __doc__=about, __module__=__name__, **fields)
    made.sources, made.key = alias.sources, alias.key
    return made


globals().update({alias.spec: _spec_class(alias) for alias in ALIASES.values()})  # so that they can be pickled
