import errno
import os
import pickle
import subprocess
import sys

import pytest

from expflow.data.stores import ShardCache, open_root, verified_files
from expflow.errors import DataMissing, ShardCorrupt, StorageUnwritable
from tests.data.stores.servers import content, shard_of

DATA = content(1)


@pytest.fixture
def shard(tmp_path):
    (tmp_path / "train-0.tar").write_bytes(DATA)
    age(tmp_path / "train-0.tar", 100)
    return shard_of("train-0.tar", DATA)


def age(path, seconds):
    """Set the time of change ``seconds`` back."""
    then = path.stat().st_mtime_ns - seconds * 10**9
    os.utime(path, ns=(then, then))


def test_the_view_is_the_file_and_cannot_be_written(tmp_path, shard):
    with open_root(tmp_path).hold(shard) as held:
        assert held.view == DATA
        assert held.view.readonly
        assert held.path == tmp_path / "train-0.tar"
        part = held.view[10:20]
    assert part == DATA[10:20]  # a slice may outlive the context


def test_a_file_system_without_mapping(tmp_path, shard, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError(errno.ENODEV, "No such device")

    monkeypatch.setattr("mmap.mmap", refuse)
    with open_root(tmp_path).hold(shard) as held:
        assert held.view == DATA
        assert held.view.readonly


def test_an_empty_shard(tmp_path):
    (tmp_path / "empty.tar").touch()
    with open_root(tmp_path).hold(shard_of("empty.tar", b"")) as held:
        assert held.view == b""


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: data[:-1], "expected 300000 bytes, found 299999"),
        (lambda data: data + b"x", "expected 300000 bytes, found 300001"),
        (lambda data: b"", "expected 300000 bytes, found 0"),
        (lambda data: bytes([data[0] ^ 1]) + data[1:], "expected sha256 .*, found"),
        (lambda data: content(2), "expected sha256 .*, found"),
    ],
)
def test_a_damaged_shard_is_named_before_and_after_it_was_found_right(tmp_path, shard, damage, message):
    root = open_root(tmp_path, cache=ShardCache(tmp_path / "cache"))
    with root.hold(shard):
        pass
    (tmp_path / "train-0.tar").write_bytes(damage(DATA))
    for again in (root, pickle.loads(pickle.dumps(root)), open_root(tmp_path)):
        with pytest.raises(ShardCorrupt, match=rf"train-0.tar: {message}"), again.hold(shard):
            pass


def test_a_missing_shard_is_named(tmp_path):
    root, shard = open_root(tmp_path), shard_of("train-9.tar", DATA)
    with pytest.raises(DataMissing, match=r"train-9.tar: expected 300000 bytes, found no file"), root.hold(shard):
        pass


def test_a_shard_is_hashed_once_per_machine(tmp_path, shard, monkeypatch):
    cache = ShardCache(tmp_path / "cache")
    code = (
        "import pickle, sys; from expflow.data.stores import verified_files\n"
        "root, shard = pickle.loads(sys.stdin.buffer.read())\n"
        "with root.hold(shard) as held: print(len(held.view))\n"
    )
    root = open_root(tmp_path, cache=cache)
    subprocess.run([sys.executable, "-c", code], input=pickle.dumps((root, shard)), check=True, capture_output=True)
    monkeypatch.setattr(verified_files, "_sha256", lambda handle: pytest.fail("hashed again"))
    with root.hold(shard):
        pass


def test_a_folder_for_findings_that_cannot_be_written_costs_time_only(tmp_path, shard):
    (tmp_path / "cache").write_text("a file, no folder")
    for _ in range(2):
        with open_root(tmp_path, cache=ShardCache(tmp_path / "cache")).hold(shard) as held:
            assert held.view == DATA


def test_writing_is_atomic_and_checked(tmp_path, shard, monkeypatch):
    root = open_root(tmp_path / "out" / "deep")
    root.write_file("train-1.tar", tmp_path / "train-0.tar")
    assert root.read_bytes("train-1.tar") == DATA
    assert root.list() == ["train-1.tar"]
    monkeypatch.setattr("shutil.copyfileobj", lambda read, written, size: written.write(DATA[:1000]))
    with pytest.raises(StorageUnwritable, match=r"expected 300000 bytes .* found 1000 bytes"):
        root.write_file("train-1.tar", tmp_path / "train-0.tar")
    assert root.read_bytes("train-1.tar") == DATA
    assert [path.name for path in (tmp_path / "out" / "deep").iterdir()] == ["train-1.tar"]


def test_what_is_there(tmp_path, shard):
    root = open_root(str(tmp_path))
    assert root.exists("train-0.tar")
    assert not root.exists("train-1.tar")
    assert root.download("train-0.tar", tmp_path / "copy") == (shard.bytes, shard.sha256)
    with pytest.raises(DataMissing, match=r"no such file"):
        root.read_bytes("manifest.json")
    with pytest.raises(DataMissing, match=r"cannot be listed"):
        open_root(tmp_path / "none").list()


def test_reading_ahead_of_what_is_not_there_shows_when_it_is_held(tmp_path):
    root = open_root(tmp_path)
    root.prefetch(shard_of("train-9.tar", DATA))
    with pytest.raises(DataMissing), root.hold(shard_of("train-9.tar", DATA)):
        pass
    root.close()
