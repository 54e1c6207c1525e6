"""The cache at its worst moments, really done: killed downloaders, full disks, many processes, damaged entries."""

import logging
import os
import pickle
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from expflow.data.stores import ShardCache, cache_space, open_root
from expflow.errors import DataUnreachable, ShardCorrupt
from tests.data.stores.servers import Fault, content

SIZE = 300_000
DATA = content(1)

READER = """
import logging, pickle, sys
logging.basicConfig(stream=sys.stderr, format="%(message)s")
root, shard = pickle.loads(sys.stdin.buffer.read(int(sys.stdin.buffer.readline())))
print("started", flush=True)
with root.hold(shard) as held:
    print("cached" if held.path else "in memory", flush=True)
    sys.stdin.buffer.read()
    import hashlib
    print(hashlib.sha256(held.view).hexdigest(), flush=True)
"""
"""A process that holds a shard until its input ends, and then says what it sees."""


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def shards(server):
    return [server.put(f"train-{number}.tar", content(number)) for number in range(6)]


@pytest.fixture
def open_here(server, folder, retry_policy):
    """Roots over one cache of at most ``limit`` bytes."""
    roots = []

    def make(limit=None, folder=folder):
        roots.append(open_root(server.url, cache=ShardCache(folder, limit), retry_policy=retry_policy))
        return roots[-1]

    yield make
    for root in roots:
        root.close()


@pytest.fixture
def reader(server, folder):
    """Start a process that holds ``shard``, once its first line is there."""
    running = []

    def start(shard, limit=None, folder=folder, preexec_fn=None):
        root = pickle.dumps((open_root(server.url, cache=ShardCache(folder, limit)), shard))
        process = subprocess.Popen(
            [sys.executable, "-c", READER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            preexec_fn=preexec_fn,
        )
        running.append(process)
        process.stdin.write(b"%d\n" % len(root) + root)
        process.stdin.flush()
        assert process.stdout.readline() == b"started\n"
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


def names(folder, suffix=".tar"):
    return sorted(path.name for path in (folder / "fetched").glob(f"*{suffix}"))


def until(condition):
    """Wait for ``condition``, which must come true."""
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.005)


def waits_for_a_lock(process) -> bool:
    """Whether the system has ``process`` wait for a lock on a file."""
    return any(
        "->" in line and str(process.pid) in line.split() for line in Path("/proc/locks").read_text().splitlines()
    )


def read(root, shard) -> bytes:
    with root.hold(shard) as held:
        return bytes(held.view)


def test_a_shard_is_fetched_once_and_named_by_its_content(open_here, server, shards, folder):
    for root in (open_here(), open_here()):
        with root.hold(shards[1]) as held:
            assert held.view == DATA
            assert held.path == folder / "fetched" / f"{shards[1].sha256}.tar"
    server.put("other/same.tar", DATA)
    same = type(shards[1])("other/same.tar", 1, SIZE, shards[1].sha256)
    assert read(open_here(), same) == DATA
    assert len(server.requests) == 1
    assert names(folder, "") == [f"{shards[1].sha256}.tar"]


def test_nothing_is_visible_before_it_is_whole(open_here, server, shards, folder):
    seen = []
    server.fail(Fault(sent=100_000, then=lambda: seen.append(names(folder))))
    assert read(open_here(), shards[1]) == DATA
    assert seen == [[]]


def test_many_processes_fetch_a_shard_once(reader, server, shards):
    processes = [reader(shards[1]) for _ in range(4)]
    for process in processes:
        out, _ = process.communicate()
        assert out.decode().split() == ["cached", shards[1].sha256]
    assert len(server.requests) == 1


def test_a_killed_downloaders_part_is_finished_by_the_one_who_waits(reader, server, shards, folder):
    server.fail(Fault(sent=100_000, then=server.released.wait))
    first = reader(shards[1])
    part = folder / "fetched" / f"{shards[1].sha256}.{SIZE}.part"
    until(lambda: part.exists() and part.stat().st_size == 100_000)
    second = reader(shards[1])
    until(lambda: waits_for_a_lock(second))
    assert len(server.requests) == 1
    first.send_signal(signal.SIGKILL)
    out, _ = second.communicate()
    assert out.decode().split() == ["cached", shards[1].sha256]
    assert server.ranges == ["", "bytes=100000-"]
    assert names(folder, "") == [f"{shards[1].sha256}.tar"]


@pytest.mark.parametrize("left", [b"x" * 100_000, DATA[:100_000], DATA, DATA + b"x", b""])
def test_whatever_a_dead_process_left_the_shard_is_right(open_here, shards, folder, left):
    (folder / "fetched").mkdir(parents=True)
    (folder / "fetched" / f"{shards[1].sha256}.{SIZE}.part").write_bytes(left)
    assert read(open_here(), shards[1]) == DATA
    assert names(folder, "") == [f"{shards[1].sha256}.tar"]


