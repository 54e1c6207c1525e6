"""Mutated bytes for the readers of tars, manifests, indexes and JPEG headers: each answer is a result or a named error.

``python -m tests.fuzz.test_data_readers 10000 [SEED]`` tries that many for each reader; the tests try 200.
"""

import io
import json
import sys
import tarfile

import numpy as np
import pytest
from PIL import Image

from expflow.data.dataspec import DataSpec, FieldSpec
from expflow.data.decode.errors import Undecodable
from expflow.data.decode.jpeg_header import read_jpeg_header
from expflow.data.shards.index import ShardIndex, index_tar
from expflow.data.shards.manifest import ShardEntry, ShardManifest, checksum, parse_manifest
from expflow.data.shards.passed_over import PassedOver
from expflow.data.shards.tar import members
from expflow.errors import ShardCorrupt
from tests.fuzz.bounds import within_bounds

FIELDS = {"image": "jpg", "label": "cls"}
FORMS = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)


def _tar(form):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as tar:
        for key in ("a", "b" * 60 + "/" + "c" * 60, "ü"):
            for ending in FIELDS.values():
                info = tarfile.TarInfo(f"{key}.{ending}")
                info.size = 10
                tar.addfile(info, io.BytesIO(b"1" * 10))
    return buffer.getvalue()


def _jpeg(mode):
    buffer = io.BytesIO()
    Image.new(mode, (20, 30), 100).save(buffer, "JPEG")
    return buffer.getvalue()


def _manifest():
    spec = DataSpec({"image": FieldSpec((1, 2, 2), "uint8"), "label": FieldSpec((), "int64")}, ("a",), {"train": 3})
    shards = {"train": (ShardEntry("train-0.tar", 3, 100, "0" * 64),)}
    passed_over = PassedOver()
    passed_over.add("hidden files", ".x")
    return ShardManifest("key", {"name": "shards"}, FIELDS, shards, spec, "content", "", None, passed_over, ("a note",))


def _read_tar(content):
    list(members(content))
    index_tar(content, FIELDS, extras=True)


def _read_manifest(content):
    try:  # a checksum keeps nobody out who can compute one
        data = json.loads(content)
        data.pop("sha256", None)
        content = json.dumps({**data, "sha256": checksum(data)}).encode()
    except (ValueError, AttributeError, TypeError, RecursionError):
        pass
    parse_manifest(content, "manifest.json")


READERS = {
    "tar": (
        _read_tar,
        [_tar(form) for form in FORMS],
        ValueError,
    ),
    "manifest": (_read_manifest, [json.dumps(_manifest().to_json()).encode()], ShardCorrupt),
    "index": (ShardIndex.from_bytes, [index_tar(_tar(tarfile.PAX_FORMAT), FIELDS).to_bytes()], ValueError),
    "jpeg": (read_jpeg_header, [_jpeg("L"), _jpeg("RGB")], Undecodable),
}


def mutated(content, random):
    """The content with some bytes changed, taken out, doubled or cut off; its tar headers have right checksums."""
    data = bytearray(content)
    for _ in range(random.integers(1, 4)):
        at, length = int(random.integers(0, max(len(data), 1))), int(random.integers(1, 16))
        kind = random.integers(0, 5)
        if kind == 0:
            data[at : at + 1] = bytes([int(random.integers(0, 256))])
        elif kind == 1:
            del data[at : at + length]
        elif kind == 2:
            data[at:at] = data[at : at + length]
        elif kind == 3:
            data[at : at + length] = bytes([random.choice([0, 45, 48, 57, 91, 123, 255])]) * length
        else:
            del data[at:]
    return bytes(data)


def with_checksums(content):
    """The same blocks, each of which states a right checksum of a tar header where it states one."""
    data = bytearray(content)
    for first in range(0, len(data) - 511, 512):
        if data[first + 257 : first + 262] == b"ustar":
            data[first + 148 : first + 156] = b" " * 8
            data[first + 148 : first + 156] = b"%06o\0 " % sum(data[first : first + 512])
    return bytes(data)


def attack(name, count, seed=0):
    """Try ``count`` mutations on one reader: each answer is a result or a named error, within bounds."""
    read, contents, named = READERS[name]
    random = np.random.default_rng(seed)
    for number in range(count):
        content = mutated(contents[number % len(contents)], random)
        content = with_checksums(content) if name == "tar" and number % 2 else content
        with within_bounds(f"{name}, mutation {number} of seed {seed}: {content!r}"):
            try:
                read(content)
            except named:
                pass
            except Exception as error:
                raise AssertionError(f"{name}, mutation {number} of seed {seed}: {content!r}") from error


@pytest.mark.parametrize("name", READERS)
def test_mutated_bytes_are_read_or_refused_by_name(name):
    attack(name, 200)


@pytest.mark.parametrize(
    "content",
    [
        b"\xff\xd8\xff\xc0\x00\x02\xff\xda\x00\x02",
        b"\xff\xd8\xff\xc0\x00\x08\x08\x00\x01\x00\x01\x01\xff\xda\x00\x02",
        b"\xff\xd8\xff\xc0\x00\x0b\x08\x00\x01\x00\x01\x01\x01\x11\x00\xff\xda\x00\x02",
    ],
    ids=["an empty frame", "a frame without its components", "an empty scan"],
)
def test_a_jpeg_with_segments_that_are_too_short_is_refused(content):
    with pytest.raises(Undecodable):
        read_jpeg_header(content)


def test_a_manifest_that_is_nested_deeply_is_damaged():
    with pytest.raises(ShardCorrupt, match="nested too deeply"):
        parse_manifest(b"[" * 100_000, "manifest.json")


if __name__ == "__main__":
    for reader in READERS:
        attack(reader, int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0)
        print(f"{reader}: {sys.argv[1]} mutations, each a result or a named error")
