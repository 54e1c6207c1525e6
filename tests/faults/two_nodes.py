"""A Ray cluster of two nodes on this machine, each a raylet of its own with one CPU, until the standard input ends.

A process of its own, since Ray's helper changes signal handlers and leaves the processes of a killed node behind.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from ray.cluster_utils import Cluster


def started(tries: int = 4) -> tuple[Cluster, Any]:
    """The cluster and its second node. Ray gives a node half a minute to start, which a busy machine may not keep."""
    cluster = Cluster()
    try:
        cluster.add_node(num_cpus=1, include_dashboard=False)
        second = cluster.add_node(num_cpus=1)
        cluster.wait_for_nodes(timeout=120)
    except Exception:  # a bare one is what Ray raises
        cluster.shutdown()
        if tries == 1:
            raise
        return started(tries - 1)
    return cluster, second


def main() -> None:
    """Print the address and the process id of the second node's raylet, and wait."""
    cluster, second = started()
    print(json.dumps({"address": cluster.address, "raylet": second.all_processes["raylet"][0].process.pid}), flush=True)
    sys.stdin.read()
    cluster.remove_node(second, allow_graceful=False)
    cluster.shutdown()


if __name__ == "__main__":
    main()
