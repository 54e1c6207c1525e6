"""An index says where each sample lies; it is never believed further than its checksum and the shard's size."""

import hashlib
import io
import tarfile
from dataclasses import replace

import numpy as np
import pytest

from expflow.data.shards.index import ShardIndex, index_tar, read_index
from expflow.data.shards.manifest import Sidecar, read_manifest
from expflow.data.shards.tar import members
from expflow.errors import ShardCorrupt

FIELDS = {"image": "png", "label": "cls"}


def tar_of(entries, form=tarfile.USTAR_FORMAT):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for name, content in entries:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


SAMPLES = [(f"{key}.{ending}", f"{key}{ending}".encode()) for key in ("a", "x/b", "c") for ending in ("cls", "png")]


def test_every_sample_of_a_build_is_where_its_index_says(many_shards):
    root, manifest = many_shards.root, read_manifest(many_shards.root)
    for shard in manifest.all_shards():
        index = read_index(root, shard, manifest.fields)
        assert index.offsets.dtype == index.sizes.dtype == np.int64
        assert index.offsets.shape == index.sizes.shape == (shard.samples, 2)
        content = (root / shard.name).read_bytes()
        with tarfile.open(root / shard.name) as tar:
            for number, key in enumerate(index.keys):
                for column, field in enumerate(index.fields):
                    member = tar.extractfile(f"{key}.{manifest.fields[field]}").read()
                    offset, size = index.offsets[number, column], index.sizes[number, column]
                    assert content[offset : offset + size] == member


def test_a_shard_of_an_older_version_is_indexed_by_its_headers(many_shards):
    root, shard = many_shards.root, many_shards.manifest.splits["train"][3]
    made = read_index(root, shard, FIELDS)
    old = replace(shard, index=None)
    walked = read_index(root, old, FIELDS)
    assert read_index((root / shard.name).read_bytes(), old, FIELDS).keys == walked.keys == made.keys
    assert np.array_equal(walked.offsets, made.offsets)
    assert np.array_equal(walked.sizes, made.sizes)


def test_columns_are_those_that_are_asked_for():
    index = index_tar(tar_of(SAMPLES), FIELDS)
    only = index.only({"label": "cls"})
    assert only.fields == ("label",)
    assert np.array_equal(only.offsets[:, 0], index.offsets[:, 1])
    with pytest.raises(ValueError, match="lacks mask"):
        index.only({"mask": "png"})


@pytest.mark.parametrize("samples", [[], SAMPLES])
def test_bytes_and_back(samples):
    index = index_tar(tar_of(samples), FIELDS)
    back = ShardIndex.from_bytes(index.to_bytes())
    assert (back.fields, back.keys) == (index.fields, index.keys)
    assert np.array_equal(back.offsets, index.offsets)
    assert np.array_equal(back.sizes, index.sizes)


def test_a_damaged_or_wrong_sidecar_is_refused(many_shards, tmp_path):
    shard = many_shards.manifest.splits["train"][0]
    content = (many_shards.root / shard.index.name).read_bytes()
    flipped = content[:40] + bytes([content[40] ^ 1]) + content[41:]
    for damaged, message in ((flipped, "expected sha256"), (content[:-1], "expected .* bytes"), (b"", "found 0")):
        with pytest.raises(ShardCorrupt, match=f"{shard.index.name}: .*{message}"):
            read_index(damaged, shard, FIELDS)
    with pytest.raises(ShardCorrupt, match="No such file"):
        read_index(tmp_path, shard, FIELDS)

    def with_sidecar(index):
        content = index.to_bytes()
        sidecar = Sidecar(shard.index.name, len(content), hashlib.sha256(content).hexdigest())
        return content, replace(shard, index=sidecar)

    index = ShardIndex.from_bytes(content)
    far = index.offsets.copy()
    far[2, 1] = 2**63 - 5
    for changed, message in (
        (replace(index, offsets=far), "leads out of"),
        (replace(index, sizes=-index.sizes), "leads out of"),
        (index_tar(tar_of(SAMPLES), FIELDS), "expected 9 samples, found 3"),
    ):
        with pytest.raises(ShardCorrupt, match=message):
            read_index(*with_sidecar(changed), FIELDS)


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_are_those_that_tarfile_finds(form):
    names = [f"{'d' * (1 + number % 70)}/{number}-ü{'x' * (number % 30)}.png" for number in range(200)]
    if form != tarfile.USTAR_FORMAT:
        names += ["n" * 300 + ".png", "f" * 120 + "/" + "g" * 120 + ".cls"]
    content = tar_of([(name, bytes(number * 7 % 1500)) for number, name in enumerate(names)], form)
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        assert [tuple(member) for member in members(content)] == [
            (info.name, info.offset_data, info.size) for info in tar
        ]


def test_names_that_are_not_utf8_keep_their_bytes():
    content = tar_of([("a.png", b"x")]).replace(b"a.png", b"\xe4.png", 1)
    head = bytearray(content[:512])
    head[148:156] = b"%06o\0 " % (sum(head) - sum(head[148:156]) + 256)
    (member,) = members(bytes(head) + content[512:])
    assert member.name.encode("utf-8", "surrogateescape") == b"\xe4.png"
    index = index_tar(bytes(head) + content[512:], {"image": "png"})
    assert ShardIndex.from_bytes(index.to_bytes()).keys == ["\udce4"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda tar: tar[: 4 * 512], "it was cut off"),
        (lambda tar: tar[: 3 * 512 + 100], "cut off|a member of"),
        (lambda tar: tar[:100], "cut off"),
        (lambda tar: tar[:5] + b"!" + tar[6:], "damaged tar header at byte 0"),
        (lambda tar: tar[:1024] + b"\1" * 512 + tar[1536:], "no tar header at byte 1024"),
    ],
    ids=["between samples", "in a header", "in the first header", "flipped bit", "overwritten"],
)
def test_a_damaged_tar_has_no_index(damage, message):
    with pytest.raises(ValueError, match=message):
        index_tar(damage(tar_of(SAMPLES)), FIELDS)


def test_shards_of_others_may_hold_more_but_no_pickles():
    more = [("a.jpeg", b"x"), ("a.cls", b"1"), ("a.json", b"{}"), ("._a.jpeg", b"y"), ("b.cls", b"1"), ("b.PNG", b"x")]
    fields = {"image": "jpg", "label": "cls"}
    assert index_tar(tar_of(more), fields, extras=True).keys == ["a", "b"]
    with pytest.raises(ValueError, match="none of the fields"):
        index_tar(tar_of(more), fields)
    for name in ("a.pkl", "b.seg.pyd", "b.PTH", "b.pickle"):
        with pytest.raises(ValueError, match="pickled content is refused"):
            index_tar(tar_of([*more, (name, b"x")]), fields, extras=True)
    with pytest.raises(ValueError, match="is refused"):
        index_tar(tar_of([*more, ("../c.json", b"x")]), fields, extras=True)
