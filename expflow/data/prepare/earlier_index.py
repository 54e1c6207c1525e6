"""Shards of others are compared by content with what was indexed of them before.

They are indexed again when a size or a time of change differs, as it does after copying. Without this comparison a
damaged copy would be indexed as it is, and then agree with its own index.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from expflow.data.prepare.shard_jobs import BuildJob
from expflow.data.shards.manifest import MANIFEST, ShardEntry, read_manifest
from expflow.errors import DataMissing, ShardCorrupt


def check_as_before(job: BuildJob, shards: Sequence[ShardEntry]) -> None:
    """Compare shards with what was indexed at the same place earlier.

    Args:
        job: the build that indexed them now, beside whose folder the earlier indexes lie.
        shards: what was indexed now.

    Raises:
        ShardCorrupt: one has another content than it had.
    """
    if not isinstance(job.origin, Path):
        return  # what lies at an address is indexed once
    now = {shard.name: shard.sha256 for shard in shards}
    for path in sorted(job.folder.parent.glob(f"{job.spec.name}-*/{MANIFEST}")):
        then = _indexed_at(path.parent, str(job.origin))
        if changed := sorted(name for name, sha256 in then.items() if now.get(name, sha256) != sha256):
            name = changed[0]
            raise ShardCorrupt(
                f"{job.where}: {len(changed)} shards are not what they were when they were indexed first, such as"
                f" {name}: expected sha256 {then[name]}, found {now[name]}. Get them again; if they were changed on"
                f" purpose, delete {path.parent}, which remembers what they were"
            )


def _indexed_at(root: Path, origin: str) -> dict[str, str]:
    """The sha256 of each shard that ``root`` is an index of, if they lie at ``origin``; none where it is damaged."""
    try:
        manifest = read_manifest(root)
    except (DataMissing, ShardCorrupt):
        return {}
    return {shard.name: shard.sha256 for shard in manifest.all_shards()} if manifest.at == origin else {}
