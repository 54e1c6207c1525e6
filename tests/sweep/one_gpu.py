"""A Ray cluster of one node with three CPUs and a GPU that is there in name alone, until the standard input ends."""

from __future__ import annotations

import json
import sys

from ray.cluster_utils import Cluster


def main() -> None:
    """Print the address, and wait."""
    cluster = Cluster()
    try:
        cluster.add_node(num_cpus=3, num_gpus=1, include_dashboard=False)
        cluster.wait_for_nodes(timeout=120)
        print(json.dumps({"address": cluster.address}), flush=True)
        sys.stdin.read()
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main()
