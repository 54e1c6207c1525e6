"""Architectures: parametric families of networks, networks of installed packages, and the user's own.

Importing this package imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping

from expflow.architectures.building import build, supplied_by
from expflow.architectures.network_cost import NetworkCost
from expflow.config.spec import Spec
from expflow.data.dataspec import DataSpec
from expflow.errors import UserError

__all__ = ["NetworkCost", "build", "count", "supplied_by"]


def count(slot: Spec | Mapping[str, Spec], data_spec: DataSpec) -> NetworkCost:
    """Parameters and multiply-adds of a recipe's networks for one image, without allocating their weights.

    Args:
        slot: One network, or several under the user's names. Of several only the parameters are counted: what enters
            each of them is decided inside the task.
        data_spec: The images and classes that the networks are built for.

    Raises:
        UserError: A network cannot be built, or cannot take such an image; the message has the reason, behind the name
            of the network where there are several.
    """
    from expflow.architectures.accounting import count_network

    if isinstance(slot, Mapping):
        parts = dict[str, int]()
        for name, spec in slot.items():
            try:
                parts[name] = count_network(spec, data_spec, forward=False).params
            except UserError as error:
                raise UserError(f"{name}: {error}") from error
        return NetworkCost(sum(parts.values()), None, parts)
    return count_network(slot, data_spec)
