"""Several ranks train one trial: how their processes find each other, agree, and look to Lightning.

The process group is joined once per process and kept for all trials that follow. Each rank is to Lightning a node of
its own with one device, which needs nothing but Lightning's public interface, whether ranks share a machine or not.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import socket
import struct
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from lightning_fabric.plugins import ClusterEnvironment
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from pytorch_lightning.strategies import DDPStrategy
from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined]  # torch exports them by `import *`

from expflow.config.identity import dump
from expflow.errors import RanksDisagree
from expflow.training.contract import Attempt, OnReport, World

MEETING = timedelta(minutes=5)
"""How long ranks wait for each other to connect; a dead one is noticed sooner, by the process that started it."""


_SIOCGIFADDR = 0x8915
"""Linux: the address of a network interface."""


@dataclass
class _ProcessGroup:
    """The process group of this process, and how many trials it has begun."""

    rank: int
    ranks: int
    store: Store
    trials: int = 0


_hosted: TCPStore | None = None
_group: _ProcessGroup | None = None


def host_rendezvous(address: str, ranks: int) -> int:
    """Open the rendezvous store that the ranks of a group connect to.

    Args:
        address: An IP address of this machine; the store listens on it alone.
        ranks: How many ranks the group has.

    Returns:
        The store's port.
    """
    global _hosted
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as listener:
        listener.bind((address, 0))  # by itself the store would listen on all interfaces
        port = int(listener.getsockname()[1])
        _hosted = TCPStore(
            address,
            port,
            ranks,
            is_master=True,
            wait_for_workers=False,
            timeout=MEETING,
            master_listen_fd=listener.detach(),
        )
    return port


def keep_to_interface(address: str) -> None:
    """Have gloo and nccl listen on one network interface, unless the user's environment names one.

    Args:
        address: An IP address of that interface.
    """
    interface = interface_of(address)
    for variable in ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"):
        if interface and variable not in os.environ:
            os.environ[variable] = interface


def interface_of(address: str) -> str:
    """The name of the network interface that has an address; empty where the system does not tell.

    Args:
        address: An IP address of this machine.
    """
    if not sys.platform.startswith("linux") or ":" in address:
        return ""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            with suppress(OSError):  # an interface without an address
                answer = fcntl.ioctl(probe, _SIOCGIFADDR, struct.pack("256s", name.encode()))
                if socket.inet_ntoa(answer[20:24]) == address:
                    return name
    return ""


def join_group(rank: int, ranks: int, address: str, port: int, own_address: str) -> None:
    """Join the process group; blocks until all ranks have connected.

    CPU tensors travel by gloo, those on GPUs by nccl, so that what ranks agree on never waits for a GPU.

    Args:
        rank: This process's rank.
        ranks: How many ranks the group has.
        address: Where :func:`host_rendezvous` was called.
        port: What it returned.
        own_address: This process's own IP address: what ranks send each other goes through its interface alone.
    """
    global _group
    keep_to_interface(own_address)
    store = _hosted if rank == 0 and _hosted is not None else TCPStore(address, port, ranks, timeout=MEETING)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    dist.init_process_group(backend, store=PrefixStore("group", store), rank=rank, world_size=ranks)
    _group = _ProcessGroup(rank, ranks, store)


def leave_group() -> None:
    """Leave the process group, if this process is in one."""
    global _group, _hosted
    if _group is not None:
        dist.destroy_process_group()
    _group = _hosted = None


def verify_same_attempt(attempt: Attempt, world: World) -> None:
    """Compare the attempts of all ranks of a trial, before any of them uses the process group.

    Ranks that train different trials would wait for each other for ever, or silently average two trials.

    Args:
        attempt: What this rank is about to train.
        world: Its place among the trial's ranks.

    Raises:
        RanksDisagree: Rank 0's attempt differs; the message names in what.
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


def _joined(world: World) -> _ProcessGroup:
    if _group is None or (_group.rank, _group.ranks) != (world.rank, world.ranks):
        raise RanksDisagree(f"this process is not rank {world.rank} of a group of {world.ranks}")
    return _group


