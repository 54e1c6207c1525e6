import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from expflow.data.prepare.build import prepare
from expflow.data.prepare.prepared import data_key
from expflow.data.shards.manifest import read_manifest
from expflow.data.shards.verify import verify_shards
from expflow.data.specs import DigitsSpec, FolderSpec
from expflow.errors import DataMissing, ShardCorrupt, StorageUnwritable


def test_digits(digits):
    assert digits.spec.samples == {"train": 1300, "val": 397, "test": 100}
    assert digits.spec.image_shape == (1, 8, 8)
    assert digits.spec.classes == tuple("0123456789")
    assert digits.spec.mean == pytest.approx((0.305,), abs=0.01)
    assert digits.spec.std == pytest.approx((0.376,), abs=0.01)
    assert digits.root.name.startswith("digits-")
    assert verify_shards(digits.root) == []
    assert read_manifest(digits.root) == digits.manifest


def test_built_once(digits):
    def never(done: int, total: int) -> None:
        raise AssertionError("built again")

    again = prepare(DigitsSpec(name="digits", batch_size=7, limit=100), cache=digits.root.parent, on_progress=never)
    assert again.root == digits.root
    assert again.key == digits.key
    assert again.spec.samples == {"train": 100, "val": 397, "test": 100}
    assert again.manifest == digits.manifest


def test_only_what_changes_the_samples_enters_the_key():
    key = data_key(DigitsSpec(name="digits"))
    assert key == data_key(DigitsSpec(name="digits", batch_size=128, limit=10, workers=3))
    assert key != data_key(DigitsSpec(name="digits", split_seed=1))
    here, there = FolderSpec(name="folder", path="a"), FolderSpec(name="folder", path="b")
    assert data_key(here) == data_key(there) != data_key(FolderSpec(name="folder", image_size=32))
    assert data_key(here) == data_key(FolderSpec(name="folder", image_size=64)), "a default may as well be written out"


def test_a_changed_folder_is_built_anew(images, tmp_path):
    path = images({"a": 12, "b": 12})
    spec = FolderSpec(name="folder", path=path, image_size=4)
    progress = []
    first = prepare(spec, cache=tmp_path / "cache", on_progress=lambda *done: progress.append(done))
    assert progress == [(done, 24) for done in range(1, 25)]
    assert prepare(spec, cache=tmp_path / "cache").root == first.root
    os.utime(path / "a" / "0.png", ns=(1, 1))
    second = prepare(spec, cache=tmp_path / "cache")
    assert second.root != first.root
    assert second.manifest == first.manifest, "the same images make the same shards, whenever they are built"
    (path / "a" / "0.png").unlink()
    assert prepare(spec, cache=tmp_path / "cache").manifest.content != first.manifest.content


def test_where_the_folder_lies(images, tmp_path):
    path = images({"a": 12, "b": 12})
    cache = tmp_path / "cache"
    relative = prepare(FolderSpec(name="folder", path=path.name), cache=cache, folder=path.parent)
    assert prepare(FolderSpec(name="folder"), cache=cache, site_path=path).root == relative.root
    with pytest.raises(DataMissing, match=r"write data\.path"):
        prepare(FolderSpec(name="folder"), cache=cache)
    with pytest.raises(DataMissing, match=r"no folder of images at .*nowhere"):
        prepare(FolderSpec(name="folder", path="nowhere"), cache=cache)


def test_found_data_cost_no_heavy_import(digits):
    script = """
        import sys
        from pathlib import Path
        from expflow.data.prepare.build import prepare
        from expflow.data.specs import DigitsSpec
        prepare(DigitsSpec(name="digits"), cache=Path(sys.argv[1]))
        print([name for name in ("torch", "numpy", "PIL", "webdataset", "sklearn") if name in sys.modules])
    """
    assert python(script, digits.root.parent).stdout.strip() == "[]"


def test_a_damaged_build_is_refused_not_used(images, tmp_path):
    spec = FolderSpec(name="folder", path=images({"a": 12, "b": 12}))
    prepared = prepare(spec, cache=tmp_path)
    shard = prepared.root / "val-000000.tar"
    shard.write_bytes(shard.read_bytes()[:-512])
    with pytest.raises(ShardCorrupt, match=rf"val-000000\.tar: expected \d+ bytes, found \d+; delete {prepared.root}"):
        prepare(spec, cache=tmp_path)
    shard.unlink()
    with pytest.raises(ShardCorrupt, match="found no file"):
        prepare(spec, cache=tmp_path)
    (prepared.root / "manifest.json").unlink()
    with pytest.raises(ShardCorrupt, match=r"expected manifest\.json, found none"):
        prepare(spec, cache=tmp_path)


def test_no_room_for_the_cache_is_said(images, tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(StorageUnwritable, match="cannot build the shards of folder"):
        prepare(FolderSpec(name="folder", path=images({"a": 12, "b": 12})), cache=tmp_path / "cache")


def test_kill_in_the_middle_of_a_build(images, tmp_path):
    path = images({"a": 20, "b": 20})
    script = """
        import os, signal, sys
        from pathlib import Path
        from expflow.data.prepare.build import prepare
        from expflow.data.specs import FolderSpec

        def die(done, total):
            if done == total - 1:
                os.kill(os.getpid(), signal.SIGKILL)

        prepare(FolderSpec(name="folder", path=sys.argv[1]), cache=Path(sys.argv[2]), on_progress=die)
    """
    killed = python(script, path, tmp_path / "cache", check=False)
    assert killed.returncode == -signal.SIGKILL
    left = list((tmp_path / "cache").glob(".folder-*.building"))
    assert len(left) == 1
    assert list(left[0].glob("*.tar"))
    assert not list((tmp_path / "cache").glob("folder-*"))

    prepared = prepare(FolderSpec(name="folder", path=path), cache=tmp_path / "cache")
    assert verify_shards(prepared.root) == []
    assert not list((tmp_path / "cache").glob(".*.building*"))


def test_two_processes_at_once_build_once(images, tmp_path):
    path, cache = images({"a": 20, "b": 20}), tmp_path / "cache"
    script = """
        import json, sys
        from pathlib import Path
        from expflow.data.prepare.build import prepare
        from expflow.data.specs import FolderSpec

        built = []

        def slow(done, total):
            built.append(done)
            if done == 5:
                print("building", flush=True)
                sys.stdin.readline()

        prepared = prepare(FolderSpec(name="folder", path=sys.argv[1]), cache=Path(sys.argv[2]), on_progress=slow)
        print(json.dumps([str(prepared.root), len(built)]), flush=True)
    """
    first, second = start(script, path, cache), None
    try:
        assert first.stdout.readline() == "building\n"
        second = start(script, path, cache)
        wait_for_lock(second.pid)
        first.stdin.write("go on\n")
        first.stdin.flush()
        results = [json.loads(process.stdout.readline()) for process in (first, second)]
    finally:
        for process in (first, second):
            if process:
                process.kill()
                process.communicate()
    assert results[0][0] == results[1][0]
    assert [built for _, built in results] == [40, 0]
    assert verify_shards(Path(results[0][0])) == []


def wait_for_lock(pid: int) -> None:
    """Return once process ``pid`` waits for a file lock (the kernel marks waiters in this list with ``->``)."""
    while not any("->" in line and str(pid) in line.split() for line in Path("/proc/locks").read_text().splitlines()):
        os.sched_yield()


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def python(script: str, *arguments: object, check: bool = True) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=check)
