"""Shards x ranks x threads x batch: every sample once per epoch, the same global batches, resumable by any split."""

import itertools
from contextlib import contextmanager
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expflow.data.streaming.epoch_order import WINDOW_SHARDS
from expflow.data.streaming.loader import Loader, LoaderConfig
from expflow.data.streaming.sample_reader import SplitShards
from expflow.data.streaming.thread_pool import shut_down_pools
from tests.data.streaming.orders import epoch_order
from tests.data.tiny import tiny_shards

layouts = st.sampled_from([(1,), (7,), (3, 1, 5), (2,) * 11, (1, 9, 4, 2) * 5])
splits = st.sampled_from([1, 2, 3, 4, 8])
lasts = st.sampled_from(["keep", "pad", "drop"])
memories = st.sampled_from([0, 2**30])
threads = st.sampled_from([1, 2, 3])


@pytest.fixture(scope="module")
def roots(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tiny")
    return cache(lambda sizes: tiny_shards(folder / "-".join(map(str, sizes)), list(sizes)))


def gang(root, ranks, **options):
    options = {"seed": 3, "shuffle": True, "memory_bytes": 0, **options}
    return [Loader(LoaderConfig(root, "train", rank=rank, ranks=ranks, **options)) for rank in range(ranks)]


def together(loaders):
    """The global batches: what the ranks get, one after the other, as (label, pixels, index) of what is valid."""
    indices = []
    for batches in zip(*loaders, strict=True):
        assert len({len(batch["label"]) for batch in batches}) == 1, "ranks must step together"
        assert all(bool((batch["image"] == (batch["label"] % 256)[:, None, None, None]).all()) for batch in batches)
        assert all(batch["label"].tolist() == batch["index"].tolist() for batch in batches)
        indices.append([i for batch in batches for i in batch["index"][batch["valid"]].tolist()])
    return indices


@settings(max_examples=60)
@given(layouts, splits, threads, st.integers(1, 5), lasts, memories, st.booleans(), st.integers(0, 3))
def test_every_sample_comes_once_and_global_batches_do_not_depend_on_the_split(
    roots, sizes, ranks, workers, per_rank, last, memory, shuffle, epoch
):
    batch_size, n = ranks * per_rank, sum(sizes)
    loaders = gang(
        roots(sizes), ranks, batch_size=batch_size, workers=workers, last=last, memory_bytes=memory, shuffle=shuffle
    )
    for loader in loaders:
        loader.sampler.set_epoch(epoch)
    order = epoch_order(sizes, 3, epoch) if shuffle else np.arange(n)
    expected = [order[at : at + batch_size].tolist() for at in range(0, n, batch_size)]
    if last == "drop":
        expected = [batch for batch in expected if len(batch) == batch_size]
    assert together(loaders) == expected
    assert {len(loader) for loader in loaders} == {len(expected)}
    assert sorted(itertools.chain(*expected)) == list(range(n)) or last == "drop"


@settings(max_examples=30)
@given(layouts, splits, st.integers(1, 4))
def test_padding_fills_the_last_batch_and_is_not_valid(roots, sizes, ranks, per_rank):
    loaders = gang(roots(sizes), ranks, batch_size=ranks * per_rank, last="pad")
    batches = [list(loader) for loader in loaders]
    assert {len(batch["valid"]) for of_rank in batches for batch in of_rank} == {per_rank}
    assert sum(int(batch["valid"].sum()) for of_rank in batches for batch in of_rank) == sum(sizes)
    for of_rank in batches:
        for batch in of_rank[:-1]:
            assert batch["valid"].all()


@settings(max_examples=40)
@given(layouts, st.sampled_from([1, 2, 4]), st.sampled_from([1, 2, 4, 8]), threads, memories, st.data())
def test_resuming_at_any_batch_with_any_split_gives_what_was_left(roots, sizes, before, after, workers, memory, data):
    root = roots(sizes)
    whole = together(gang(root, 1, batch_size=8))
    stop = data.draw(st.integers(0, len(whole)))
    first = gang(root, before, batch_size=8, memory_bytes=memory)
    for loader in first:
        iterator = iter(loader)
        for _ in range(stop):
            next(iterator)
    states = [loader.state_dict() for loader in first]
    assert all(state == states[0] for state in states)
    assert all(type(value) is int for value in states[0].values())
    second = gang(root, after, batch_size=8, workers=workers)
    for loader in second:
        loader.load_state_dict(states[0])
        loader.sampler.set_epoch(0)
    if stop < len(whole):
        assert together(second) == whole[stop:]
    else:
        assert together(second)[0] == epoch_order(sizes, 3, 1)[:8].tolist()


def test_two_epochs_differ(roots):
    (loader,) = gang(roots((1, 9, 4, 2) * 5), 1, batch_size=16)
    first, second = together([loader]), together([loader])
    assert first != second
    assert sorted(itertools.chain(*first)) == sorted(itertools.chain(*second))


def test_only_the_shards_of_two_windows_are_open_and_in_the_end_none(roots, monkeypatch):
    """40 shards, so five windows: nothing is opened twice, and what was passed is let go."""
    root, opened, most = roots((2,) * 40), [], 0
    real, held = SplitShards.opened, set()

    @contextmanager
    def counted(self, number):
        opened.append(number)
        with real(self, number) as shard:
            held.add(number)
            yield shard
        held.discard(number)

    monkeypatch.setattr(SplitShards, "opened", counted)
    (loader,) = gang(root, 1, batch_size=2, workers=2)
    for _ in loader:
        most = max(most, len(held))
    shut_down_pools()  # waits for what the threads still give back
    assert sorted(opened) == list(range(40))
    # Batches are made up to nine ahead, which may reach into the next window and so ask for the one behind it.
    assert WINDOW_SHARDS <= most <= 4 * WINDOW_SHARDS
    assert not held
