"""Folders and shards whose structure is not what it seems: each is refused with its reason, or what it lacks is said.

The images are noise; what matters is names, structure and headers.
"""

import io
import os
import struct
import tarfile
import unicodedata

import numpy as np
import pytest
from PIL import Image

from expflow.data.decode.pillow_decoder import decode_with_pillow
from expflow.data.prepare.build import prepare
from expflow.data.shards.manifest import parse_manifest, read_manifest
from expflow.data.shards.summary import summary_lines
from expflow.data.shards.tar import members
from expflow.data.shards.verify import verify_shards
from expflow.data.sources.folder import read_image
from expflow.data.sources.listing import names_a_split
from expflow.data.specs import FolderSpec, ShardsSpec
from expflow.errors import DataInvalid, ShardCorrupt
from tests.data.tiny import tar_of


def jpeg(seed):
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


JPEG = jpeg(0)


def samples(count, start=0, classes=3, first_class=0, name="s{:04d}"):
    """Members of ``count`` samples of a shard."""
    numbers = range(start, start + count)
    pairs = ((name.format(k), str(first_class + k % classes).encode()) for k in numbers)
    return {
        member: content for key, label in pairs for member, content in ((f"{key}.jpg", JPEG), (f"{key}.cls", label))
    }


@pytest.fixture
def shards(tmp_path):
    """Make a folder of shards: ``shards({"a.tar": {"a.jpg": bytes, "a.cls": b"0"}})``; bytes stay."""

    def make(files, name="shards"):
        for path, content in files.items():
            place = tmp_path / name / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content if isinstance(content, bytes) else tar_of(content))
        return tmp_path / name

    return make


@pytest.fixture
def read(tmp_path):
    """Prepare a folder of images, or of shards."""

    def prepared(path, **keys):
        cls, name = (ShardsSpec, "shards") if any(path.rglob("*.tar")) else (FolderSpec, "folder")
        keys = {"image_size": 8, **({"val_fraction": 0.2, "test_fraction": 0} if name == "folder" else {}), **keys}
        where = str(path) if name == "shards" else path
        return prepare(cls(name=name, path=where, **keys), cache=tmp_path / "cache")

    return prepared


def stats(data):
    """The text of ``expflow data stats``."""
    return "\n".join(summary_lines(data.root, read_manifest(data.root)))


# Folders that would be taken for classes and are none


@pytest.mark.parametrize(
    ("folders", "named"),
    [
        (("Train/cat", "Train/dog", "Val/cat", "Val/dog"), "Train, Val would be taken for classes"),
        (("training/cat", "training/dog", "validation/cat", "validation/dog"), "training, validation would be taken"),
        (("val/cat", "val/dog", "test/cat", "test/dog"), "test, val would be taken for classes"),
        (("train_images/cat", "train_images/dog", "hold-out/cat", "hold-out/dog"), "hold-out, train_images would be"),
        (("cat", "dog", "eval"), "eval would be taken"),
        (("flowers/rose", "flowers/tulip"), "flowers would be the only class"),
        (("data/train/cat", "data/train/dog", "data/val/cat", "data/val/dog"), "data would be the only class"),
        (("train/flowers/rose", "train/flowers/tulip", "val/flowers/rose"), "train/flowers would be the only class"),
        (("cat/train", "cat/val", "dog/train", "dog/val"), "cat/train looks like a part|cat/val looks like a part"),
        (("data/Train",), "data/Train looks like a part of a data set"),
    ],
)
def test_what_is_no_class_is_refused_by_name(images, read, folders, named):
    with pytest.raises(DataInvalid, match=named):
        read(images(dict.fromkeys(folders, 6)))


@pytest.mark.parametrize("name", ["test tube", "trains", "dev board", "evaluator", "valley", "attest", "cat"])
def test_a_class_may_have_a_name_in_which_a_split_occurs(name):
    assert not names_a_split(name)


def test_a_class_named_like_a_split_is_read_inside_of_train(images, read):
    assert read(images({"train/train": 6, "train/car": 6})).spec.classes == ("car", "train")


@pytest.mark.parametrize(
    "inner", [("flowers/rose", "flowers/tulip", "animals/cat", "animals/dog"), ("a/x", "a/y", "b")]
)
def test_classes_that_hold_several_folders_are_named(images, read, inner):
    (note,) = read(images(dict.fromkeys(inner, 6))).manifest.notes
    assert inner[0].partition("/")[0] in note
    assert "one class" in note


