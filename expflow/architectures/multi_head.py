"""A classification network with several heads (Caruana 1997, "Multitask Learning", section 1.1)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from expflow.architectures.building import build as build_network
from expflow.architectures.heads import heads_of
from expflow.architectures.specs.multi_head import MultiHeadSpec
from expflow.data.dataspec import DataSpec
from expflow.errors import UserError

LEARNED = ("label", "labels", "numbers")
"""Kinds of fields that have a head."""


class MultiHead(nn.Module):
    """(b, c, h, w) -> field -> (b, k).

    Its children are the backbone's layers by their own names, and ``head`` with a layer for each field.

    Args:
        network: The classification network, a row of layers whose last is ``head``.
        widths: Field to how many numbers it has.
    """

    def __init__(self, network: nn.Sequential, widths: Mapping[str, int]) -> None:
        super().__init__()
        children = dict(network.named_children())
        old = children.pop("head")
        self._used = tuple(children)
        for name, module in children.items():
            self.add_module(name, module)
        features: int = old.in_features  # type: ignore[assignment]  # a linear layer, which build() has checked
        self.head = nn.ModuleDict({field: nn.Linear(features, width) for field, width in widths.items()})

    def forward(self, x_bchw: Tensor) -> dict[str, Tensor]:
        """(b, c, h, w) -> field -> (b, k)."""
        x = x_bchw
        for name in self._used:
            x = getattr(self, name)(x)
        return {field: head(x) for field, head in self.head.items()}


def build(spec: MultiHeadSpec, data_spec: DataSpec) -> MultiHead:
    """The network of ``spec`` with a head for each field of the data that can be learned by one.

    Args:
        spec: What the user chose.
        data_spec: The images and their fields; without any such field one for the classes, ``label``.

    Raises:
        UserError: The backbone has no linear layer ``head`` at its end.
    """
    network = build_network(spec.backbone_spec(), data_spec)
    ends = isinstance(network, nn.Sequential) and heads_of(network) == ("head",)
    if not isinstance(network, nn.Sequential) or not ends or not isinstance(network[-1], nn.Linear):
        raise UserError(
            f"model multi_head: {spec.backbone} does not end in one linear layer `head`; choose another, resnet18 for"
            " example"
        )
    widths = {name: data_spec.outputs(name) for kind in LEARNED for name in data_spec.of_kind(kind)}  # type: ignore[arg-type]
    return MultiHead(network, widths or {"label": data_spec.num_classes})
