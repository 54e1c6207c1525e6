import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from expflow.data.streaming.epoch_order import WINDOW_SHARDS, global_batches, rank_share
from tests.data.streaming.orders import epoch_order

shard_sizes = st.lists(st.integers(1, 12), min_size=1, max_size=2 * WINDOW_SHARDS + 3)


@settings(deadline=None)
@given(shard_sizes, st.integers(0, 2**40), st.integers(0, 1000))
def test_an_epoch_holds_every_sample_once_and_is_repeatable(sizes, seed, epoch):
    order = epoch_order(sizes, seed, epoch)
    assert sorted(order) == list(range(sum(sizes)))
    assert np.array_equal(order, epoch_order(sizes, seed, epoch))


@settings(deadline=None)
@given(shard_sizes, st.integers(1, 6), st.sampled_from([1, 2, 3, 4, 8]), st.booleans())
def test_ranks_share_each_global_batch(sizes, per_rank, ranks, drop_last):
    batch_size = per_rank * ranks
    order = epoch_order(sizes, 1, 2)
    seen = []
    for batch in range(global_batches(len(order), batch_size, drop_last=drop_last)):
        expected = order[batch * batch_size : (batch + 1) * batch_size]
        shares = [rank_share(expected, rank, ranks) for rank in range(ranks)]
        assert len({len(ids) for ids, _ in shares}) == 1, "ranks must step together"
        together = np.concatenate([ids[valid] for ids, valid in shares])
        assert np.array_equal(together, expected)
        assert sum((~valid).sum() for _, valid in shares) < ranks
        seen.extend(together)
    assert len(seen) == len(order) - (len(order) % batch_size if drop_last else 0)
    assert len(set(seen)) == len(seen)


def test_order_is_pinned():
    """Were this to fail, every result made before would have had another order of data."""
    assert epoch_order(10, 0, 0).tolist() == [4, 7, 8, 6, 1, 2, 9, 0, 5, 3]
    assert epoch_order([3, 2, 4], 7, 5).tolist() == [4, 6, 3, 0, 8, 7, 1, 5, 2]


def test_seeds_and_epochs_differ():
    orders = {tuple(epoch_order(50, seed, epoch)) for seed in range(5) for epoch in range(5)}
    assert len(orders) == 25


def test_windows_mix_shards_but_only_nearby_ones():
    sizes = [10] * (3 * WINDOW_SHARDS)
    order = epoch_order(sizes, 0, 0)
    first = {int(sample) // 10 for sample in order[: 10 * WINDOW_SHARDS]}
    assert len(first) == WINDOW_SHARDS
    assert first != {int(sample) // 10 for sample in epoch_order(sizes, 0, 1)[: 10 * WINDOW_SHARDS]}
    assert len({int(sample) // 10 for sample in order[:10]}) > 2
