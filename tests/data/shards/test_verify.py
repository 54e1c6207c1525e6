"""Whatever happens to a shard is named with what was expected and what was found; no epoch is silently short."""

import hashlib
import io
import shutil
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from expflow.data.prepare.prepared import PreparedData
from expflow.data.shards.index import read_index
from expflow.data.shards.manifest import ShardEntry, read_manifest, write_manifest
from expflow.data.shards.verify import verify_shards
from expflow.data.streaming.loader import Loader, LoaderConfig
from expflow.errors import DataMissing, ShardCorrupt
from tests.data.shards.contents import shard_samples

SHARD = "train-000001.tar"


@pytest.fixture
def root(many_shards: PreparedData) -> Path:
    return many_shards.root


def cut(size: int):
    return lambda content: content[:size]


def flip(position: int):
    return lambda content: content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]


@pytest.mark.parametrize(
    "damage",
    [cut(0), cut(700), cut(4 * 1024), cut(4 * 1024 + 100), flip(10), flip(600), flip(1100)],
    ids=["empty", "cut in a member", "cut between samples", "cut in a header", "header", "label", "image"],
)
@pytest.mark.parametrize("memory", [0, 2**30], ids=["streamed", "in memory"])
def test_damage_is_named(root, damage, memory):
    content = (root / SHARD).read_bytes()
    (root / SHARD).write_bytes(damage(content))
    (problem,) = verify_shards(root)
    assert problem.startswith(f"{SHARD}: expected ")
    assert "found" in problem
    with pytest.raises(ShardCorrupt, match=rf"{SHARD}: expected .*, found .*; delete"):
        list(Loader(LoaderConfig(root, "train", batch_size=8, seed=0, shuffle=True, memory_bytes=memory)))


def test_missing_swapped_and_extra_shards_are_named(root):
    other = root / "train-000002.tar"
    held = (root / SHARD).read_bytes(), other.read_bytes()
    (root / SHARD).write_bytes(held[1])
    other.write_bytes(held[0])
    (root / "val-000000.tar").unlink()
    shutil.copy(root / "train-000003.tar", root / "train-999999.tar")
    problems = dict(problem.split(": ", 1) for problem in verify_shards(root))
    assert problems[SHARD].endswith("(it holds train-000002.tar)")
    assert problems["train-000002.tar"].endswith(f"(it holds {SHARD})")
    assert "found no readable file" in problems["val-000000.tar"]
    assert problems["train-999999.tar"] == "not in the manifest"
    assert len(problems) == 4


def test_a_damaged_manifest_is_refused(root):
    manifest = root / "manifest.json"
    text = manifest.read_text()
    for broken in (text.replace('"samples": 9', '"samples": 8', 1), text[:-40], "", "[]"):
        manifest.write_text(broken)
        with pytest.raises(ShardCorrupt, match=r"manifest\.json: damaged"):
            read_manifest(root)
    manifest.unlink()
    with pytest.raises(DataMissing):
        verify_shards(root)


def forge(root: Path, members: list[tarfile.TarInfo | tuple[str, bytes]], samples: int = 1) -> ShardEntry:
    """A shard of such ``members`` that agrees with its manifest in size and hash."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
                continue
            info = tarfile.TarInfo(member[0])
            info.size = len(member[1])
            tar.addfile(info, io.BytesIO(member[1]))
    content = buffer.getvalue()
    (root / SHARD).write_bytes(content)
    return ShardEntry(SHARD, samples, len(content), hashlib.sha256(content).hexdigest())


def link(name: str, target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, target
    return info


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("a.cls", b"1"), ("a.png", b"x"), ("a.pkl", b"x")], "'a.pkl' is none of the fields"),
        ([("../a.cls", b"1"), ("../a.png", b"x")], "'../a.cls' is refused"),
        ([("x/../../a.cls", b"1")], "is refused"),
        ([("/etc/a.cls", b"1")], "is refused"),
        ([link("a.png", "/etc/passwd")], "is refused"),
        ([("a.cls", b"1"), ("b.cls", b"1"), ("b.png", b"x")], "sample 'a' lacks image"),
        ([("a.cls", b"1"), ("a.cls", b"2"), ("a.png", b"x")], "'a.cls' is there twice"),
        ([("a.cls", b"1"), ("a.png", b"x")], "expected 2 samples, found 1"),
    ],
)
def test_members_that_no_shard_of_ours_holds_are_refused(root, members, message):
    shard = forge(root, members, samples=2)
    with pytest.raises(ShardCorrupt, match=message.replace(".", r"\.")):
        read_index(root, shard, {"image": "png", "label": "cls"})


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("a.cls", b"1"), ("a.png", b"no image")], "train-000001.tar: sample a: .*no image"),
        ([("a.cls", b"cat"), ("a.png", None)], "train-000001.tar: sample a: .*invalid literal"),
    ],
)
def test_content_that_does_not_decode_names_the_sample(many_shards, members, message):
    root, manifest = many_shards.root, many_shards.manifest
    good = shard_samples(root, manifest.splits["train"][0], manifest.fields)[0][1]["image"]
    shard = forge(root, [(name, good if content is None else content) for name, content in members])
    write_manifest(root, replace(manifest, splits={"train": (shard,)}))
    with pytest.raises(ShardCorrupt, match=message):
        Loader(LoaderConfig(root, "train", batch_size=1, seed=0, shuffle=False))


def test_shard_names_are_plain_files(many_shards):
    for name in ("pipe:touch x.tar", "../train-000001.tar", "/etc/train.tar", "http://x/a.tar"):
        shard = replace(many_shards.manifest.splits["train"][0], name=name)
        write_manifest(many_shards.root, replace(many_shards.manifest, splits={"train": (shard,)}))
        with pytest.raises(ShardCorrupt, match="is not the name of a shard"):
            read_manifest(many_shards.root)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_webdataset_and_tar_read_the_same_samples(many_shards, tmp_path):
    import webdataset

    root, manifest = many_shards.root, many_shards.manifest
    shards = manifest.splits["train"]
    ours = [sample for shard in shards for sample in shard_samples(root, shard, manifest.fields)]
    theirs = webdataset.WebDataset([str(root / shard.name) for shard in shards], shardshuffle=False, empty_check=False)
    assert [(sample["__key__"], sample["png"], sample["cls"]) for sample in theirs] == [
        (key, fields["image"], fields["label"]) for key, fields in ours
    ]
    for shard in shards:
        subprocess.run(["tar", "xf", root / shard.name, "-C", tmp_path], check=True)
    for key, fields in ours:
        assert (tmp_path / f"{key}.png").read_bytes() == fields["image"]
        assert (tmp_path / f"{key}.cls").read_bytes() == fields["label"]
    assert len({key for key, _ in ours}) == manifest.samples("train") == len(ours)
