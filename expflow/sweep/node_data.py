"""The prepared data of a trial on whatever node it runs: those of the driver's cache, else the node's own."""

from __future__ import annotations

import socket
from pathlib import Path

from expflow.config import load_site
from expflow.data.prepare.build import prepare
from expflow.data.shards.manifest import MANIFEST
from expflow.data.source_spec import ShardedSourceSpec
from expflow.errors import DataInvalid
from expflow.sweep.assignment import Assignment


def data_on_this_node(assignment: Assignment, folder: Path | None) -> Path | None:
    """The folder of a trial's shards. Where this node does not see the driver's cache, they are prepared here, once.

    Args:
        assignment: The trial, and where the driver has its shards.
        folder: Where relative paths of the recipe start.

    Returns:
        The folder of the manifest; None where the task needs no data.

    Raises:
        DataInvalid: What this node has is not what the driver has.
        DataMissing: The source's files are not on this node. Also what
            :func:`~expflow.data.prepare.build.prepare` raises.
    """
    spec = assignment.recipe.data
    if assignment.data_root is None:
        return None
    root = Path(assignment.data_root)
    if (root / MANIFEST).exists() or not isinstance(spec, ShardedSourceSpec):
        return root
    site, own = load_site(), spec.of_trial(assignment.seed)
    data = prepare(own, cache=site.cache, folder=folder, site_path=site.data.get(own.name))
    if data.manifest.content != assignment.data_content:
        raise DataInvalid(
            f"the data {own.name} on {socket.gethostname()} are not those that the sweep began with: have the nodes "
            "see one folder (`cache:` in the site file), or name shards at an address that all of them reach"
        )
    return data.root
