"""What every kind of root does, whatever store it reads from: one list of statements, each tested on all kinds."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from expflow.data.shards.manifest import MANIFEST, ShardManifest, read_manifest
from expflow.data.stores import RetryPolicy, Root, ShardCache, open_root
from expflow.errors import AddressRefused, DataMissing, DataUnreachable, ShardCorrupt, StorageUnwritable
from tests.data.stores.servers import Server
from tests.data.tiny import tiny_shards

NO_WAITS = RetryPolicy(attempts=2, first_wait=0.0, longest_wait=0.0)


@dataclass
class Store:
    """A folder of two tiny shards and their manifest in one kind of store.

    Attributes:
        address: What :func:`open_root` is called with.
        put: Writes a file into the store, over an earlier one.
        remove: Removes a file from the store.
        lists: Whether the store can name its files.
        writable: Whether a root can write to the store.
    """

    address: str
    put: Callable[[str, bytes], None]
    remove: Callable[[str], None]
    lists: bool = True
    writable: bool = True


def local_store(request: pytest.FixtureRequest, folder: Path) -> Store:
    there = folder / "there"
    there.mkdir()

    def put(name: str, data: bytes) -> None:
        (there / name).write_bytes(data)
        changed = (there / name).stat().st_mtime_ns - 10**9  # not so young that it could change unnoticed
        os.utime(there / name, ns=(changed, changed))

    return Store(str(there), put, lambda name: (there / name).unlink())


def http_store(request: pytest.FixtureRequest, folder: Path) -> Store:
    server: Server = request.getfixturevalue("server")

    def put(name: str, data: bytes) -> None:
        server.put(name, data)

    return Store(server.url, put, lambda name: server.files.pop(name) and None, lists=False, writable=False)


def object_store(request: pytest.FixtureRequest, folder: Path) -> Store:
    import fsspec

    bucket = request.getfixturevalue("s3")
    system = fsspec.filesystem("s3", skip_instance_cache=True)
    return Store(
        f"{bucket}/folder",
        lambda name, data: system.pipe_file(f"{bucket}/folder/{name}", data),
        lambda name: system.rm_file(f"{bucket}/folder/{name}"),
    )


KINDS = {"local": local_store, "http": http_store, "s3": object_store}


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, bytes]:
    """The files of a folder of shards, by name."""
    folder = tiny_shards(tmp_path_factory.mktemp("tiny") / "shards", [5, 3])
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(params=KINDS)
def store(request, tmp_path, files, s3_server) -> Store:  # the server of all tests has to start before any of them
    made = KINDS[request.param](request, tmp_path)
    for name, data in files.items():
        made.put(name, data)
    return made


@pytest.fixture(params=["cached", "uncached"])
def root(request, store, tmp_path):
    cache = ShardCache(tmp_path / "cache") if request.param == "cached" else None
    opened = open_root(store.address, cache=cache, retry_policy=NO_WAITS)
    yield opened
    opened.close()


@pytest.fixture
def manifest(root, tmp_path) -> ShardManifest:
    """The manifest as it is read through the root."""
    folder = tmp_path / "manifest"
    folder.mkdir()
    (folder / MANIFEST).write_bytes(root.read_bytes(MANIFEST))
    return read_manifest(folder)


def content(root: Root, shard) -> bytes:
    with root.hold(shard) as open_shard:
        assert open_shard.view.readonly
        return bytes(open_shard.view)


def test_gives_the_manifest_whole(root, files):
    assert root.exists(MANIFEST)
    assert root.read_bytes(MANIFEST) == files[MANIFEST]


def test_lists_the_manifest_and_the_shards_or_says_that_it_cannot(root, store, files):
    if store.lists:
        assert root.list() == sorted(files)
    else:
        with pytest.raises(DataUnreachable, match="no folders to list"):
            root.list()


def test_gives_whole_shards_as_often_as_they_are_asked_for(root, manifest, files):
    for shard in (*manifest.shards("train"), *manifest.shards("train")):
        assert content(root, shard) == files[shard.name]


def test_a_shard_may_be_held_more_than_once_at_a_time(root, manifest, files):
    shard = manifest.shards("train")[0]
    with root.hold(shard) as first, root.hold(shard) as second:
        assert first.view == second.view == files[shard.name]


def test_a_prefetched_shard_is_the_same(root, manifest, files):
    for shard in manifest.shards("train"):
        root.prefetch(shard)
    for shard in manifest.shards("train"):
        assert content(root, shard) == files[shard.name]


def test_another_process_gets_the_same(root, manifest, files):
    shard = manifest.shards("train")[1]
    travelled = pickle.loads(pickle.dumps(root))
    assert content(travelled, shard) == files[shard.name]
    travelled.close()


def test_a_missing_shard_is_a_named_error(root, store, manifest):
    shard = manifest.shards("train")[0]
    store.remove(shard.name)
    assert not root.exists(shard.name)
    with pytest.raises(DataMissing, match=shard.name):
        content(root, shard)
    with pytest.raises(DataMissing, match=shard.name):
        root.read_bytes(shard.name)


def test_a_missing_shard_that_was_prefetched_is_an_error_where_it_is_held(root, store, manifest):
    shard = manifest.shards("train")[0]
    store.remove(shard.name)
    root.prefetch(shard)
    with pytest.raises(DataMissing, match=shard.name):
        content(root, shard)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda data: data[:-512], id="shorter"),
        pytest.param(lambda data: data + b"x", id="longer"),
        pytest.param(lambda data: b"", id="empty"),
        pytest.param(lambda data: data[:600] + bytes([data[600] ^ 1]) + data[601:], id="flipped bit"),
        pytest.param(lambda data: data[::-1], id="other content"),
    ],
)
def test_a_damaged_shard_is_refused_with_what_was_expected(root, store, manifest, files, damage):
    shard = manifest.shards("train")[0]
    store.put(shard.name, damage(files[shard.name]))
    for _ in range(2):
        with pytest.raises(ShardCorrupt, match=rf"{shard.name}: expected"):
            content(root, shard)
    assert content(root, manifest.shards("train")[1]) == files["train-000001.tar"]


def test_a_shard_that_changed_since_it_was_read_is_never_given(store, manifest, files):
    """Without a cache, which would still hold the right bytes."""
    shard = manifest.shards("train")[0]
    root = open_root(store.address, retry_policy=NO_WAITS)
    assert content(root, shard) == files[shard.name]
    store.put(shard.name, files[shard.name][::-1])
    with pytest.raises(ShardCorrupt, match=rf"{shard.name}: expected sha256"):
        content(root, shard)
    root.close()


def test_a_shard_that_was_mended_is_given_again(root, store, manifest, files):
    shard = manifest.shards("train")[0]
    store.put(shard.name, files[shard.name][::-1])
    with pytest.raises(ShardCorrupt):
        content(root, shard)
    store.put(shard.name, files[shard.name])
    assert content(root, shard) == files[shard.name]


def test_names_that_lead_out_of_the_folder_are_refused(root):
    for name in ("../secret", "/etc/passwd", ".hidden"):
        with pytest.raises(AddressRefused):
            root.read_bytes(name)


def test_downloads_say_what_came(root, tmp_path, manifest, files):
    shard = manifest.shards("train")[0]
    assert root.download(shard.name, tmp_path / "copy") == (shard.bytes, shard.sha256)
    assert (tmp_path / "copy").read_bytes() == files[shard.name]


def test_writing_replaces_the_file_or_is_refused(root, store, tmp_path):
    (tmp_path / "local").write_bytes(b"new")
    if store.writable:
        root.write_file("new.json", tmp_path / "local")
        assert root.read_bytes("new.json") == b"new"
    else:
        with pytest.raises(StorageUnwritable):
            root.write_file("new.json", tmp_path / "local")


def test_a_closed_root_can_be_used_again(root, manifest, files):
    shard = manifest.shards("train")[0]
    assert content(root, shard) == files[shard.name]
    root.close()
    assert content(root, shard) == files[shard.name]
