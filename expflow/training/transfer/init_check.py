"""Checks that a recipe's ``init`` fits its network, before anything is started."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping

from torch import Tensor, nn

from expflow.architectures.accounting import measure_network
from expflow.architectures.heads import check_paths
from expflow.config.initial_weights import Init
from expflow.config.schema import Recipe
from expflow.config.spec import Spec
from expflow.data.dataspec import DataSpec
from expflow.errors import CheckpointDamaged, CheckpointUnsafe, UserError
from expflow.training.transfer.freezing import FrozenPart
from expflow.training.transfer.pretrained import PretrainedWeights
from expflow.training.transfer.probe_features import probed_head
from expflow.training.transfer.weight_loading import fitting_weights, read_pretrained

InitProblem = tuple[str, str]


def init_problems(recipe: Recipe, data_spec: DataSpec, pretrained: PretrainedWeights | None) -> list[InitProblem]:
    """All that is wrong with ``init``: paths that lead nowhere, weights that do not fit or cannot be read.

    The network is built on the meta device.

    Args:
        recipe: What would be trained.
        data_spec: Its data.
        pretrained: The files that ``init.from`` led to; None without one.

    Returns:
        (recipe key, message) of each problem.

    Raises:
        UserError: The network cannot be built.
    """
    init, spec = recipe.init, recipe.model
    if init is None or not isinstance(spec, Spec):
        return []
    weights, problems = None, list[InitProblem]()
    if pretrained is not None:
        try:
            weights = _read(pretrained, recipe.trainer.checkpoint.allow)
        except (CheckpointUnsafe, CheckpointDamaged, UserError) as error:
            problems.append(("init.from", str(error)))
    origin = pretrained.origin if pretrained is not None else ""
    return problems + measure_network(
        spec, data_spec, lambda network: list(_problems(_checks(network, recipe, init, weights, origin)))
    )


@functools.lru_cache(maxsize=1)
def _read(pretrained: PretrainedWeights, allow: tuple[str, ...]) -> dict[str, Tensor]:
    """Cached, because the configs of a plan mostly begin with the same weights."""
    return read_pretrained(pretrained, allow)


def _checks(
    network: nn.Module, recipe: Recipe, init: Init, weights: Mapping[str, Tensor] | None, origin: str
) -> Iterator[tuple[str, Callable[[], object]]]:
    if weights is not None:
        yield "init.from", lambda: fitting_weights(network, weights, head=init.head, origin=origin)
    if init.frozen:
        yield "init.freeze", lambda: FrozenPart(network, init.frozen)
    yield "init.lr_scale", lambda: check_paths(network, init.lr_scale, "init.lr_scale")
    if init.probe:
        yield "init.probe", lambda: probed_head(network, recipe)


def _problems(checks: Iterator[tuple[str, Callable[[], object]]]) -> Iterator[InitProblem]:
    for key, check in checks:
        try:
            check()
        except UserError as error:
            yield key, str(error).removeprefix(f"{key}: ").removeprefix(f"{key}.")
