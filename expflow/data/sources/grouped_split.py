"""Splitting samples of which several belong together, such as tiles of one photograph: no group is cut."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from expflow.data.permutation import Ids
from expflow.data.sources.stratified_split import stratified_split
from expflow.errors import DataInvalid

MOST_NAMED = 5
"""Groups that an error names."""


def grouped_split(groups: Sequence[str], labels: Sequence[int], fractions: Sequence[float], seed: int) -> list[Ids]:
    """Draw one part for each fraction, and last the rest, each of whole groups. A pure function of its arguments.

    Groups are shared out as :func:`stratified_split` shares out samples, each by the class that most of its samples
    have; where groups differ in size, so do the parts from their fractions.

    Args:
        groups: The group of each of the n samples; "" for one that is a group by itself.
        labels: The class of each sample, from 0.
        fractions: The share of the groups in each part.
        seed: Decides which groups are drawn, and their order.

    Returns:
        The positions of each part's samples; one part more than there are fractions.
    """
    members: dict[tuple[str, int], list[int]] = {}
    for position, group in enumerate(groups):
        members.setdefault((group, -1) if group else ("", position), []).append(position)
    units = list(members.values())
    usual = [Counter(labels[position] for position in unit).most_common(1)[0][0] for unit in units]
    return [
        np.array([position for unit in part.tolist() for position in units[unit]], dtype=np.int64)
        for part in stratified_split(usual, fractions, seed)
    ]


def check_groups(splits: Mapping[str, Sequence[str]]) -> None:
    """Require that no group is in two splits.

    Args:
        splits: Split to the groups of its samples; "" for samples that are none's.

    Raises:
        DataInvalid: One is; the message names groups and splits.
    """
    of_group: dict[str, str] = {}
    torn: dict[str, str] = {}
    for split, groups in splits.items():
        for group in groups:
            if group and of_group.setdefault(group, split) != split:
                torn[group] = f"{group} in {of_group[group]} and {split}"
    if torn:
        named = "; ".join(list(torn.values())[:MOST_NAMED])
        more = f" and {len(torn) - MOST_NAMED} more" if len(torn) > MOST_NAMED else ""
        raise DataInvalid(f"groups are cut by the given splits: {named}{more}; put each into one split")