@pytest.mark.parametrize("folders", [("a/images", "b/images"), ("train/a/images", "train/b/images")])
def test_one_folder_inside_of_each_class_is_usual(images, read, folders):
    assert read(images(dict.fromkeys(folders, 6))).manifest.remarks() == []


@pytest.mark.parametrize(("link", "target"), [("cat/up", ".."), ("cat/self", "../cat"), ("dog/deep", "../../images")])
def test_links_that_lead_in_a_circle_are_named(images, read, link, target):
    path = images({"cat": 6, "dog": 6})
    (path / link).symlink_to(target)
    with pytest.raises(DataInvalid, match=f"the link {link} leads back to a folder") as error:
        read(path)
    assert "permissions" not in str(error.value)


def test_two_links_to_each_other_are_named_as_links(images, read):
    path = images({"cat": 6, "dog": 6})
    (path / "cat" / "one").symlink_to("two")
    (path / "cat" / "two").symlink_to("one")
    with pytest.raises(DataInvalid, match="remove the link"):
        read(path)


# What lies there and is not read


@pytest.mark.parametrize(
    ("litter", "named", "reason"),
    [
        ("cat/@eaDir/0.png/SYNOPHOTO_THUMB_M.jpg", "cat/@eaDir/", "systems and file servers"),
        ("__MACOSX/cat/._0.png", "__MACOSX/", "systems and file servers"),
        ("cat/Thumbs.db", "cat/Thumbs.db", "systems and file servers"),
        ("cat/@Recycle/old.png", "cat/@Recycle/", "systems and file servers"),
        ("cat/.hidden.png", "cat/.hidden.png", "hidden files"),
        (".thumbnails/0.png", ".thumbnails/", "hidden files"),
        ("cat/README.txt", "cat/README.txt", "documents among the images"),
        ("dog/labels.csv", "dog/labels.csv", "documents among the images"),
        ("loose.png", "loose.png", "no class's folder"),
    ],
)
def test_litter_is_passed_over_counted_and_named(images, read, litter, named, reason):
    path = images({"cat": 6, "dog": 6})
    (path / litter).parent.mkdir(parents=True, exist_ok=True)
    (path / litter).write_bytes((path / "cat" / "0.png").read_bytes())
    data = read(path)
    assert data.spec.classes == ("cat", "dog")
    assert sum(data.spec.samples.values()) == 12
    ((kind, count),) = data.manifest.passed_over.counts.items()
    assert reason in kind
    assert count == 1
    assert "1 files or members were not read" in stats(data)
    assert f"1 {kind}: {named}" in stats(data)
    assert read_manifest(data.root).passed_over == data.manifest.passed_over


def test_many_thumbnails_are_counted_and_the_first_named(images, read):
    thumbnails = {f"{label}/@eaDir/{k}": 1 for label in ("cat", "dog") for k in range(10)}
    data = read(images({"cat": 10, "dog": 10, **thumbnails}))
    assert sum(data.spec.samples.values()) == 20
    assert "20 files or members were not read" in stats(data)
    assert "cat/@eaDir/, dog/@eaDir/" in stats(data)


def test_a_class_of_nothing_but_litter_says_what_lies_there(images, read):
    path = images({"cat": 6, "dog": 0})
    (path / "dog" / "notes.txt").write_text("x")
    with pytest.raises(DataInvalid, match=r"dog: a class without images \(1 other files lie in it\)"):
        read(path)


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC"), ("NFD", "NFD")])
def test_two_forms_of_an_accent_are_one_class(images, read, forms):
    names = ("café", "thé")
    folders = [
        f"{split}/{unicodedata.normalize(form, name)}"
        for split, form in zip(("train", "val"), forms, strict=True)
        for name in names
    ]
    assert read(images(dict.fromkeys(folders, 6))).spec.classes == names


@pytest.mark.parametrize("other", ["Cat", "cat ", "cat\u200b", "\uff43at"])
def test_a_class_that_looks_the_same_is_shown_with_its_difference(images, read, other):
    with pytest.raises(DataInvalid, match="no such class in train") as error:
        read(images({"train/cat": 6, "train/dog": 6, f"val/{other}": 2}))
    assert f"({other!a}, not 'cat')" in str(error.value)


