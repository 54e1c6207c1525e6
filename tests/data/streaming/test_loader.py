import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from expflow.data.specs import DigitsSpec, FolderSpec
from expflow.data.streaming.loader import Loader, LoaderConfig, loader_for
from expflow.errors import DataMissing, UserError
from tests.data.streaming.orders import epoch_order


def seen(loader) -> list[int]:
    return [int(i) for batch in loader for i in batch["index"][batch["valid"]]]


def same(one, other) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_batches_are_named_fields(digits):
    loader = Loader(LoaderConfig(digits.root, "train", batch_size=64, seed=0, shuffle=True))
    batches = list(loader)
    assert len(batches) == len(loader) == 21
    assert {name: (tuple(value.shape), value.dtype) for name, value in batches[0].items()} == {
        "image": ((64, 1, 8, 8), torch.uint8),
        "label": ((64,), torch.int64),
        "index": ((64,), torch.int64),
        "valid": ((64,), torch.bool),
    }
    assert len(batches[-1]["label"]) == 1300 % 64


def test_epochs_follow_the_pure_function(digits):
    loader = Loader(LoaderConfig(digits.root, "train", batch_size=64, seed=3, shuffle=True))
    assert seen(loader) == epoch_order(1300, 3, 0).tolist()
    assert seen(loader) == epoch_order(1300, 3, 1).tolist(), "a complete pass is followed by the next epoch"
    loader.sampler.set_epoch(7)
    next(iter(loader))
    assert seen(loader) == epoch_order(1300, 3, 7).tolist(), "a pass that was left early is begun again"


def test_without_shuffle_every_epoch_has_the_order_of_the_shards(digits):
    loader = Loader(LoaderConfig(digits.root, "val", batch_size=100, seed=0, shuffle=False))
    for epoch in range(2):
        loader.sampler.set_epoch(epoch)
        assert seen(loader) == list(range(397))


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from([1, 2, 3, 8]),
    st.integers(1, 40),
    st.sampled_from([None, 1, 30, 1299]),
    st.booleans(),
    st.sampled_from([0, 2**30]),
)
def test_every_sample_once_over_all_ranks(digits, ranks, per_rank, limit, drop_last, memory):
    batch_size = ranks * per_rank
    loaders = [
        Loader(
            LoaderConfig(
                digits.root,
                "val" if limit is None else "train",
                batch_size=batch_size,
                seed=1,
                shuffle=True,
                rank=rank,
                ranks=ranks,
                last="drop" if drop_last else "keep",
                limit=limit,
                memory_bytes=memory,
            )
        )
        for rank in range(ranks)
    ]
    n = 397 if limit is None else limit
    kept = n // batch_size * batch_size if drop_last else n
    indices = [i for loader in loaders for i in seen(loader)]
    assert len(indices) == len(set(indices)) == kept
    assert set(indices) <= set(range(n))
    assert {len(loader) for loader in loaders} == {kept // batch_size + (kept % batch_size > 0)}


def test_streaming_gives_the_batches_that_memory_gives(many_shards):
    assert len(many_shards.manifest.splits["train"]) == 11
    for shuffle in (True, False):
        arguments = {"split": "train", "batch_size": 10, "seed": 5, "shuffle": shuffle, "limit": 95}
        whole, streamed = (
            Loader(LoaderConfig(many_shards.root, **arguments, memory_bytes=size, workers=workers))
            for size, workers in ((2**30, 1), (0, 2))
        )
        for _ in range(3):
            assert all(same(one, other) for one, other in zip(whole, streamed, strict=True))


def test_images_and_labels_are_those_of_the_source(digits):
    from sklearn.datasets import load_digits

    source = load_digits()
    expected = sorted(
        (int(label), np.rint(image * (255 / 16)).astype(np.uint8).tobytes())
        for image, label in zip(source.images, source.target, strict=True)
    )
    samples = [
        (int(label), image.numpy().tobytes())
        for split in ("train", "val", "test")
        for batch in Loader(LoaderConfig(digits.root, split, batch_size=128, seed=0, shuffle=False))
        for image, label in zip(batch["image"], batch["label"], strict=True)
    ]
    assert sorted(samples) == expected


@pytest.mark.parametrize(("before", "after"), [(1, 1), (2, 4), (4, 1)])
def test_going_on_inside_an_epoch_with_other_ranks(many_shards, before, after):
    def loaders(ranks):
        return [
            Loader(
                LoaderConfig(
                    many_shards.root,
                    "train",
                    batch_size=8,
                    seed=2,
                    shuffle=True,
                    rank=rank,
                    ranks=ranks,
                    memory_bytes=0,
                )
            )
            for rank in range(ranks)
        ]

    def together(iterators):
        return [
            [int(i) for rank in ranks for i in rank["index"][rank["valid"]]] for ranks in zip(*iterators, strict=True)
        ]

    reference = together(loaders(1))
    for stop in range(len(reference) + 1):
        first = loaders(before)
        for loader in first:
            iterator = iter(loader)
            for _ in range(stop):
                next(iterator)
        states = [loader.state_dict() for loader in first]
        assert all(state == states[0] for state in states)
        second = loaders(after)
        for loader in second:
            loader.load_state_dict(states[0])
            loader.sampler.set_epoch(0)
        if stop < len(reference):
            assert together(second) == reference[stop:]


def test_state_of_another_loader_is_refused(digits):
    state = Loader(LoaderConfig(digits.root, "train", batch_size=64, seed=0, shuffle=True)).state_dict()
    with pytest.raises(UserError, match="batch_size was 64, is 32"):
        Loader(LoaderConfig(digits.root, "train", batch_size=32, seed=0, shuffle=True)).load_state_dict(state)


def test_batch_size_divides_by_the_ranks(digits):
    with pytest.raises(UserError, match="64 does not divide by 3 ranks"):
        Loader(LoaderConfig(digits.root, "train", batch_size=64, seed=0, shuffle=True, ranks=3))


def test_missing_split_and_missing_shards_say_what_there_is(digits, tmp_path):
    with pytest.raises(DataMissing, match="no split 'dev', only train, val, test"):
        Loader(LoaderConfig(digits.root, "dev", batch_size=64, seed=0, shuffle=True))
    with pytest.raises(DataMissing, match="expflow data build"):
        Loader(LoaderConfig(tmp_path, "train", batch_size=64, seed=0, shuffle=True))


def test_limit_reads_only_the_shards_it_needs(many_shards):
    for shard in many_shards.manifest.splits["train"][2:]:
        (many_shards.root / shard.name).unlink()
    assert sorted(
        seen(Loader(LoaderConfig(many_shards.root, "train", batch_size=4, seed=0, shuffle=True, limit=10)))
    ) == list(range(10))


def test_the_recipe_decides(digits, many_shards):
    spec = DigitsSpec(name="digits", batch_size=32, limit=50)
    train = loader_for(spec, digits.root, "train", seed=0, shuffle=True)
    val = loader_for(spec, digits.root, "val", seed=0, shuffle=False)
    assert (len(train), train.samples, val.samples) == (2, 50, 397)
    threads = FolderSpec(name="folder", workers=3)
    assert len(seen(loader_for(threads, many_shards.root, "val", seed=0, shuffle=False))) == 5
