"""A rank lives through thousands of trials: it must not grow, and the start must not depend on the number of shards."""

import gc
import threading
import tracemalloc
from pathlib import Path

import pytest

from expflow.data.shards.manifest import read_manifest
from expflow.data.streaming.epoch_order import WINDOW_SHARDS
from expflow.data.streaming.loader import Loader, LoaderConfig
from expflow.data.streaming.sample_reader import SplitShards
from expflow.data.streaming.thread_pool import shut_down_pools
from tests.data.stored_samples import read_samples
from tests.data.tiny import tiny_shards


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tiny_shards(tmp_path_factory.mktemp("data") / "many", [2] * 40)


def handles():
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def measured():
    """Python's memory in bytes, open files and threads, once what threads had in hand is gone: that is no leak."""
    shut_down_pools()
    gc.collect()
    return tracemalloc.get_traced_memory()[0], handles(), threading.active_count()


@pytest.fixture
def traced(root):
    for _ in Loader(LoaderConfig(root, "train", batch_size=32, seed=0, shuffle=True, memory_bytes=0)):
        pass  # imports are slow where memory is traced, and no leak
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.parametrize("memory", [0, 2**30], ids=["streamed", "in memory"])
def test_twenty_epochs_take_no_more_than_three(root, memory, traced):
    loader = Loader(LoaderConfig(root, "train", batch_size=32, seed=0, shuffle=True, workers=2, memory_bytes=memory))
    for _ in range(10):  # buffers to be used again and tables of libraries fill up
        assert len(list(loader)) == 3
    after = []
    for _ in range(20):
        assert sum(int(batch["valid"].sum()) for batch in loader) == 80
        after.append(measured())
    assert after[-1][0] - after[2][0] < 30_000
    assert after[-1][1] <= after[2][1] + 2 * WINDOW_SHARDS  # the last windows may still be on their way out
    assert after[-1][2] == after[2][2]


def test_trials_that_end_in_mid_epoch_leave_nothing(root, traced):
    def trial(seed):
        loader = Loader(LoaderConfig(root, "train", batch_size=4, seed=seed, shuffle=True, workers=2, memory_bytes=0))
        for number, _ in enumerate(loader):
            if number == 2:
                break

    def after_trials(count):
        for seed in range(count):
            trial(seed)
        return measured()

    after_trials(20)
    before, after = after_trials(20), after_trials(80)
    assert after[0] - before[0] < 100_000
    assert after[2] == before[2]
    assert handles() <= before[1]


def test_the_first_batch_opens_two_windows_of_shards(root, monkeypatch):
    opened, real = [], SplitShards.opened

    def counted(self, number):
        opened.append(number)
        return real(self, number)

    monkeypatch.setattr(SplitShards, "opened", counted)
    batches = iter(Loader(LoaderConfig(root, "train", batch_size=1, seed=0, shuffle=True, memory_bytes=0)))
    next(batches)
    shut_down_pools()
    assert len(opened) <= 2 * WINDOW_SHARDS
    batches.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_plain_webdataset_and_tarfile_read_the_same_samples(root):
    import tarfile

    import webdataset

    ours = [
        (key, bytes(sample["image"]), bytes(sample["label"]))
        for key, sample in read_samples(root, read_manifest(root), "train")
    ]
    paths = sorted(str(path) for path in root.glob("*.tar"))
    theirs = webdataset.WebDataset(paths, shardshuffle=False, empty_check=False)
    assert [(sample["__key__"], sample["png"], sample["cls"]) for sample in theirs] == ours
    members = {}
    for path in paths:
        with tarfile.open(path) as tar:
            members |= {member.name: tar.extractfile(member).read() for member in tar}
    assert members == {
        f"{key}.{end}": value for key, *both in ours for end, value in zip(("png", "cls"), both, strict=True)
    }
