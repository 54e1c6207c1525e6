"""A Ray cluster of two nodes on this machine, each a raylet of its own with one CPU, until the standard input ends.

A process of its own, since Ray's helper changes signal handlers and leaves the processes of a killed node behind.
"""

from __future__ import annotations

import json
import sys

from ray.cluster_utils import Cluster


def main() -> None:
    """Print the address and the process id of the second node's raylet, and wait."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    second = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    print(json.dumps({"address": cluster.address, "raylet": second.all_processes["raylet"][0].process.pid}), flush=True)
    sys.stdin.read()
    cluster.remove_node(second, allow_graceful=False)
    cluster.shutdown()


if __name__ == "__main__":
    main()