def _digests(attempt: Attempt) -> dict[str, str]:
    """A short hash of each part that all ranks must share."""
    parts: dict[str, Any] = {
        "recipe": dump(attempt.recipe),
        "seed": attempt.seed,
        "attempt": attempt.number,
        "fork": attempt.forks,
        "origin": str(attempt.resume),
        "weights": attempt.weights.id if attempt.weights else "",
        "features": attempt.features.id if attempt.features else "",
        "labeller": attempt.labeller.id if attempt.labeller else "",
    }
    return {
        name: hashlib.sha256(json.dumps(part, sort_keys=True, default=str).encode()).hexdigest()[:16]
        for name, part in parts.items()
    }


def shared_decision(on_report: OnReport, world: World) -> OnReport:
    """``on_report`` for every rank: rank 0 reports, and all get the answer at the same step.

    Args:
        on_report: Called on rank 0 alone.
        world: This rank's place among the trial's ranks.
    """
    if world.ranks == 1:
        return on_report

    def decide(report: Any) -> bool:
        answer = torch.tensor(on_report(report) if world.rank == 0 else True)
        dist.broadcast(answer, src=0)
        return bool(answer)

    return decide


def sum_over_ranks(values: list[float], world: World) -> list[float]:
    """The sums over all ranks, each value by itself. Numbers of the host: no rank waits for its device.

    Args:
        values: This rank's; all ranks have as many.
        world: This rank's place among the trial's ranks.
    """
    return _over_ranks(values, world, dist.ReduceOp.SUM)


def max_over_ranks(values: list[float], world: World) -> list[float]:
    """The maxima over all ranks, each value by itself. Numbers of the host, as for :func:`sum_over_ranks`.

    Args:
        values: This rank's; all ranks have as many.
        world: This rank's place among the trial's ranks.
    """
    return _over_ranks(values, world, dist.ReduceOp.MAX)


def _over_ranks(values: list[float], world: World, operation: Any) -> list[float]:
    if world.ranks == 1:
        return values
    numbers = torch.tensor(values, dtype=torch.float64)
    dist.all_reduce(numbers, operation)  # Lightning's own reduce begins with a barrier, which waits for devices
    return numbers.tolist()


def broadcast_object(value: Any, world: World) -> Any:
    """Rank 0's object, on every rank. All ranks have to call it.

    Args:
        value: Any object that can be pickled; looked at on rank 0 alone.
        world: This rank's place among the trial's ranks.
    """
    if world.ranks == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def gather_objects(value: Any, world: World) -> list[Any]:
    """The objects of all ranks, in their order, on every rank. All ranks have to call it.

    Args:
        value: Any object that can be pickled.
        world: This rank's place among the trial's ranks.
    """
    if world.ranks == 1:
        return [value]
    values: list[Any] = [None] * world.ranks
    dist.all_gather_object(values, value)
    return values


def broadcast_from_rank_zero(tensors: Iterable[torch.Tensor]) -> None:
    """Give tensors the values that they have on rank 0. All ranks of the process group have to call it.

    Args:
        tensors: The same ones, by shape and order, on all ranks; they are written in place.
    """
    for tensor in tensors:
        dist.broadcast(tensor, src=0)


def trainer_options(world: World, *, unused: bool = False) -> dict[str, Any]:
    """Arguments of Lightning's Trainer that describe the other ranks.

    Args:
        world: This rank's place among the trial's ranks.
        unused: Whether in some steps some parameters, which are trained in others, have no gradients.
    """
    if world.ranks == 1:
        return {}
    _joined(world)
    return {
        "num_nodes": world.ranks,
        "strategy": DDPStrategy(
            cluster_environment=_JoinedEnvironment(world), gradient_as_bucket_view=True, find_unused_parameters=unused
        ),
    }


def environment_plugins(world: World) -> list[ClusterEnvironment]:
    """What tells Lightning that a rank stands alone, so that it looks for no launcher; with others its strategy does.

    Args:
        world: This rank's place among the trial's ranks.
    """
    return [LightningEnvironment()] if world.ranks == 1 else []


class _JoinedEnvironment(ClusterEnvironment):
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