def test_what_dead_processes_left_is_removed(open_here, reader, server, shards, folder, monkeypatch):
    server.fail(Fault(sent=100_000, then=server.released.wait))
    reader(shards[2])
    until(lambda: server.requests)
    alive = names(folder, ".part") + names(folder, ".lock")
    for name in (f"{'0' * 64}.5.part", f"{'1' * 64}.lock"):
        (folder / "fetched" / name).touch()
    monkeypatch.setattr(cache_space, "LEFTOVER_SECONDS", -1)
    read(open_here(), shards[1])
    assert sorted(names(folder, ".part") + names(folder, ".lock")) == sorted(alive)


def test_an_interrupted_download_leaves_a_part_and_a_wrong_one_nothing(open_here, server, shards, folder):
    server.always = Fault(sent=10, cut=True)
    server.fail(Fault(sent=100_000, cut=True))
    server.always = Fault(sent=0, cut=True)
    with pytest.raises(DataUnreachable):
        read(open_here(), shards[1])
    assert names(folder, "") == [f"{shards[1].sha256}.{SIZE}.part"]
    server.always = Fault()
    server.files["train-1.tar"] = content(2)
    with pytest.raises(ShardCorrupt):
        read(open_here(), shards[1])
    assert names(folder, "") == []


def test_the_least_recently_used_goes_first(open_here, server, shards, folder):
    root = open_here(3 * SIZE)
    for number in (0, 1, 2, 0, 3):
        read(root, shards[number])
    assert names(folder) == sorted(f"{shards[number].sha256}.tar" for number in (0, 2, 3))


def test_nothing_is_evicted_while_another_process_holds_it(open_here, reader, shards, folder):
    holding = reader(shards[0], limit=2 * SIZE)
    assert holding.stdout.readline() == b"cached\n"
    root = open_here(2 * SIZE)
    for number in (1, 2, 3):
        assert read(root, shards[number]) == content(number)
        assert names(folder) == sorted(f"{shards[number].sha256}.tar" for number in (0, number))
    out, _ = holding.communicate()
    assert out.decode().split() == [shards[0].sha256]
    for number in (1, 2):
        read(root, shards[number])
    assert names(folder) == sorted(f"{shards[number].sha256}.tar" for number in (1, 2))


def test_a_slice_that_outlives_its_context_does_not_keep_the_shard_from_eviction(open_here, shards, folder):
    root = open_here(SIZE)
    with root.hold(shards[0]) as held:
        part = held.view[:10]
    read(root, shards[1])
    assert names(folder) == [f"{shards[1].sha256}.tar"]
    assert part == content(0)[:10]


def test_more_is_held_than_the_limit_allows(open_here, shards, folder, caplog):
    root = open_here(2 * SIZE)
    with root.hold(shards[0]) as a, root.hold(shards[1]) as b, root.hold(shards[2]) as c, root.hold(shards[3]) as d:
        assert [held.path is None for held in (a, b, c, d)] == [False, False, True, True]
        assert [held.view == content(number) for number, held in enumerate((a, b, c, d))] == [True] * 4
    assert [record.message.partition("fetched ")[2] for record in caplog.records] == [
        "is limited to 600000 bytes, all of which are in use; shards are read without it"
    ]
    assert sum(path.stat().st_size for path in (folder / "fetched").iterdir()) <= 2 * SIZE


@pytest.mark.parametrize("limit", [0, 1, SIZE - 1])
def test_a_limit_smaller_than_a_shard(open_here, server, shards, folder, limit, caplog):
    root = open_here(limit)
    for _ in range(2):
        assert read(root, shards[0]) == content(0)
        assert read(root, shards[1]) == DATA
    assert names(folder, "") == []
    assert len(caplog.records) == 1
    assert "fewer than a shard of 300000 takes" in caplog.text


def test_parts_count_as_what_they_will_be(open_here, reader, server, shards, folder):
    server.fail(Fault(sent=1000, then=server.released.wait))
    reader(shards[0], limit=2 * SIZE)
    until(lambda: server.requests)
    root = open_here(2 * SIZE)
    for number in (1, 2):
        read(root, shards[number])
    assert names(folder) == [f"{shards[2].sha256}.tar"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(bytes([DATA[0] ^ 1]) + DATA[1:]),
        lambda path: path.write_bytes(DATA[:-1]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(content(2)),
    ],
    ids=["flipped", "cut", "empty", "swapped"],
)
def test_a_damaged_entry_is_noticed_and_fetched_again(open_here, server, shards, folder, damage, caplog):
    read(open_here(), shards[1])
    path = folder / "fetched" / f"{shards[1].sha256}.tar"
    damage(path)
    os.utime(
        path, ns=(time.time_ns(), time.time_ns() + 10**9)
    )  # the clock of files may be as slow as this test is fast
    assert read(open_here(), shards[1]) == DATA
    assert read(open_here(), shards[1]) == DATA
    assert len(server.requests) == 2
    assert [record.message.partition(".tar: ")[2][:8] for record in caplog.records] == ["damaged "]


def test_an_entry_that_is_removed_by_hand_while_it_is_held(open_here, server, shards, folder):
    root = open_here()
    with root.hold(shards[1]) as held:
        held.path.unlink()
        assert held.view == DATA
        with root.hold(shards[1]) as again:
            assert again.view == DATA
    assert len(server.requests) == 2


