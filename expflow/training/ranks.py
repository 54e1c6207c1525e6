"""Several ranks train one trial: how their processes find each other, agree, and look to Lightning.

The process group is joined once per process and kept for all trials that follow. Each rank is to Lightning a node of
its own with one device, which needs nothing but its public interface, whether ranks share a machine or not.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from lightning_fabric.plugins import ClusterEnvironment
from pytorch_lightning.strategies import DDPStrategy
from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined]  # torch exports them by `import *`

from expflow.config.identity import dump
from expflow.errors import RanksDisagree
from expflow.training.contract import Attempt, OnReport, World

MEETING = timedelta(minutes=5)
"""How long ranks wait for each other to come; whoever started them notices a dead one sooner."""


@dataclass
class _Group:
    """The process group of this process, and how many trials it has begun."""

    rank: int
    ranks: int
    store: Store
    trials: int = 0


_hosted: TCPStore | None = None
_group: _Group | None = None


def host(address: str, ranks: int) -> int:
    """Open the meeting point of ``ranks`` processes at ``address`` (an IP of this machine); returns its port."""
    global _hosted
    _hosted = TCPStore(address, 0, ranks, is_master=True, wait_for_workers=False, timeout=MEETING)
    return int(_hosted.port)


def join(rank: int, ranks: int, address: str, port: int) -> None:
    """Become ``rank`` of the process group that meets at ``address``; blocks until all have come.

    CPU tensors travel by gloo, those on GPUs by nccl, so that what ranks agree on never waits for a GPU.
    """
    global _group
    store = _hosted if rank == 0 and _hosted is not None else TCPStore(address, port, ranks, timeout=MEETING)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, store=PrefixStore("group", store), rank=rank, world_size=ranks)
    _group = _Group(rank, ranks, store)


def part() -> None:
    """Leave the process group, if this process is in one."""
    global _group, _hosted
    if _group is not None:
        dist.destroy_process_group()
    _group = _hosted = None


def agree(attempt: Attempt, world: World) -> None:
    """All ranks of a trial hold their attempts against each other, before any of them uses the process group.

    Ranks that train different things would wait for each other for ever, or silently average two trials. Raises
    :class:`~expflow.errors.RanksDisagree`, naming what differs.
    """
    if world.ranks == 1:
        return
    group = _joined(world)
    group.trials += 1
    mine = _digests(attempt)
    keys = [f"trial/{group.trials}/{rank}" for rank in range(world.ranks)]
    group.store.set(keys[world.rank], json.dumps(mine))
    group.store.wait(keys, MEETING)
    first: dict[str, str] = json.loads(group.store.get(keys[0]))
    if differing := [name for name, digest in mine.items() if first[name] != digest]:
        raise RanksDisagree(f"rank {world.rank} was given another {', '.join(differing)} than rank 0")


def _joined(world: World) -> _Group:
    if _group is None or (_group.rank, _group.ranks) != (world.rank, world.ranks):
        raise RanksDisagree(f"this process is not rank {world.rank} of a group of {world.ranks}")
    return _group


def _digests(attempt: Attempt) -> dict[str, str]:
    """A short hash of each thing that all ranks must share."""
    parts: dict[str, Any] = {
        "recipe": dump(attempt.recipe),
        "seed": attempt.seed,
        "attempt": attempt.number,
        "fork": attempt.forks,
        "origin": str(attempt.resume),
        "weights": attempt.weights.id if attempt.weights else "",
    }
    return {
        name: hashlib.sha256(json.dumps(part, sort_keys=True, default=str).encode()).hexdigest()[:16]
        for name, part in parts.items()
    }


def shared_decision(on_report: OnReport, world: World) -> OnReport:
    """``on_report`` for every rank: rank 0 reports, and all hear its answer at the same step."""
    if world.ranks == 1:
        return on_report

    def decide(report: Any) -> bool:
        answer = torch.tensor(on_report(report) if world.rank == 0 else True)
        dist.broadcast(answer, src=0)
        return bool(answer)

    return decide


def summed(values: list[float], world: World) -> list[float]:
    """The sums of ``values`` over all ranks. Numbers of the host: no rank waits for its device."""
    return _over_ranks(values, world, dist.ReduceOp.SUM)


def greatest(values: list[float], world: World) -> list[float]:
    """The greatest of ``values`` over all ranks, each by itself. Numbers of the host, as for :func:`summed`."""
    return _over_ranks(values, world, dist.ReduceOp.MAX)


def _over_ranks(values: list[float], world: World, operation: Any) -> list[float]:
    if world.ranks == 1:
        return values
    numbers = torch.tensor(values, dtype=torch.float64)
    dist.all_reduce(numbers, operation)  # Lightning's own reduce begins with a barrier, which waits for devices
    return numbers.tolist()


def as_on_the_first(tensors: Iterable[torch.Tensor]) -> None:
    """Give ``tensors`` the values that they have on rank 0. All ranks of the process group have to call it."""
    for each in tensors:
        dist.broadcast(each, src=0)


def trainer_options(world: World, *, unused: bool = False) -> dict[str, Any]:
    """What Lightning's Trainer is told of the other ranks.

    ``unused``: in some steps some parameters, which are trained in others, have no gradients.
    """
    if world.ranks == 1:
        return {}
    _joined(world)
    return {
        "num_nodes": world.ranks,
        "strategy": DDPStrategy(
            cluster_environment=_Environment(world), gradient_as_bucket_view=True, find_unused_parameters=unused
        ),
    }


class _Environment(ClusterEnvironment):
    """Tells Lightning that its processes are there already, each a node of its own."""

    def __init__(self, world: World) -> None:
        self._world = world

    @property
    def creates_processes_externally(self) -> bool:
        return True

    @property
    def main_address(self) -> str:
        return "the group is joined already"

    @property
    def main_port(self) -> int:
        return 0

    @staticmethod
    def detect() -> bool:
        return False

    def world_size(self) -> int:
        return self._world.ranks

    def set_world_size(self, size: int) -> None:
        """The world is what the runner says."""

    def global_rank(self) -> int:
        return self._world.rank

    def set_global_rank(self, rank: int) -> None:
        """The rank is what the runner says."""

    def local_rank(self) -> int:
        return 0

    def node_rank(self) -> int:
        return self._world.rank
