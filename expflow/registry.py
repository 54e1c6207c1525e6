"""Names that YAML may use, and where each one's spec lives.

A *spec* is a frozen pydantic model of a component's arguments, in a module that does not import torch; its ``build``
names the builder, which may. Both are dotted paths, imported when first needed, so that reading and checking an
experiment never pays for torch. This file knows names and paths only: it imports nothing above floor 0.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import os
from collections.abc import Mapping
from typing import Any

from expflow.errors import UnknownName, UserError


def load_dotted(path: str) -> Any:
    """The object that ``package.module:Name`` names.

    Raises ImportError when the module cannot be imported and AttributeError when it has no such name.
    """
    module, _, name = path.partition(":")
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found


def construct(path: str, arguments: Mapping[str, Any], supplied: Mapping[str, Any]) -> Any:
    """Call what ``path`` names with ``arguments``, and with those of ``supplied`` that its signature asks for by name.

    ``arguments`` (the YAML's) win over ``supplied`` (ours). Raises :class:`UserError` when the name leads nowhere or
    the arguments do not fit; what the call itself raises is passed on.
    """
    try:
        target = load_dotted(path)
    except (ImportError, AttributeError) as error:
        raise UserError(f"{path} cannot be used: {type(error).__name__}: {error}") from error
    try:
        signature = inspect.signature(target)
    except (TypeError, ValueError):  # compiled code may have none that Python can read
        return target(**arguments)
    named = [name for name, each in signature.parameters.items() if each.kind not in _UNNAMED]
    given = {key: value for key, value in supplied.items() if key in named} | dict(arguments)
    try:
        signature.bind(**given)
    except TypeError as error:
        raise UserError(f"{path} does not fit its arguments: {error}; it takes {', '.join(named) or 'none'}") from error
    return target(**given)


_UNNAMED = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD, inspect.Parameter.POSITIONAL_ONLY)


HOOKS_VARIABLE = "EXPFLOW_HOOKS"
"""Environment variable; ``off`` leaves what installed packages bring along alone."""


@functools.cache
def _all_entry_points() -> dict[str, tuple[tuple[str, str], ...]]:
    from importlib.metadata import entry_points  # which reads every installed package's list: 30 ms

    groups: dict[str, tuple[tuple[str, str], ...]] = {}
    installed = entry_points()
    for group in installed.groups:
        if group.startswith("expflow."):
            groups[group] = tuple((each.name, each.value) for each in installed.select(group=group))
    return groups


def _entry_points() -> Mapping[str, tuple[tuple[str, str], ...]]:
    """Group -> (name, dotted path) of what installed packages bring along."""
    return {} if os.environ.get(HOOKS_VARIABLE, "") == "off" else _all_entry_points()


class Registry:
    """The components of one slot (``model``, ``loss``, …) by name.

    ``kind`` is the slot's word in messages. ``entries`` maps a name to the dotted path of its spec. ``prefixes`` maps
    a prefix to the dotted path of the spec that all names with it have in common (``timm/resnet50``): whether there is
    such a name, that spec finds out.
    """

    def __init__(
        self, kind: str, entries: Mapping[str, str] | None = None, *, prefixes: Mapping[str, str] | None = None
    ) -> None:
        self.kind = kind
        self._entries: dict[str, str] = dict(entries or {})
        self._prefixes: dict[str, str] = dict(prefixes or {})
        self._hooked: dict[str, str] = {}

    def hook(self, name: str, path: str) -> None:
        """Give the user's component at the dotted ``path`` a short name.

        Raises UserError where the name leads to something else already.
        """
        taken = self._entries.get(name) or self._installed().get(name) or self._hooked.get(name)
        if taken not in (None, path):
            raise UserError(f"the {self.kind} {name!r} is registered twice: {taken} and {path}")
        self._hooked[name] = path

    def hooked(self, name: object) -> str | None:
        """The dotted path behind a name that a decorator or an installed package gave; None for any other name.

        Packages are looked for only where a name is not one of ours. Raises UserError where two have taken one name.
        """
        if not isinstance(name, str) or name in self._entries:
            return None
        return self._hooked.get(name) or self._installed().get(name)

    def hooked_names(self) -> list[str]:
        """The names that decorators and installed packages gave, sorted."""
        return sorted({*self._hooked, *self._installed()})

    def _installed(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for name, path in _entry_points().get(f"expflow.{self.kind}", ()):
            if (taken := found.get(name) or self._entries.get(name)) is not None:
                raise UserError(
                    f"the {self.kind} {name!r} is registered twice, by the entry points of installed packages: {taken}"
                    f" and {path}; uninstall one, or set {HOOKS_VARIABLE}=off"
                )
            found[name] = path
        return found

    def names(self) -> list[str]:
        """All names that are registered one by one, sorted."""
        return sorted(self._entries)

    def prefixes(self) -> list[str]:
        """What further names may begin with, sorted."""
        return sorted(self._prefixes)

    def _path(self, name: object) -> str | None:
        if not isinstance(name, str):
            return None
        below = (path for prefix, path in self._prefixes.items() if name.startswith(prefix) and name != prefix)
        return self._entries.get(name) or next(below, None)

    def __contains__(self, name: object) -> bool:
        return self._path(name) is not None

    def spec(self, name: str) -> type[Any]:
        """The spec class of ``name`` (imports its module). Raises :class:`UnknownName`."""
        path = self._path(name)
        if path is None:
            raise UnknownName(self.kind, name, [*self.names(), *(f"{prefix}<name>" for prefix in self.prefixes())])
        return load_dotted(path)


MODELS = Registry(
    "model",
    {
        "resnet": "expflow.architectures.specs.resnet:ResNet",
        "densenet": "expflow.architectures.specs.densenet:DenseNet",
        "mobilenet_v1": "expflow.architectures.specs.mobilenet_v1:MobileNetV1",
        "shufflenet_v1": "expflow.architectures.specs.shufflenet_v1:ShuffleNetV1",
        "mlp": "expflow.architectures.specs.mlp:MLP",
        "linear": "expflow.architectures.specs.linear:Linear",
        "perceptron": "expflow.architectures.specs.perceptron:Perceptron",
        "two_layer": "expflow.architectures.specs.perceptron:TwoLayer",
        "lenet5": "expflow.architectures.specs.lenet5:LeNet5",
        "lecture_net": "expflow.architectures.specs.lecture_net:LectureNet",
        "alexnet": "expflow.architectures.specs.alexnet:AlexNet",
        "zfnet": "expflow.architectures.specs.zfnet:ZFNet",
        "vgg": "expflow.architectures.specs.vgg:VGG",
        "googlenet": "expflow.architectures.specs.googlenet:GoogLeNet",
        "vit": "expflow.architectures.specs.vit:ViT",
        "mixer": "expflow.architectures.specs.mixer:Mixer",
        "gmlp": "expflow.architectures.specs.gmlp:GMLP",
        "convmixer": "expflow.architectures.specs.convmixer:ConvMixer",
        "squeezenet": "expflow.architectures.specs.adapters:squeezenet",
        "inception_v3": "expflow.architectures.specs.adapters:inception_v3",
        "inception_v4": "expflow.architectures.specs.adapters:inception_v4",
        "inception_resnet_v2": "expflow.architectures.specs.adapters:inception_resnet_v2",
        "xception": "expflow.architectures.specs.adapters:xception",
        "mobilenet_v2": "expflow.architectures.specs.adapters:mobilenet_v2",
        "mobilenet_v3": "expflow.architectures.specs.adapters:mobilenet_v3",
        "shufflenet_v2": "expflow.architectures.specs.adapters:shufflenet_v2",
        "mnasnet": "expflow.architectures.specs.adapters:mnasnet",
        "nasnet": "expflow.architectures.specs.adapters:nasnet",
        "pnasnet": "expflow.architectures.specs.adapters:pnasnet",
        "efficientnet": "expflow.architectures.specs.adapters:efficientnet",
        "efficientnet_v2": "expflow.architectures.specs.adapters:efficientnet_v2",
        "seresnet": "expflow.architectures.specs.adapters:seresnet",
        "senet": "expflow.architectures.specs.adapters:senet",
        "resnetv2": "expflow.architectures.specs.adapters:resnetv2",
        "bit": "expflow.architectures.specs.adapters:bit",
        "convnext": "expflow.architectures.specs.adapters:convnext",
        "swin": "expflow.architectures.specs.adapters:swin",
        "swin_v2": "expflow.architectures.specs.adapters:swin_v2",
        "mvit_v2": "expflow.architectures.specs.adapters:mvit_v2",
        "deit3": "expflow.architectures.specs.adapters:deit3",
        "coatnet": "expflow.architectures.specs.adapters:coatnet",
        "resmlp": "expflow.architectures.specs.adapters:resmlp",
    },
    prefixes={
        "timm/": "expflow.architectures.specs.adapters:Timm",
        "torchvision/": "expflow.architectures.specs.adapters:Torchvision",
    },
)
LOSSES = Registry(
    "loss",
    {
        "cross_entropy": "expflow.losses.specs:CrossEntropy",
        "nll": "expflow.losses.specs:NLL",
        "hinge": "expflow.losses.specs:Hinge",
        "squared": "expflow.losses.specs:Squared",
        "l1": "expflow.losses.specs:L1",
        "smooth_l1": "expflow.losses.specs:SmoothL1",
        "bce": "expflow.losses.specs:BCE",
    },
)
OPTIMIZERS = Registry(
    "optimizer",
    {
        "sgd": "expflow.optim.specs:SGD",
        "adam": "expflow.optim.specs:Adam",
        "adamw": "expflow.optim.specs:AdamW",
        "rmsprop": "expflow.optim.specs:RMSprop",
        "lars": "expflow.optim.specs:LARS",
        "lamb": "expflow.optim.specs:LAMB",
    },
)
SCHEDULES = Registry(
    "schedule",
    {
        "constant": "expflow.optim.specs:Constant",
        "step": "expflow.optim.specs:Step",
        "multi_step": "expflow.optim.specs:MultiStep",
        "cosine": "expflow.optim.specs:Cosine",
        "polynomial": "expflow.optim.specs:Polynomial",
        "one_cycle": "expflow.optim.specs:OneCycle",
        "triangular": "expflow.optim.specs:Triangular",
        "plateau": "expflow.optim.specs:Plateau",
    },
)
TASKS = Registry(
    "task",
    {
        "classification": "expflow.tasks.specs:Classification",
        "scripted": "expflow.tasks.specs:Scripted",
    },
)
SOURCES = Registry(
    "data",
    {
        "digits": "expflow.data.specs:Digits",
        "fashion_mnist": "expflow.data.specs:FashionMNIST",
        "mnist": "expflow.data.specs:MNIST",
        "cifar10": "expflow.data.specs:CIFAR10",
        "cifar100": "expflow.data.specs:CIFAR100",
        "imagenet": "expflow.data.specs:ImageNet",
        "imagenet22k": "expflow.data.specs:ImageNet22k",
        "folder": "expflow.data.specs:Folder",
        "shards": "expflow.data.specs:Shards",
    },
)
SEARCHERS = Registry(
    "searcher",
    {
        "grid": "expflow.sweep.searchers.specs:Grid",
        "random": "expflow.sweep.searchers.specs:Random",
        "points": "expflow.sweep.searchers.specs:Points",
        "tpe": "expflow.sweep.searchers.specs:TPE",
        "optuna": "expflow.sweep.searchers.specs:Optuna",
    },
)
SCHEDULERS = Registry(
    "scheduler",
    {
        "none": "expflow.sweep.schedulers.specs:NoScheduler",
        "asha": "expflow.sweep.schedulers.specs:ASHA",
        "median": "expflow.sweep.schedulers.specs:Median",
        "successive_halving": "expflow.sweep.schedulers.specs:SuccessiveHalving",
        "hyperband": "expflow.sweep.schedulers.specs:Hyperband",
        "pbt": "expflow.sweep.schedulers.specs:PBT",
    },
)

SLOTS: dict[str, Registry] = {
    "data": SOURCES,
    "model": MODELS,
    "task": TASKS,
    "loss": LOSSES,
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
}
"""The recipe's slots, each filled by one component or by a mapping of the user's names to components."""

REGISTRIES: dict[str, Registry] = {**SLOTS, "searcher": SEARCHERS, "scheduler": SCHEDULERS}
"""Everything that is chosen by name, by its word in messages and in entry points (``expflow.model``)."""
