"""Samples drawn so that every class comes equally often: a pure function of seeds, like any order here."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from expflow.data.dataspec import FieldSpec
from expflow.data.permutation import Ids, permutation
from expflow.data.streaming.batch_buffers import Arrays
from expflow.data.streaming.sample_reader import SplitShards
from expflow.errors import ShardCorrupt, UserError

LABEL = "label"


def balanced_draws(ids: Ids, labels: NDArray[np.int64], samples: int, *seeds: int) -> Ids:
    """As many draws as there are ids, of each class equally many, or one more.

    The samples of a class come in rounds: each once before one comes again. A draw is the sample's id plus ``samples``
    for each time that it came before, so that repeated samples can be augmented differently.

    Args:
        ids: The samples that are drawn from, (n,).
        labels: The class of each sample of the split, by id.
        samples: Samples of the split.
        *seeds: What the draws follow from.

    Returns:
        (n,) draws, class by class: not in the order in which they are to come.
    """
    of_ids = labels[ids]
    classes = np.unique(of_ids)
    counts = np.full(len(classes), len(ids) // len(classes), dtype=np.int64)
    counts[permutation(len(classes), *seeds)[: len(ids) % len(classes)]] += 1
    draws = []
    for label, count in zip(classes.tolist(), counts.tolist(), strict=True):
        members = ids[of_ids == label]
        rounds = [
            members[permutation(len(members), *seeds, int(label), number)] + number * samples
            for number in range(-(-count // len(members)))
        ]
        draws.append(np.concatenate([np.zeros(0, np.int64), *rounds])[:count])
    return np.concatenate(draws)


def labels_of(decoded: Arrays | None, shards: SplitShards) -> NDArray[np.int64]:
    """The class of each sample of a split, by id.

    Args:
        decoded: The split's decoded fields; None where it is streamed. Then each shard is opened once.
        shards: Its shards.

    Raises:
        UserError: The samples have no class.
        ShardCorrupt: A shard is damaged.
    """
    spec: FieldSpec | None = shards.manifest.spec.fields.get(LABEL)
    if spec is None or spec.kind != LABEL:
        raise UserError(
            "data.sampling: balanced draws images by their class, and these data have no field label; leave it out"
        )
    if decoded is not None:
        labels: NDArray[np.int64] = decoded[LABEL][: shards.samples].astype(np.int64)
        return labels
    parts: list[int] = []
    for number, size in enumerate(shards.sizes):
        with shards.opened(number) as shard:
            try:
                parts += [int(bytes(shard.values(row)[LABEL])) for row in range(size)]
            except ValueError as error:
                raise ShardCorrupt(f"{shards.folder}: {shard.name}: {error}{shards.how_to_mend}") from error
    return np.asarray(parts, dtype=np.int64)
