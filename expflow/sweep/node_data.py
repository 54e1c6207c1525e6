"""The prepared data of a trial on whatever node it runs: those of the driver's cache, else the node's own."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path

from expflow.config import load_site
from expflow.data.prepare.build import prepare
from expflow.data.prepare.prepared import PreparedData
from expflow.data.prepare.slots import SLOTS_FILE, prepare_slots, slot_roots
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
    if _is_seen(root):
        return root
    site = load_site()

    def prepare_one(source: ShardedSourceSpec) -> PreparedData:
        return prepare(source, cache=site.cache, folder=folder, site_path=site.data.get(source.name))

    if isinstance(spec, ShardedSourceSpec):
        data: PreparedData | None = prepare_one(spec.of_trial(assignment.seed))
    else:
        data = prepare_slots(assignment.recipe, prepare_one, Path(site.cache))
    if data is None:
        return root
    if data.manifest.content != assignment.data_content:
        raise DataInvalid(
            f"the data {_name(spec)} on {socket.gethostname()} are not those that the sweep began with: have the nodes "
            "see one folder (`cache:` in the site file), or name shards at an address that all of them reach"
        )
    return data.root


def _is_seen(root: Path) -> bool:
    """Whether this node sees the shards that the driver has in a folder, those of all slots."""
    if (root / SLOTS_FILE).exists():
        return all((folder / MANIFEST).exists() for folder in slot_roots(root).values())
    return (root / MANIFEST).exists()


def _name(data: object) -> str:
    parts = data.values() if isinstance(data, Mapping) else [data]
    return ", ".join(str(getattr(part, "name", "")) for part in parts)
