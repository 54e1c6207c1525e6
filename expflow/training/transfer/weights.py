"""Weights of another training, read without running code and put into a network that they fit."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from expflow.architectures.heads import AUXILIARY, below, heads_of
from expflow.errors import CheckpointMismatch, UserError, WeightsMissing
from expflow.training.averaging import averaged
from expflow.training.checkpoints.tensors import difference, load, weights_of
from expflow.training.contract import Attempt
from expflow.training.transfer.source import Pretrained

logger = logging.getLogger(__name__)

Weights = dict[str, Tensor]

COUNTER = "num_batches_tracked"
"""What batch norms count; weights that were saved by old versions of torch lack it."""

_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")
"""Names in torchvision's files of DenseNet: a dot more than its modules have."""


def network_of(task: nn.Module) -> nn.Module:
    """What ``init`` speaks of: the task's network under ``model``, else the task itself."""
    network = getattr(task, "model", None)
    return network if isinstance(network, nn.Module) else task


def begin(attempt: Attempt, task: nn.Module) -> None:
    """Put the weights that ``attempt`` begins with into ``task``'s network; fresh ones stay as they are.

    Raises what :func:`read` and :func:`put` raise, and WeightsMissing where nobody has looked them up.
    """
    init = attempt.recipe.init
    if init is None or not init.pretrained:
        return
    if attempt.weights is None:
        raise WeightsMissing(
            f"init.from: {init.source} was not looked up; whoever starts the trial has to say where it is"
        )
    weights = read(attempt.weights, attempt.recipe.trainer.checkpoint.allow)
    put(network_of(task), weights, head=init.head, origin=attempt.weights.origin)


def read(pretrained: Pretrained, allow: Iterable[str] = ()) -> Weights:
    """The weights in the files of ``pretrained``: the averaged ones where its training kept an average.

    Raises WeightsMissing, CheckpointDamaged, CheckpointUnsafe, and UserError where there are no weights in them.
    """
    pretrained.verify()
    (first, _), *states = pretrained.files
    weights = weights_of(first, allow)
    for path, _ in states:
        weights |= averaged(load(path, allow)["trainer"].get("callbacks", {}))
    return weights


def put(network: nn.Module, weights: Mapping[str, Tensor], *, head: str, origin: str) -> None:
    """Load ``weights`` into ``network``, in place; with the head ``new``, its head stays as it was drawn.

    Raises CheckpointMismatch, naming layers and both shapes, where they are of another architecture.
    """
    fitting = fitted(network, weights, head=head, origin=origin)
    network.load_state_dict(network.state_dict() | fitting)


def fitted(network: nn.Module, weights: Mapping[str, Tensor], *, head: str, origin: str) -> Weights:
    """What of ``weights`` goes into ``network``, under its names. Raises as :func:`put`; ``network`` may be meta."""
    own = network.state_dict()
    found = _renamed(weights, own)
    found = {name: value for name, value in found.items() if name in own or not _in(name, AUXILIARY)}
    found |= {name: torch.zeros((), dtype=torch.long) for name in own.keys() - found.keys() if _counts(name)}
    found |= _other_channels(network, found, origin)
    heads = heads_of(network) if head == "new" else ()
    different = difference(_without(found, heads), _without(own, heads))
    if different:
        advice = _advice(network, found, own) if head == "keep" else ""
        raise CheckpointMismatch(f"the weights of {origin} are of another architecture:\n{different}{advice}")
    return _without(found, heads)


def _without(weights: Mapping[str, Tensor], paths: Iterable[str]) -> Weights:
    paths = tuple(paths)
    return {name: value for name, value in weights.items() if not _in(name, paths)}


def _advice(network: nn.Module, found: Weights, own: Mapping[str, Tensor]) -> str:
    """What helps where nothing but the head differs."""
    try:
        heads = heads_of(network)
    except UserError:
        return ""
    same = not difference(_without(found, heads), _without(own, heads))
    return "\nOnly the head differs: init.head: new draws it anew" if same else ""


def _in(name: str, paths: Iterable[str]) -> bool:
    return any(below(name, path) for path in paths)


def _counts(name: str) -> bool:
    return name.rpartition(".")[2] == COUNTER


def _renamed(weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Weights:
    """``weights`` by the network's names: without what a task or a wrapper has put before them (``model.``)."""
    weights = {_modern(name, own): value for name, value in weights.items()}
    shared = Counter({"": sum(name in own for name in weights)})
    for name in weights:
        first, dot, rest = name.partition(".")
        shared[first + dot] += bool(dot) and rest in own
    prefix = max(shared, key=lambda each: (shared[each], each == ""))
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


def _modern(name: str, own: Mapping[str, Tensor]) -> str:
    """A name of torchvision's DenseNet files as its modules have it now."""
    new = _OLD_DENSENET.sub(lambda match: match[1] + match[2], name)
    return new if new in own else name


def _other_channels(network: nn.Module, weights: Weights, origin: str) -> Weights:
    """Convolutions of grey images for coloured ones and the other way round, which give the same on grey images."""
    changed: Weights = {}
    for path, module in network.named_modules():
        name = f"{path}.weight"
        if not isinstance(module, nn.Conv2d) or name not in weights or module.groups != 1:
            continue
        value, shape = weights[name], tuple(module.weight.shape)
        if value.ndim != 4 or (value.shape[0], *value.shape[2:]) != (shape[0], *shape[2:]):
            continue
        if (value.shape[1], shape[1]) == (3, 1):
            changed[name] = value.sum(1, keepdim=True)
        elif (value.shape[1], shape[1]) == (1, 3):
            changed[name] = value.expand(shape) / 3
    for name in changed:
        logger.info("%s of %s: %d channels became %d", name, origin, weights[name].shape[1], changed[name].shape[1])
    return changed
