"""What is in shards, in words: for ``expflow data stats``."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from expflow.data.manifest import Manifest, how_to_rebuild
from expflow.data.sources.base import printable
from expflow.data.statistics import SIDES, Counts
from expflow.errors import ShardCorrupt

MOST_NAMED = 20
"""Bad images that are named; ``statistics.json`` beside the manifest has them all."""

BAR = 30


def read_statistics(root: Path, manifest: Manifest) -> Counts | None:
    """What was counted when the shards were built; None where an older version built them. Raises ShardCorrupt."""
    if manifest.statistics is None:
        return None
    path = root / manifest.statistics.name
    try:
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != manifest.statistics.sha256:
            raise ValueError(f"expected sha256 {manifest.statistics.sha256}, found another")
        return Counts.from_json(json.loads(content))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ShardCorrupt(f"{path}: {error}; {how_to_rebuild(root)}") from error


def summary_lines(root: Path, manifest: Manifest) -> Iterator[str]:
    """Lines about the shards at ``root``. Raises ShardCorrupt where what was counted is damaged."""
    yield f"{manifest.source.get('name', '')} {manifest.key}  {manifest.at or root}"
    for split, shards in manifest.splits.items():
        size = sum(shard.bytes for shard in shards)
        yield f"{split:5} {manifest.samples(split):>11,} samples in {len(shards):,} shards, {_bytes(size)}"
    spec = manifest.spec
    if spec.mean:
        yield f"mean  {_numbers(spec.mean)}"
        yield f"std   {_numbers(spec.std)}"
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


def _classes(manifest: Manifest, counts: Counts) -> Iterator[str]:
    """The classes with the most and the fewest samples of train; all of them where they are few."""
    names, counted = manifest.spec.classes, counts.classes.get("train", Counter())
    ranked = sorted(range(len(names)), key=lambda each: (-counted.get(each, 0), each))
    yield f"{len(names)} classes; samples of train:"
    shown = ranked if len(ranked) <= MOST_NAMED else [*ranked[:5], *ranked[-5:]]
    most = max(counted.values(), default=1)
    width = max((len(names[each]) for each in shown), default=0)
    for place, each in enumerate(shown):
        if len(shown) < len(ranked) and place == 5:
            yield f"  … {len(ranked) - len(shown)} between"
        count = counted.get(each, 0)
        yield f"  {names[each]:{width}} {count:>9,}  {'#' * round(BAR * count / most)}"


def _images(counts: Counts) -> Iterator[str]:
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


def _bad(counts: Counts) -> Iterator[str]:
    if counts.bad:
        yield f"{len(counts.bad):,} images could not be read:"
    for name, reason in counts.bad[:MOST_NAMED]:
        yield f"  {printable(name)}: {reason}"
    if len(counts.bad) > MOST_NAMED:
        yield f"  and {len(counts.bad) - MOST_NAMED:,} more"
