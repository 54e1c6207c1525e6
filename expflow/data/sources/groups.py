"""Which images belong together, by their names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from expflow.data.sources.base import SampleRef

TILE_GROUP = r"(.+)[_-](?:tile|patch|crop|r|x|row)?[_-]?\d+[_-](?:c|y|col)?\d+\.\w+$"
"""Names of tiles: a photograph's, then two numbers, such as oak_3_12.png or oak_r3_c12.png."""

FEWEST_TILES = 4
"""Tiles of a photograph, in the mean, from which names are taken for those of tiles."""


def with_groups(items: Sequence[SampleRef], expression: str) -> list[SampleRef]:
    """Return the samples with their groups; one in whose name nothing is found is none's.

    Args:
        items: the samples.
        expression: what it finds in a name (its first group, where it has one) is the sample's group.
    """
    pattern = re.compile(expression)

    def group_of(name: str) -> str:
        match = pattern.search(name)
        return "" if match is None else (match.group(1) if pattern.groups else match.group(0)) or ""

    return [replace(item, group=group_of(item.name)) for item in items]


def tiled_photographs(paths: Sequence[str]) -> int:
    """Return of how many photographs images are tiles, by their names; 0 where they do not look like tiles.

    Args:
        paths: of all images.
    """
    pattern = re.compile(TILE_GROUP)
    photographs = Counter(match.group(1) for path in paths if (match := pattern.search(path)))
    tiles = sum(photographs.values())
    return len(photographs) if tiles == len(paths) and tiles >= FEWEST_TILES * max(len(photographs), 1) else 0
