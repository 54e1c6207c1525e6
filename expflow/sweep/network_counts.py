"""What the networks of a plan cost, without importing torch here: as counted before, or in a fork that has torch.

Counts are kept in the cache folder under a key of all that they follow from. So a sweep whose plan was shown, or that
is continued, does not pay for torch again.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from expflow import architectures
from expflow.architectures import NetworkCost, count
from expflow.config.identity import dump
from expflow.config.schema import Recipe
from expflow.config.spec import Spec, UserComponent
from expflow.data.dataspec import DataSpec
from expflow.data.prepare.prepared import PreparedData
from expflow.errors import ExperimentInvalid, UserError
from expflow.files import write_atomically
from expflow.sweep.plan import Plan
from expflow.sweep.plan_identity import digest
from expflow.sweep.provenance import package_versions
from expflow.training.template.process import RankTemplate, TemplateLost
from expflow.training.transfer.pretrained import PretrainedWeights

COUNTS_FOLDER = "counts"
"""Folder in the cache that holds what was counted, one file for each experiment file."""

_MOST_KEPT = 10_000
"""Networks of one experiment file whose counts are kept."""


@dataclass(frozen=True)
class BuildCheck:
    """A config whose network is built on the meta device.

    Attributes:
        recipe: The config's recipe.
        data: What the network is built for; None where only the task's own code knows.
        weights: What it begins with; None for fresh weights.
        batch: Samples of a batch in one rank, whose memory is counted; None: it is not.
    """

    recipe: Recipe
    data: DataSpec | None
    weights: PretrainedWeights | None = None
    batch: int | None = None


@dataclass(frozen=True)
class BuildFinding:
    """What came of a :class:`BuildCheck`.

    Attributes:
        cost: Parameters and multiply-adds; None where they are not known, or the network cannot be built.
        refused: Why it cannot be built; empty where it can.
        problems: Contradictions between ``init`` and the network, by key.
        memory: Bytes of a training step by count; None where they were not asked for.
    """

    cost: NetworkCost | None
    refused: str = ""
    problems: tuple[tuple[str, str], ...] = ()
    memory: int | None = None


def count_recipe(recipe: Recipe, data: PreparedData | None) -> NetworkCost | None:
    """Parameters and multiply-adds; None where the task brings its own network or data, whose shapes only its code
    knows.

    Args:
        recipe: The recipe.
        data: Its prepared data.
    """
    if recipe.model is None or data is None:
        return None
    return count(recipe.model, data.spec)


def check_all(checks: Sequence[BuildCheck]) -> list[BuildFinding]:
    """Build each network on the meta device, in this process.

    Args:
        checks: The configs.
    """
    return [_check(check) for check in checks]


def _check(check: BuildCheck) -> BuildFinding:
    recipe, data = check.recipe, check.data
    if recipe.model is None or data is None:
        return BuildFinding(None)
    try:
        cost = count(recipe.model, data)
        if recipe.init is None or recipe.init.parent or not isinstance(recipe.model, Spec):
            return BuildFinding(cost, memory=_memory(check))
        from expflow.training.transfer.init_check import init_problems  # imports torch

        return BuildFinding(cost, problems=tuple(init_problems(recipe, data, check.weights)))
    except ExperimentInvalid:  # its message has the place already
        raise
    except UserError as error:
        return BuildFinding(None, refused=str(error))


def _memory(check: BuildCheck) -> int | None:
    if check.batch is None or check.data is None or not isinstance(check.recipe.model, Spec | UserComponent):
        return None
    from expflow.architectures.training_memory import training_bytes  # imports torch

    return training_bytes(check.recipe.model, check.data, check.batch)


def check_networks(
    plan: Plan, checks: Sequence[BuildCheck], template: RankTemplate | None = None
) -> list[BuildFinding]:
    """Build each network on the meta device, unless that was done before.

    Args:
        plan: The plan that the configs belong to.
        checks: The configs.
        template: Builds them in a fork that has imported torch already; None: they are built in this process.

    Returns:
        What came of each check.
    """
    kept = _KeptCounts(plan)
    findings = [kept.finding(check) for check in checks]
    missing = [index for index, finding in enumerate(findings) if finding is None]
    for index, finding in zip(missing, _build([checks[index] for index in missing], template), strict=True):
        findings[index] = finding
        kept.add(checks[index], finding)
    if missing:
        kept.save()
    return [finding for finding in findings if finding is not None]


def _build(checks: Sequence[BuildCheck], template: RankTemplate | None) -> list[BuildFinding]:
    if checks and template is not None and "torch" not in sys.modules and template.start():
        with contextlib.suppress(TemplateLost):  # then it is done here, where whatever is wrong is raised
            findings: list[BuildFinding] = template.call("expflow.sweep.network_counts:check_all", list(checks))
            return findings
    return check_all(checks)


class _KeptCounts:
    """The counts of one experiment file's networks. Those of the user's own networks are not kept: what their code
    computes may follow from anything."""

    def __init__(self, plan: Plan) -> None:
        file = plan.loaded.experiment.file
        self._path = Path(plan.site.cache) / COUNTS_FOLDER / f"{digest(str(file.absolute()))}.json"
        self._around = [package_versions(), _own_code()]
        self._counts = self._read()

    def _read(self) -> dict[str, NetworkCost]:
        try:
            content = json.loads(self._path.read_bytes())
            return {
                str(key): NetworkCost(int(params), macs, dict(*parts))
                for key, (params, macs, *parts) in content.items()
            }
        except (OSError, ValueError, TypeError, AttributeError):  # nothing, or damaged: it is counted again
            return {}

    def _key(self, check: BuildCheck) -> str | None:
        model = check.recipe.model
        init = check.recipe.init
        if check.data is None or model is None or check.batch is not None or (init is not None and not init.parent):
            return None
        networks = model if isinstance(model, Mapping) else {"": model}
        if any(isinstance(network, UserComponent) for network in networks.values()):
            return None
        return digest([self._around, dump(check.recipe).get("model"), check.data.to_json()])

    def finding(self, check: BuildCheck) -> BuildFinding | None:
        key = self._key(check)
        return BuildFinding(self._counts[key]) if key in self._counts else None

    def add(self, check: BuildCheck, finding: BuildFinding) -> None:
        key = self._key(check)
        if key is not None and finding.cost is not None:
            self._counts[key] = finding.cost

    def save(self) -> None:
        items = list(self._counts.items())[-_MOST_KEPT:]
        newest = {key: [cost.params, cost.macs, *([dict(cost.parts)] if cost.parts else [])] for key, cost in items}
        with contextlib.suppress(OSError):  # a cache that cannot be written costs time and nothing else
            write_atomically(self._path, json.dumps(newest).encode())


def _own_code() -> list[tuple[str, int, int]]:
    """Names, sizes and times of the files that build and count networks."""
    files = sorted(Path(architectures.__file__).parent.rglob("*.py"))
    return [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
