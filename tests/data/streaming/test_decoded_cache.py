"""Small splits are decoded once per node: one file, whatever happens to those who write it."""

import os
import signal
import stat
import subprocess
import sys
import threading

import numpy as np
import pytest

from expflow.data.streaming import decoded_cache
from expflow.data.streaming.loader import Loader, LoaderConfig
from tests.data.tiny import tiny_shards


@pytest.fixture
def root(tmp_path):
    return tiny_shards(tmp_path / "data", [10] * 5)


def labels(root, **options):
    loader = Loader(LoaderConfig(root, "train", **{"batch_size": 16, "seed": 0, "shuffle": False, **options}))
    return [i for batch in loader for i in batch["label"].tolist()]


def files(root):
    return sorted(path.suffix for path in (root / "decoded").iterdir())


PROGRAM = """
import os, sys, time
from pathlib import Path
from expflow.data.streaming import decoded_cache
from expflow.data.streaming.loader import Loader, LoaderConfig

real = decoded_cache._decode_pieces

def counted(*arguments):
    for number, piece in enumerate(real(*arguments)):
        with open(sys.argv[2], "a") as file:
            file.write("decoded\\n")
        if sys.argv[3] == "stop":
            os.kill(os.getpid(), 9)
        yield piece

decoded_cache._decode_pieces = counted
config = LoaderConfig(Path(sys.argv[1]), "train", batch_size=16, seed=0, shuffle=False)
loader = Loader(config)
print([i for batch in loader for i in batch["label"].tolist()])
"""


def start(root, log, what="go"):
    return subprocess.Popen([sys.executable, "-c", PROGRAM, root, log, what], stdout=subprocess.PIPE, text=True)


@pytest.mark.timeout(180)  # each process imports torch
def test_many_processes_at_once_decode_once(root, tmp_path):
    processes = [start(root, tmp_path / "log") for _ in range(2)]
    assert {process.communicate()[0] for process in processes} == {f"{list(range(50))}\n"}
    assert (tmp_path / "log").read_text() == "decoded\n"
    assert files(root) == [".bin", ".json"]


def test_the_next_trial_reads_the_file_and_no_shard(root):
    assert labels(root) == list(range(50))
    for shard in root.glob("*.tar"):
        shard.unlink()
    assert labels(root) == list(range(50))
    assert labels(root, limit=45) == list(range(45)), "recipes that differ in limit share whole shards"


@pytest.mark.timeout(180)  # each process imports torch
def test_a_killed_decoder_leaves_nothing_that_is_read(root, tmp_path):
    process = start(root, tmp_path / "log", "stop")
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert labels(root) == list(range(50))
    assert files(root) == [".bin", ".json"]


@pytest.mark.parametrize("suffix", [".bin", ".json"])
@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_a_damaged_file_is_decoded_anew(root, suffix, damage):
    labels(root)
    (path,) = (root / "decoded").glob(f"*{suffix}")
    content = path.read_bytes()
    path.unlink()
    if damage == "flip":
        middle = content.index(b"sha256") + 12 if suffix == ".json" else len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    elif damage == "cut":
        path.write_bytes(content[:-1])
    assert labels(root) == list(range(50))
    assert path.read_bytes() == content


def test_where_nothing_can_be_written_a_process_decodes_for_itself_once(root, caplog):
    (root / "decoded").write_text("in the way of the folder")
    assert labels(root) == list(range(50))
    assert "decodes for itself" in caplog.text
    for shard in root.glob("*.tar"):
        shard.unlink()
    assert labels(root) == list(range(50)), "and keeps it for its next trials"
    decoded_cache._process_cache.clear()
    with pytest.raises(Exception, match=r"train-000000\.tar"):
        labels(root)


@pytest.mark.timeout(180)  # each process imports torch
def test_a_disk_that_is_full_costs_no_trial(tmp_path):
    """Files of this process may have 4,000 bytes, and the decoded split has more."""
    root = tiny_shards(tmp_path / "data", [100] * 5)
    program = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))\n{PROGRAM}"
    log = tmp_path / "log"
    arguments = [sys.executable, "-c", program, root, log, "go"]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=170)
    assert done.stdout == f"{list(range(500))}\n", done.stderr
    assert "decodes for itself" in done.stderr
    assert not list((root / "decoded").iterdir())


def test_batches_belong_to_the_consumer(root):
    options = {"batch_size": 50, "seed": 0, "shuffle": False}
    (batch,) = Loader(LoaderConfig(root, "train", **options))
    batch["image"].zero_()
    (again,) = Loader(LoaderConfig(root, "train", **options))
    assert again["image"].flatten(1)[:, 0].tolist() == list(range(50))


def test_the_file_is_readable_by_other_users_of_the_cache(root):
    labels(root)
    umask = os.umask(0)
    os.umask(umask)
    for path in (root / "decoded").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


def test_a_split_that_is_larger_than_the_limit_is_streamed(root):
    assert labels(root, memory_bytes=50 * (4 + 8) - 1) == list(range(50))
    assert not (root / "decoded").exists()


def test_threads_of_one_process_may_open_it_at_once(root):
    read_labels = [None] * 4

    def read(number):
        read_labels[number] = labels(root)

    threads = [threading.Thread(target=read, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read_labels == [list(range(50))] * 4
    assert np.array_equal(read_labels[0], range(50))