def test_a_folder_that_cannot_be_used(open_here, tmp_path, shards, caplog):
    (tmp_path / "file").touch()
    root = open_here(folder=tmp_path / "file")
    for number in (0, 1, 0):
        assert read(root, shards[number]) == content(number)
    assert len(caplog.records) == 1
    assert "cannot be used (Not a directory); shards are read without it" in caplog.text


def test_a_manifest_cannot_name_a_file_outside_the_cache(open_here, shards):
    evil = type(shards[0])("train-0.tar", 1, SIZE, "../../evil")
    with pytest.raises(ShardCorrupt, match=r"sha256 '../../evil' is none"):
        read(open_here(), evil)


@pytest.fixture
def small_disk(tmp_path):
    """A disk of one megabyte."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no right to mount a disk: {done.stderr.strip()}")
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_disk_that_is_too_small(open_here, small_disk, shards, caplog):
    root = open_here(folder=small_disk)
    for number in (*range(6), *range(6)):
        assert read(root, shards[number]) == content(number)
    assert len(names(small_disk)) == 3
    assert len(caplog.records) == 1
    assert "has no room left on its disk; shards are read without it" in caplog.text


def test_a_disk_that_fills_up_in_the_middle_of_a_shard(open_here, server, small_disk, shards, caplog):
    def fill():
        with (small_disk / "filler").open("wb", buffering=0) as file:
            while True:
                try:
                    file.write(bytes(4096))
                except OSError:
                    return

    server.fail(Fault(sent=100_000, then=fill))
    root = open_here(folder=small_disk)
    with root.hold(shards[1]) as held:
        assert held.view == DATA
        assert held.path is None
    assert len(server.requests) == 1, "what was there was fetched again"
    assert names(small_disk, "") == []
    assert "is full (No space left on device); shards are read without it" in caplog.text
    (small_disk / "filler").unlink()
    with root.hold(shards[1]) as held:
        assert held.path
    assert len(caplog.records) == 1


def test_what_nobody_used_for_long_makes_room_on_a_full_disk(open_here, small_disk, shards):
    root = open_here(folder=small_disk)
    for number in range(3):
        read(root, shards[number])
    old = small_disk / "fetched" / f"{shards[1].sha256}.tar"
    os.utime(old, ns=(time.time_ns() - 2 * cache_space.IDLE_SECONDS * 10**9, old.stat().st_mtime_ns))
    read(root, shards[3])
    assert names(small_disk) == sorted(f"{shards[number].sha256}.tar" for number in (0, 2, 3))


def test_a_limit_on_the_size_of_files_is_a_full_disk(reader, server, shards, folder):
    limit = 100_000
    process = reader(shards[1], preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)))
    out, err = process.communicate()
    assert out.decode().splitlines() == ["in memory", shards[1].sha256]
    assert "is full (File too large); shards are read without it" in err.decode()
    assert len(server.requests) == 1
    assert names(folder, "") == []


def test_reading_ahead_fills_the_cache(open_here, server, shards, folder):
    root = open_here()
    for shard in (*shards, *shards):
        root.prefetch(shard)
    until(lambda: len(names(folder)) == 6)
    assert sorted(path for path, _, _ in server.requests) == sorted(f"/{shard.name}" for shard in shards)
    assert read(root, shards[1]) == DATA
    assert len(server.requests) == 6


def test_reading_ahead_without_a_cache_keeps_a_few_shards(server, shards, retry_policy):
    root = open_root(server.url, retry_policy=retry_policy)
    for shard in shards[:4]:
        root.prefetch(shard)
    until(lambda: len(server.requests) == 4)
    for shard, number in zip(shards[:4], range(4), strict=True):
        assert read(root, shard) == content(number)
    assert len(server.requests) == 4
    root.close()


def test_reading_ahead_of_a_cache_that_is_too_small_fetches_nothing_twice(open_here, server, shards):
    root = open_here(SIZE - 1)
    assert read(root, shards[0]) == content(0)
    for shard in shards[1:]:
        root.prefetch(shard)
    until(lambda: len(server.requests) >= 5)
    for number in range(1, 6):
        assert read(root, shards[number]) == content(number)
    assert len(server.requests) == 6


def test_threads_that_hold_the_same_shard_fetch_it_once(server, shards, retry_policy):
    from concurrent.futures import ThreadPoolExecutor

    root = open_root(server.url, retry_policy=retry_policy)
    with root.hold(shards[1]), ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda _: read(root, shards[1]), range(8))) == [DATA] * 8
    assert len(server.requests) == 1
    root.close()


def test_an_error_of_reading_ahead_comes_when_the_shard_is_held(open_here, server, shards, caplog):
    caplog.set_level(logging.WARNING)
    server.always = Fault(status=404)
    root = open_here()
    root.prefetch(shards[1])
    until(lambda: server.requests)
    server.always = Fault()
    assert read(root, shards[1]) == DATA
    assert caplog.records == []
