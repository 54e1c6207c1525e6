"""The text that ``expflow data stats`` prints about shards."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from expflow.data.dataspec import VOID
from expflow.data.shards.manifest import LARGEST_MANIFEST, ShardManifest, how_to_rebuild
from expflow.data.shards.statistics import SIDES, SampleCounts
from expflow.data.sources.base import printable
from expflow.errors import ShardCorrupt
from expflow.files import read_bounded

MOST_NAMED = 20
"""Classes and bad images that are named; ``statistics.json`` beside the manifest has them all."""

BAR = 30
"""Characters of the longest bar of a histogram."""


def read_statistics(root: Path, manifest: ShardManifest) -> SampleCounts | None:
    """Read what was counted when the shards were built; None where an older version built them.

    Args:
        root: folder of the manifest.
        manifest: the manifest in it.

    Raises:
        ShardCorrupt: the file of the counts is not what the manifest says.
    """
    if manifest.statistics is None:
        return None
    path = root / manifest.statistics.name
    try:
        content = read_bounded(path, LARGEST_MANIFEST)
        if hashlib.sha256(content).hexdigest() != manifest.statistics.sha256:
            raise ValueError(f"expected sha256 {manifest.statistics.sha256}, found another")
        return SampleCounts.from_json(json.loads(content))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ShardCorrupt(f"{path}: {error}; {how_to_rebuild(root)}") from error


def summary_lines(root: Path, manifest: ShardManifest) -> Iterator[str]:
    """Iterate over the lines about a folder of shards.

    Args:
        root: folder of the manifest.
        manifest: the manifest in it.

    Raises:
        ShardCorrupt: the file of the counts is not what the manifest says.
    """
    yield f"{manifest.source.get('name', '')} {manifest.key}  {manifest.at or root}"
    for split, shards in manifest.splits.items():
        size = sum(shard.bytes for shard in shards)
        yield f"{split:5} {manifest.samples(split):>11,} samples in {len(shards):,} shards, {_bytes(size)}"
    spec = manifest.spec
    if spec.mean:
        yield f"mean  {_numbers(spec.mean)}"
        yield f"std   {_numbers(spec.std)}"
    yield from manifest.notes
    if manifest.passed_over.counts:
        yield f"{manifest.passed_over.counts.total():,} files or members were not read:"
        yield from (f"  {line}" for line in manifest.passed_over.lines())
    counts = read_statistics(root, manifest)
    if counts is None:
        yield f"{spec.num_classes} classes; nothing else was counted, because an older version built these shards"
        return
    yield from _classes(manifest, counts)
    yield from _images(counts)
    yield from _bad(counts)


def _bytes(size: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if size < 1000:
            return f"{size:.4g} {unit}"
        size /= 1000
    return f"{size:.4g} TB"


def _numbers(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:.4f}" for value in values)


def _classes(manifest: ShardManifest, counts: SampleCounts) -> Iterator[str]:
    """Lines about the classes with the most and the fewest samples of train; about all of them where they are few."""
    names, (of_splits, kind) = manifest.spec.classes, counts.by_class()
    unit = "pixels of the masks" if kind == "pixel" else f"{kind}s"
    counted = Counter(of_splits.get("train", {}))
    ranked = sorted(range(len(names)), key=lambda label: (-counted.get(label, 0), label))
    yield f"{len(names)} classes; {unit} of train:"
    shown = ranked if len(ranked) <= MOST_NAMED else [*ranked[:5], *ranked[-5:]]
    most = max(counted.values(), default=1)
    width = max((len(names[label]) for label in shown), default=0)
    for place, label in enumerate(shown):
        if len(shown) < len(ranked) and place == 5:
            yield f"  … {len(ranked) - len(shown)} between"
        count = counted.get(label, 0)
        yield f"  {names[label]:{width}} {count:>9,}  {'#' * round(BAR * count / most)}"
    if counted[VOID] and kind == "pixel":
        yield f"  void, which counts for nothing: {counted[VOID]:,} pixels"


def _images(counts: SampleCounts) -> Iterator[str]:
    total = sum(counts.sides.values())
    if not total:
        return
    yield f"shorter sides of {total:,} images, in pixels:"
    most = max(counts.sides.values())
    edges = [0, *SIDES]
    for edge in sorted(counts.sides):
        above = edges[edges.index(edge) + 1 :]
        span = f"{edge}-{above[0] - 1}" if above else f"{edge}-"
        yield f"  {span:>10} {counts.sides[edge]:>9,}  {'#' * round(BAR * counts.sides[edge] / most)}"
    yield "kinds: " + ", ".join(f"{count:,} {kind}" for kind, count in counts.kinds.most_common())
    if counts.anew:
        yield f"{counts.anew:,} were encoded anew, the others kept their pixels"


def _bad(counts: SampleCounts) -> Iterator[str]:
    if counts.bad:
        yield f"{len(counts.bad):,} images could not be read:"
    for name, reason in counts.bad[:MOST_NAMED]:
        yield f"  {printable(name)}: {reason}"
    if len(counts.bad) > MOST_NAMED:
        yield f"  and {len(counts.bad) - MOST_NAMED:,} more"
