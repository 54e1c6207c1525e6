"""``on_bad_sample``: a bad sample fails the trial, or is left out of what counts and counted; never silently."""

import pytest

from expflow.data.streaming.loader import Loader, LoaderConfig
from expflow.errors import ShardCorrupt
from tests.data.tiny import tiny_shards

BAD = (3, 17)


@pytest.fixture(params=[0, 2**30], ids=["streamed", "in memory"])
def memory(request):
    return request.param


def loader(root, memory, **options):
    options = {"batch_size": 8, "seed": 0, "shuffle": True, "skip_bad": True, "skip_limit": 0.1, **options}
    return Loader(LoaderConfig(root, "train", memory_bytes=memory, workers=2, **options))


def test_by_default_it_fails_and_names_the_sample(tmp_path, memory):
    root = tiny_shards(tmp_path / "data", [10] * 3, bad=BAD)
    with pytest.raises(ShardCorrupt, match=r"train-00000[01]\.tar: sample 0000(03|17): .*; delete"):
        list(loader(root, memory, skip_bad=False))


def test_the_error_comes_at_its_batch(tmp_path):
    root = tiny_shards(tmp_path / "data", [10] * 3, bad=(12,))
    batches = iter(loader(root, 0, skip_bad=False, shuffle=False, batch_size=5))
    assert [next(batches)["label"].tolist() for _ in range(2)] == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    with pytest.raises(ShardCorrupt, match="sample 000012"):
        next(batches)


def test_skipped_samples_are_not_valid_and_are_counted_in_every_epoch(tmp_path, memory):
    root = tiny_shards(tmp_path / "data", [10] * 3, bad=BAD)
    for ranks in (1, 2):
        loaders = [loader(root, memory, rank=rank, ranks=ranks) for rank in range(ranks)]
        for _ in range(2):
            batches = [list(loaded) for loaded in loaders]
            assert [sum(len(batch["valid"]) for batch in of_rank) for of_rank in batches] == [30 // ranks] * ranks
            valid = [i for of_rank in batches for batch in of_rank for i in batch["index"][batch["valid"]].tolist()]
            assert sorted(valid) == [i for i in range(30) if i not in BAD]
            assert sum(loaded.bad_samples for loaded in loaders) == len(BAD)


def test_above_the_limit_the_trial_fails(tmp_path, memory):
    root = tiny_shards(tmp_path / "data", [10] * 3, bad=BAD)
    assert len(list(loader(root, memory, skip_limit=2 / 30))) == 4
    with pytest.raises(
        ShardCorrupt, match=r"2 samples of train .*skip_limit allows 1 of .* 30; the last one: .*sample"
    ):
        list(loader(root, memory, skip_limit=1 / 30))


def test_a_damaged_shard_is_as_many_bad_samples(tmp_path, memory):
    root = tiny_shards(tmp_path / "data", [4] * 10)
    shard = root / "train-000004.tar"
    shard.write_bytes(shard.read_bytes()[:-1])
    one = loader(root, memory)
    valid = [i for batch in one for i in batch["index"][batch["valid"]].tolist()]
    assert (sorted(valid), one.bad_samples) == ([i for i in range(40) if i // 4 != 4], 4)
    with pytest.raises(ShardCorrupt, match=r"train-000004\.tar: expected \d+ bytes, found \d+"):
        list(loader(root, memory, skip_limit=0.05))


def test_what_was_skipped_for_one_trial_fails_another_that_does_not_skip(tmp_path):
    root = tiny_shards(tmp_path / "data", [10] * 3, bad=BAD)
    list(loader(root, 2**30))
    with pytest.raises(ShardCorrupt, match="sample 000003"):
        loader(root, 2**30, skip_bad=False)


def test_padding_that_repeats_a_bad_sample_is_not_counted(tmp_path, memory):
    root = tiny_shards(tmp_path / "data", [5], bad=(4,))
    one = loader(root, memory, batch_size=8, last="pad", shuffle=False, skip_limit=0.2)
    (batch,) = one
    assert batch["valid"].tolist() == [True] * 4 + [False] * 4
    assert one.bad_samples == 1