def test_a_folder_that_the_first_rules_read_differently_has_a_data_key_of_its_own(images, read):
    plain = read(images({"train/a": 6, "train/b": 6}, "plain")).key
    hidden = images({"train/a": 6, "train/b": 6, "train/a/.hidden": 1}, "hidden")
    (hidden / "train" / "a" / "Thumbs.db").write_bytes(b"x")
    assert read(hidden).key == plain
    for number, name in enumerate(("train/a/@eaDir", "train/lost+found", "__MACOSX/train")):
        data = read(images({"train/a": 6, "train/b": 6, name: 1}, f"litter{number}"))
        assert data.key == data.manifest.key != plain
        assert read(data.root.parent.parent / f"litter{number}").key == data.key
    accents = read(images({f"train/{unicodedata.normalize('NFD', name)}": 6 for name in ("café", "b")}, "accents"))
    assert accents.key != plain == read(images({"train/café": 6, "train/b": 6}, "composed")).key


# Classes without samples


def test_one_class_is_named(images, read):
    data = read(images({"cat": 10}))
    assert "all samples are of one class, cat: a classifier learns nothing from them" in stats(data)


def test_classes_that_val_lacks_are_named(images, read):
    folders = {"train/a": 6, "train/b": 6, "train/c": 6, "val/a": 6, "val/c": 6}
    assert read(images(folders)).manifest.notes == ("val has no sample of class b",)
    data = read(images({**folders, "train/d": 6, "val/d": 0, "test/a": 1}, "more"))
    assert "val has no sample of class b, d (2 of 4 classes)" in data.manifest.notes
    first = read(images({"train/a": 2, "train/b": 2, "val/b": 2}, "first"))
    assert first.manifest.notes == ("val has no sample of class a",)
    assert "test has no sample of class b, c, d (3 of 4 classes)" in data.manifest.notes


def test_labels_that_begin_at_one_are_named(shards, read):
    data = read(shards({"train-0.tar": samples(30, first_class=1), "val-0.tar": samples(10)}))
    assert "train has no sample of class 0; if the labels count from 1" in stats(data)
    assert "classes without samples in train have some in another split: 0" in stats(data)
    gaps = shards({"train-0.tar": {"a.jpg": JPEG, "a.cls": b"7"} | samples(9), "val-0.tar": samples(9)}, "gaps")
    assert "train has no sample of class 3, 4, 5, 6 (4 of 8 classes)" in read(gaps).manifest.notes


# 16-bit grey


GREY16 = np.linspace(0, 65535, 64).reshape(8, 8).astype(">u2")


