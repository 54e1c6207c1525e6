"""Weights of another training, read without running code and put into a network that they fit."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from expflow.architectures.heads import AUXILIARY, heads_of, is_within
from expflow.errors import CheckpointMismatch, UserError, WeightsMissing
from expflow.training.checkpoints.tensor_files import read_averaged, read_weights, shape_differences
from expflow.training.contract import Attempt
from expflow.training.transfer.pretrained import PretrainedWeights

logger = logging.getLogger(__name__)

Weights = dict[str, Tensor]

COUNTER = "num_batches_tracked"
"""What batch norms count; weights that were saved by old versions of torch lack it."""

_OLD_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")
"""Names in torchvision's files of DenseNet: a dot more than its modules have."""


def network_of(task: nn.Module) -> nn.Module:
    """The network that ``init`` is about: the one under ``model``, else the task itself.

    Args:
        task: The recipe's module.
    """
    network = getattr(task, "model", None)
    return network if isinstance(network, nn.Module) else task


def load_initial_weights(attempt: Attempt, task: nn.Module) -> None:
    """Put the weights that a trial begins with into its network; fresh ones stay as they are.

    Args:
        attempt: The trial, with the files of its weights.
        task: The module with its network.

    Raises:
        WeightsMissing: ``init.from`` was not looked up before, or a file is not there.
        CheckpointMismatch: They are of another architecture.
        CheckpointUnsafe: A file holds something that is not allowed.
        CheckpointDamaged: A file is not what it was.
    """
    init = attempt.recipe.init
    if init is None or not (init.pretrained or init.parent):
        return
    if attempt.weights is None:
        raise WeightsMissing(
            f"init: {init.parent or init.source} was not looked up; whoever starts the trial has to say where it is"
        )
    weights = read_pretrained(attempt.weights, attempt.recipe.trainer.checkpoint.allow)
    if init.parent:
        load_what_fits(network_of(task), weights, origin=attempt.weights.origin)
        return
    load_fitting_weights(network_of(task), weights, head=init.head, origin=attempt.weights.origin)


def read_pretrained(pretrained: PretrainedWeights, allow: Iterable[str] = ()) -> Weights:
    """The weights in files: the averaged ones where their training kept an average.

    Args:
        pretrained: The files.
        allow: Classes (``package.module:Name``) that they may hold besides tensors and plain data.

    Raises:
        WeightsMissing: A file is not there.
        CheckpointDamaged: A file is not what it was, or cannot be read.
        CheckpointUnsafe: A file holds something that ``allow`` does not name.
        UserError: There are no weights in them.
    """
    pretrained.verify()
    (first, _), *states = pretrained.files
    weights = read_weights(first, allow)
    for path, _ in states:
        weights |= read_averaged(path, allow)
    return weights


def load_fitting_weights(network: nn.Module, weights: Mapping[str, Tensor], *, head: str, origin: str) -> None:
    """Load weights into a network, in place.

    Args:
        network: The network.
        weights: Those of another training.
        head: ``keep``, or ``new``: the head stays as it was drawn.
        origin: Where the weights are from, for messages.

    Raises:
        CheckpointMismatch: They are of another architecture; the message names layers and both shapes.
    """
    fitting = fitting_weights(network, weights, head=head, origin=origin)
    network.load_state_dict(network.state_dict() | fitting)


def load_what_fits(network: nn.Module, weights: Mapping[str, Tensor], *, origin: str) -> int:
    """Load the weights whose name and shape a network has, in place; the others stay as they were drawn.

    Args:
        network: The network.
        weights: Those of another training, of another architecture perhaps.
        origin: Where the weights are from, for the log.

    Returns:
        How many tensors were taken over.
    """
    own = network.state_dict()
    fitting = {
        name: value for name, value in _renamed(weights, own).items() if name in own and own[name].shape == value.shape
    }
    network.load_state_dict(own | fitting)
    logger.info("%d of %d tensors are those of %s", len(fitting), len(own), origin)
    return len(fitting)


def fitting_weights(network: nn.Module, weights: Mapping[str, Tensor], *, head: str, origin: str) -> Weights:
    """The weights that go into a network, under its names.

    Args:
        network: The network; it may be on the meta device.
        weights: Those of another training.
        head: ``keep``, or ``new``: without those of the head.
        origin: Where the weights are from, for messages.

    Raises:
        CheckpointMismatch: They are of another architecture; the message names layers and both shapes.
    """
    own = network.state_dict()
    fitting = _renamed(weights, own)
    unused = (*AUXILIARY, *getattr(network, "left_out", ()))
    fitting = {name: value for name, value in fitting.items() if name in own or not _in(name, unused)}
    fitting |= {name: torch.zeros((), dtype=torch.long) for name in own.keys() - fitting.keys() if _counts(name)}
    fitting |= _other_channels(network, fitting, origin)
    heads = heads_of(network) if head == "new" else ()
    different = shape_differences(_without(fitting, heads), _without(own, heads))
    if different:
        advice = _advice(network, fitting, own) if head == "keep" else ""
        raise CheckpointMismatch(f"the weights of {origin} are of another architecture:\n{different}{advice}")
    return _without(fitting, heads)


def _without(weights: Mapping[str, Tensor], paths: Iterable[str]) -> Weights:
    paths = tuple(paths)
    return {name: value for name, value in weights.items() if not _in(name, paths)}


def _advice(network: nn.Module, weights: Weights, own: Mapping[str, Tensor]) -> str:
    """A hint where nothing but the head differs; else ""."""
    try:
        heads = heads_of(network)
    except UserError:
        return ""
    same = not shape_differences(_without(weights, heads), _without(own, heads))
    return "\nOnly the head differs: init.head: new draws it anew" if same else ""


def _in(name: str, paths: Iterable[str]) -> bool:
    return any(is_within(name, path) for path in paths)


def _counts(name: str) -> bool:
    return name.rpartition(".")[2] == COUNTER


def _renamed(weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Weights:
    """``weights`` by the network's names: without what tasks and wrappers have put before them (``model.image.``)."""
    weights = {_modern(name, own): value for name, value in weights.items()}
    shared = Counter({"": sum(name in own for name in weights)})
    for name in weights:
        parts = name.split(".")
        for place in range(1, len(parts)):
            shared[".".join(parts[:place]) + "."] += ".".join(parts[place:]) in own
    prefix = max(shared, key=lambda name: (shared[name], name == ""))
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
