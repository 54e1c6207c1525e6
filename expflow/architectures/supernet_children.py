"""From architecture weights to the child that they stand for.

Source:
    Liu et al. 2019, "DARTS: Differentiable Architecture Search", section 2.4: of each node the two strongest edges, of
    each edge the strongest operation; none counts for nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from expflow.architectures.specs.child_cells import INPUTS
from expflow.architectures.supernet import KINDS, ChildPath, Mixing, Supernet, edges_of

_EDGES_OF_A_NODE = 2

Choice = tuple[int, int]
"""Place of an edge, and of its operation."""


def chosen_edges(network: Supernet, weights_eo: Tensor) -> list[Choice]:
    """The edges that a child keeps, with the operation of each.

    Args:
        network: The network.
        weights_eo: How much of each operation each edge passes on.
    """
    strongest = weights_eo.max(1)
    values, operations = strongest.values.tolist(), strongest.indices.tolist()
    edges = edges_of(network.nodes)
    kept = []
    for node in range(INPUTS, network.nodes + INPUTS):
        places = [place for place, (reader, _) in enumerate(edges) if reader == node]
        kept += sorted(sorted(places, key=lambda place: -values[place])[:_EDGES_OF_A_NODE])
    return [(place, operations[place]) for place in kept]


def child_texts(network: Supernet) -> dict[str, str]:
    """The child that the architecture weights stand for: ``model.normal`` and ``model.reduction`` as a recipe has them.

    Args:
        network: The network.
    """
    mixing = network.mixing([weights.detach().double().cpu() for weights in network.architecture])
    return {f"model.{kind}": _cell_text(network, weights) for kind, weights in zip(KINDS, mixing, strict=True)}


def _cell_text(network: Supernet, weights_eo: Tensor) -> str:
    edges, terms = edges_of(network.nodes), dict[int, list[str]]()
    for place, operation in chosen_edges(network, weights_eo):
        node, source = edges[place]
        terms.setdefault(node, []).append(f"{network.operation_names[operation]}({source})")
    outputs = " ".join(map(str, terms))
    return f"{', '.join(' + '.join(pair) for pair in terms.values())} > {outputs}"


def strongest_path(network: Supernet) -> ChildPath:
    """The child that the architecture weights stand for, as a path through the network.

    Args:
        network: The network.
    """
    normal, reduction = (_path_of(network, weights) for weights in network.mixing(network.architecture))
    return normal, reduction


def _path_of(network: Supernet, weights_eo: Tensor) -> list[int]:
    chosen = dict(chosen_edges(network, weights_eo))
    return [chosen.get(place, len(network.operation_names)) for place in range(len(weights_eo))]


def sampled_path(network: Supernet, generator: torch.Generator) -> ChildPath:
    """A child drawn from the architecture weights: on each edge one operation, or none, by their softmax.

    Args:
        network: The network.
        generator: Where the randomness comes from; on the CPU.
    """
    normal, reduction = (
        torch.multinomial(torch.softmax(weights.detach().double().cpu(), 1), 1, generator=generator)[:, 0].tolist()
        for weights in network.architecture[: len(KINDS)]
    )
    return normal, reduction


def log_probability(architecture: Sequence[Tensor], path: ChildPath) -> Tensor:
    """The logarithm () of the probability that :func:`sampled_path` draws a child.

    Args:
        architecture: Tensors like :attr:`Supernet.architecture`.
        path: The child.
    """
    terms = []
    for weights_eo, chosen in zip(architecture, path, strict=False):
        places = torch.tensor(chosen, device=weights_eo.device)[:, None]
        terms.append(torch.log_softmax(weights_eo, 1).gather(1, places).sum())
    return torch.stack(terms).sum()


def discrete_mixing(network: Supernet) -> Mixing:
    """The mixing of the child alone, by the network's shared weights: 1 where it has an operation, else 0.

    Args:
        network: The network.
    """
    normal, reduction = network.mixing(network.architecture)
    return _one_hot(network, normal), _one_hot(network, reduction)


def _one_hot(network: Supernet, weights_eo: Tensor) -> Tensor:
    discrete_eo = torch.zeros_like(weights_eo)
    for place, operation in chosen_edges(network, weights_eo):
        discrete_eo[place, operation] = 1.0
    return discrete_eo