@pytest.mark.parametrize("most", [65535, 4095, 300])
@pytest.mark.parametrize("stored", ["resized", "original"])
def test_a_pgm_of_more_than_eight_bits_is_read_as_16_bit_png_is(images, read, most, stored):
    values = (GREY16.astype(np.int64) * most // 65535).astype(">u2")
    path = images({"a": 6, "b": 6})
    (path / "a" / "x.pgm").write_bytes(b"P5\n8 8\n%d\n" % most + values.tobytes())
    for channels in (1, 3):
        pixels = read_image(path / "a" / "x.pgm", 8, channels)[..., 0]
        assert np.abs(pixels.astype(int) - (GREY16 >> 8).astype(int)).max() <= 1
    assert sum(read(path, stored=stored).spec.samples.values()) == 13


def test_a_pgm_of_16_bits_in_a_shard_is_decoded_alike(tmp_path):
    content = b"P5\n8 8\n65535\n" + GREY16.tobytes()
    assert (decode_with_pillow(content)[..., 0] == GREY16 >> 8).all()


# Shards


@pytest.mark.parametrize("name", ["train-1.tar.gz", "train-1.tgz", "more/train-1.tar.zst", "TRAIN.TBZ"])
def test_compressed_shards_are_refused_not_left_out(shards, read, name):
    path = shards({"train-0.tar": samples(20), name: b"whatever", "val-0.tar": samples(10)})
    with pytest.raises(DataInvalid, match=f"{name} would not be read"):
        read(path)
    data = read(path, splits={"train": "train-0.tar", "val": "val-*.tar"})
    assert f"1 compressed tars: {name}" in stats(data)


def test_compressed_shards_that_come_later_are_refused_as_well(shards, read):
    path = shards({"train-0.tar": samples(20), "val-0.tar": samples(10)})
    read(path)
    (path / "train-1.tar.gz").write_bytes(b"whatever")
    with pytest.raises(DataInvalid, match="would not be read"):
        read(path)


@pytest.mark.parametrize("name", ["dev-0.tar", "eval/0.tar", "x-hold-out-0.tar", "minival.tar", "extra.tar"])
def test_shards_of_a_split_with_another_name_are_no_training_data(shards, read, name):
    path = shards({"train-0.tar": samples(20), name: samples(20), "val-0.tar": samples(10)})
    with pytest.raises(DataInvalid, match=f"{name}: these names do not say train"):
        read(path)
    data = read(path, splits={"train": "train-*.tar", "val": "val-*.tar"})
    assert data.spec.samples == {"train": 20, "val": 10}
    assert f"1 shards that no pattern of data.splits names: {name}" in stats(data)


def test_a_split_word_alone_is_no_training_data(shards, read):
    with pytest.raises(DataInvalid, match=r"dev-0\.tar: these names"):
        read(shards({"a-0.tar": samples(20), "dev-0.tar": samples(20)}))
    assert read(shards({"a-0.tar": samples(20), "a-val.tar": samples(9)}, "b")).spec.samples == {"train": 20, "val": 9}


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_split_without_samples_is_refused_when_it_is_indexed(shards, read, split):
    with pytest.raises(DataInvalid, match=f"no sample in the shards of {split}, such as {split}-0.tar"):
        read(shards({"train-0.tar": samples(9), "val-0.tar": samples(9), f"{split}-0.tar": {}}))
    with pytest.raises(
        DataInvalid, match=r"no sample in the shards of train.* 1 members \.txt that are no field: a\.txt"
    ):
        read(shards({"train-0.tar": {"a.txt": b""}, "val-0.tar": samples(9)}, "other"))


@pytest.mark.parametrize("other", ["png", "jpeg", "webp"])
def test_two_images_of_one_key_are_named_as_such(shards, read, other):
    two = {"s0.jpg": JPEG, f"s0.{other}": JPEG, "s0.cls": b"1"}
    with pytest.raises(DataInvalid, match=f"sample 's0' has two of the field image: 's0.jpg' and 's0.{other}'"):
        read(shards({"train-0.tar": two, "val-0.tar": samples(9)}))


@pytest.mark.parametrize("name", ["img.{:03d}", "s{:04d}.v2", "a/b.{}.c"])
def test_samples_whose_names_have_dots_do_not_vanish(shards, read, name):
    mixed = samples(20) | samples(20, 20, name=name)
    with pytest.raises(DataInvalid, match=r"would not be read: the key of a sample ends at the first dot"):
        read(shards({"train-0.tar": mixed, "val-0.tar": samples(9)}))


def test_members_that_are_no_fields_are_counted_and_named(shards, read):
    more = {f"s{k:04d}.{ending}": b"x" for k in range(20) for ending in ("json", "seg.png")} | {"._x.jpg": b"x"}
    path = shards({"train-0.tar": dict(sorted((samples(20) | more).items())), "val-0.tar": samples(9)})
    (path / "README.md").write_text("hello")
    data = read(path)
    assert data.manifest.passed_over.counts == {
        "members .json that are no field": 20,
        "members .png that are no field": 20,
        "hidden members, or members without extension": 1,
        "files that are no tars": 1,
    }
    assert "20 members .json that are no field: s0000.json, s0001.json" in stats(data)
    assert verify_shards(data.root) == []


@pytest.mark.parametrize(
    "label", [b"1000000000", b"1000000", b"9" * 5000, b"-1", b"1.0", b"\xb2", b" " * 200 + b"1", b""]
)
def test_a_label_that_is_no_class_number_is_refused(shards, read, label):
    with pytest.raises(
        DataInvalid, match=r"train-0\.tar: sample 's0': its class is .*, expected a number from 0 to 999999"
    ):
        read(shards({"train-0.tar": {"s0.jpg": JPEG, "s0.cls": label}, "val-0.tar": samples(3)}))


# Headers


def header_with(field, first, name="notes.txt", kind=tarfile.REGTYPE):
    """A tar header with the bytes ``field`` from byte ``first`` on, and a right checksum."""
    info = tarfile.TarInfo(name)
    info.type = kind
    block = bytearray(info.tobuf(tarfile.USTAR_FORMAT))
    block[first : first + len(field)] = field
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(struct.unpack("512B", block))
    return bytes(block)


@pytest.mark.parametrize(
    "size", [b"-0000001000\0", b"-1\0", b"+0000000100\0", b"00_00000010\0", b"0x000000010\0", b"\xff" * 12]
)
def test_a_size_that_is_no_octal_number_ends_the_reading(size, shards, read):
    content = header_with(size, 124) + bytes(3072)
    with pytest.raises(ValueError, match=r"no tar header at byte 0|a member of \d+ bytes begins"):
        list(members(content))
    with pytest.raises(ShardCorrupt, match=r"train-0\.tar: .*; get it again, or take it away"):
        read(shards({"train-0.tar": content, "val-0.tar": samples(3)}))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda tar: tar[: 5 * 512],
        lambda tar: tar[:100],
        lambda tar: b"\1" * 512 + tar[512:],
        lambda tar: b"",
    ],
)
def test_a_damaged_shard_is_told_from_one_that_is_not_understood(spoil, shards, read):
    with pytest.raises(ShardCorrupt, match=r"train-0\.tar: "):
        read(shards({"train-0.tar": spoil(tar_of(samples(3))), "val-0.tar": samples(3)}))


