"""Architectures: parametric families and the user's own networks. Importing this package imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from expflow.config.spec import Foreign, Spec
from expflow.data.dataspec import DataSpec
from expflow.errors import ExpflowError, UserError
from expflow.registry import construct, load_dotted

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Count", "build", "count", "supplied_by"]


@dataclass(frozen=True)
class Count:
    """What a network costs. ``macs``: multiply-adds of one forward pass of one sample, None where they are unknown."""

    params: int
    macs: int | None


def supplied_by(data_spec: DataSpec) -> dict[str, object]:
    """What the data tell a component of the user's whose signature asks for it and whose YAML does not say."""
    supplied: dict[str, object] = {"data_spec": data_spec}
    if data_spec.classes:
        supplied["num_classes"] = data_spec.num_classes
    if "image" in data_spec.fields:
        supplied |= {"in_channels": data_spec.in_channels, "image_size": data_spec.image_size}
    return supplied


def build(spec: Spec, data_spec: DataSpec) -> nn.Module:
    """The network that ``spec`` describes, sized for ``data_spec``.

    A registered architecture is built by its family, a :class:`Foreign` one by its own constructor, which is given
    ``in_channels``, ``num_classes``, ``image_size`` and ``data_spec`` where it has parameters of these names.
    Raises :class:`UserError` with the reason when it cannot be built.
    """
    from torch import nn

    try:
        if isinstance(spec, Foreign):
            network = construct(spec.name, spec.arguments, supplied_by(data_spec))
        elif data_spec.classes and "image" in data_spec.fields:
            network = load_dotted(spec.build)(spec, data_spec)
        else:
            raise UserError(f"model {spec.name} needs data with the field image and with classes")
    except ExpflowError:
        raise
    except Exception as error:  # a constructor, the user's own above all, may raise anything: it is their reason
        raise UserError(f"model {spec.name} cannot be built: {type(error).__name__}: {error}") from error
    if not isinstance(network, nn.Module):
        raise UserError(f"model {spec.name} is a {type(network).__name__}; a torch.nn.Module is needed")
    return network


def count(slot: Spec | Mapping[str, Spec], data_spec: DataSpec) -> Count:
    """Parameters and multiply-adds of a network for one image of ``data_spec``, without allocating its weights.

    Several networks: the sum of their parameters, no multiply-adds (what flows through them is the task's secret).
    Raises :class:`UserError` with the reason when the network cannot be built or cannot take such an image.
    """
    from expflow.architectures.accounting import count_network

    if isinstance(slot, Mapping):
        return Count(sum(count_network(each, data_spec, forward=False).params for each in slot.values()), None)
    return count_network(slot, data_spec)
