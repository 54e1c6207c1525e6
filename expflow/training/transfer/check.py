"""What of a recipe's ``init`` its network does not bear out, found before anything is started."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping

from torch import Tensor, nn

from expflow.architectures.accounting import measured
from expflow.architectures.heads import check_paths
from expflow.config.initial import Init
from expflow.config.schema import Recipe
from expflow.config.spec import Spec
from expflow.data.dataspec import DataSpec
from expflow.errors import CheckpointDamaged, CheckpointUnsafe, UserError
from expflow.training.transfer.features import check
from expflow.training.transfer.freezing import FrozenPart
from expflow.training.transfer.source import Pretrained
from expflow.training.transfer.weights import fitted, read

Complaint = tuple[str, str]


def complaints(recipe: Recipe, data_spec: DataSpec, pretrained: Pretrained | None) -> list[Complaint]:
    """(recipe key, message) of each thing that is wrong: names that lead nowhere, weights that do not fit or read.

    The network is built on the meta device. Raises UserError where it cannot be built.
    """
    init, spec = recipe.init, recipe.model
    if init is None or not isinstance(spec, Spec):
        return []
    weights, found = None, list[Complaint]()
    if pretrained is not None:
        try:
            weights = _read(pretrained, recipe.trainer.checkpoint.allow)
        except (CheckpointUnsafe, CheckpointDamaged, UserError) as error:
            found.append(("init.from", str(error)))
    origin = pretrained.origin if pretrained is not None else ""
    return found + measured(
        spec, data_spec, lambda network: list(_said(_checks(network, recipe, init, weights, origin)))
    )


@functools.lru_cache(maxsize=1)
def _read(pretrained: Pretrained, allow: tuple[str, ...]) -> dict[str, Tensor]:
    """All configs of a plan mostly begin with the same weights."""
    return read(pretrained, allow)


def _checks(
    network: nn.Module, recipe: Recipe, init: Init, weights: Mapping[str, Tensor] | None, origin: str
) -> Iterator[tuple[str, Callable[[], object]]]:
    if weights is not None:
        yield "init.from", lambda: fitted(network, weights, head=init.head, origin=origin)
    if init.frozen:
        yield "init.freeze", lambda: FrozenPart(network, init.frozen)
    yield "init.lr_scale", lambda: check_paths(network, init.lr_scale, "init.lr_scale")
    if init.probe:
        yield "init.probe", lambda: check(network, recipe)


def _said(checks: Iterator[tuple[str, Callable[[], object]]]) -> Iterator[Complaint]:
    for key, look in checks:
        try:
            look()
        except UserError as error:
            yield key, str(error).removeprefix(f"{key}: ").removeprefix(f"{key}.")