@pytest.mark.parametrize("size", [b"-1024", b"-1", b"+3", b"1_0", b"9" * 400, b""])
def test_a_size_in_a_pax_header_that_is_no_number_ends_the_reading(size):
    line = b" size=" + size + b"\n"
    length = len(line) + len(str(len(line) + 2))
    record = str(length).encode() + line
    content = header_with(b"%011o\0" % len(record), 124, kind=tarfile.XHDTYPE) + record.ljust(512, b"\0")
    content += header_with(b"%011o\0" % 0, 124) + bytes(1024)
    with pytest.raises(ValueError, match="pax header"):
        list(members(content))


# What is no file


def test_a_pipe_or_a_device_among_the_data_is_not_waited_for(images, shards, read):
    path = images({"a": 6, "b": 6})
    os.mkfifo(path / "a" / "x.png")
    for stored in ("resized", "original"):
        with pytest.raises(DataInvalid, match=r"it is a (pipe|device) and no file"):
            read(path, stored=stored)
    tars = shards({"train-0.tar": samples(3), "val-0.tar": samples(3)})
    os.mkfifo(tars / "train-1.tar")
    with pytest.raises(ShardCorrupt, match=r"train-1\.tar: .*it is a (pipe|device) and no file"):
        read(tars)
    (tars / "train-1.tar").unlink()
    (tars / "train-1.tar").symlink_to("/dev/zero")
    with pytest.raises(ShardCorrupt, match=r"train-1\.tar: .*it is a (pipe|device) and no file"):
        read(tars)


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
def test_a_manifest_that_is_no_file_is_refused_at_once(kind, images, read):
    root = read(images({"a": 6, "b": 6})).root
    (root / "manifest.json").unlink()
    if kind == "pipe":
        os.mkfifo(root / "manifest.json")
    elif kind == "device":
        (root / "manifest.json").symlink_to("/dev/zero")
    else:
        (root / "manifest.json").mkdir()
    with pytest.raises(ShardCorrupt, match=r"it is a (pipe|device|folder) and no file"):
        read_manifest(root)


def test_a_manifest_has_a_largest_size(tmp_path, monkeypatch):
    monkeypatch.setattr("expflow.data.shards.manifest.LARGEST_MANIFEST", 1000)
    (tmp_path / "manifest.json").write_bytes(b"[" * 1001)
    with pytest.raises(ShardCorrupt, match="larger than"):
        read_manifest(tmp_path)
    with pytest.raises(ShardCorrupt, match="1001 bytes; a manifest has at most 1000"):
        parse_manifest(b"[" * 1001, "http://host/manifest.json")


# What was indexed once is compared by content


def test_shards_that_were_copied_again_with_damage_are_noticed(shards, read):
    path = shards({"train-0.tar": samples(20), "val-0.tar": samples(10)})
    first = read(path)
    content = bytearray((path / "train-0.tar").read_bytes())
    content[600] ^= 1  # inside of an image
    (path / "train-0.tar").write_bytes(content)
    os.utime(path / "train-0.tar", (1, 1))
    with pytest.raises(ShardCorrupt, match=r"1 shards are not what they were .* train-0\.tar: expected") as error:
        read(path)
    assert str(first.root) in str(error.value)


def test_shards_that_were_copied_again_whole_are_used(shards, read):
    path = shards({"train-0.tar": samples(20), "val-0.tar": samples(10)})
    first = read(path)
    os.utime(path / "train-0.tar", (1, 1))
    (path / "train-1.tar").write_bytes(tar_of(samples(5, 100)))
    second = read(path)
    assert second.spec.samples == {"train": 25, "val": 10}
    assert second.root != first.root


def test_shards_that_were_changed_on_purpose_are_indexed_after_the_old_index_is_deleted(shards, read):
    import shutil

    path = shards({"train-0.tar": samples(20), "val-0.tar": samples(10)})
    first = read(path)
    (path / "val-0.tar").write_bytes(tar_of(samples(12, 50)))
    with pytest.raises(ShardCorrupt, match="if they were changed on purpose, delete"):
        read(path)
    shutil.rmtree(first.root)
    assert read(path).spec.samples == {"train": 20, "val": 12}
