"""ImageNet as people have it: every layout gives the same samples, and what is wrong with one is named."""

import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest
from PIL import Image

from expflow.data.prepare.build import build, prepare
from expflow.data.prepare.prepared import data_key
from expflow.data.shards.summary import read_statistics
from expflow.data.shards.verify import verify_shards
from expflow.data.specs import FolderSpec, ImageNet22kSpec, ImageNetSpec
from expflow.errors import DataInvalid, DataMissing
from tests.data.shards.contents import shard_samples
from tests.data.sources import imagenets
from tests.data.sources.imagenets import LAYOUTS, SYNSETS


def make(root: Path, layout: str = "folders, sorted") -> Path:
    root.mkdir(exist_ok=True)
    for part in LAYOUTS[layout]:
        part(root)
    return root


def imagenet(**keys) -> ImageNetSpec:
    return ImageNetSpec(name="imagenet", **{"val_fraction": 0.34, **keys})


def samples(prepared, split):
    """Each sample's class name and bytes, in the shards' order."""
    manifest = prepared.manifest
    return [
        (manifest.spec.synsets[int(values["label"])], values["image"])
        for shard in manifest.shards(split)
        for _, values in shard_samples(prepared.root, shard, manifest.fields)
    ]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_samples(layout, tmp_path):
    prepared = build(imagenet(), cache=tmp_path / "cache", site_path=make(tmp_path / "in", layout))
    assert prepared.spec.samples == {"train": 12, "val": 6, "test": 9}
    assert prepared.spec.synsets == SYNSETS
    assert prepared.spec.classes == ("tench", "goldfish", "crane")
    assert prepared.spec.image_shape == (3, 224, 224)
    assert prepared.manifest.spec.fields["image"].varies
    assert prepared.manifest.spec.fields == ImageNetSpec.published.fields
    assert verify_shards(prepared.root) == []
    train = {(synset, content) for split in ("train", "val") for synset, content in samples(prepared, split)}
    assert train == {
        (synset, image) for synset, images in imagenets.train_images().items() for image in images.values()
    }
    assert sorted(samples(prepared, "test")) == sorted(imagenets.val_images().values())
    assert [synset for synset, _ in samples(prepared, "val")].count(SYNSETS[0]) == 2, "drawn class by class"


def test_splits_are_the_same_in_every_layout(tmp_path):
    orders = []
    for number, layout in enumerate(("folders, sorted", "archives", "tars, archive")):
        root = make(tmp_path / f"in{number}", layout)
        prepared = build(imagenet(), cache=tmp_path / f"cache{number}", site_path=root)
        orders.append([samples(prepared, split) for split in ("train", "val", "test")])
    assert orders[0] == orders[1] == orders[2]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_not_read_is_counted_in_every_layout(layout, tmp_path):
    root = make(tmp_path / "in", layout)
    places = [path for path in root.rglob("*") if path.is_dir() and any(path.glob("*.JPEG"))]
    for path in places:
        (path / "notes.txt").touch()
        (path / "Thumbs.db").touch()
        (path / "more").mkdir()
        (path / "more" / "x.JPEG").write_bytes(imagenets.jpeg(1))
    for archive in root.rglob("*.tar"):
        if archive.name != "ILSVRC2012_img_train.tar":  # of which every member is a tar
            with tarfile.open(archive, "a") as tar:
                tar.addfile(tarfile.TarInfo("readme.md"))
    passed_over = build(imagenet(), cache=tmp_path / "cache", site_path=root).manifest.passed_over.counts
    archives = sum(archive.name != "ILSVRC2012_img_train.tar" for archive in root.rglob("*.tar"))
    assert passed_over.get("files that systems and file servers leave behind", 0) == len(places)
    assert passed_over.get("files that are no images by their names", 0) == 2 * len(places)
    assert passed_over.get("members that are no images by their names", 0) == archives


def test_what_lies_beside_the_synsets_is_counted(tmp_path):
    root = make(tmp_path / "in")
    (root / "train" / "checksums.md5").touch()
    (root / "train" / ".DS_Store").touch()
    (root / "unrelated.txt").touch()  # the root of the source may hold anything
    passed_over = build(imagenet(), cache=tmp_path / "cache", site_path=root).manifest.passed_over
    assert passed_over.counts == {"files that lie in no synset's folder": 1, "hidden files": 1}
    assert passed_over.names["hidden files"] == ["train/.DS_Store"]


def test_the_official_validation_set_as_val(tmp_path):
    root = make(tmp_path / "in")
    prepared = build(imagenet(val="official"), cache=tmp_path / "cache", site_path=root)
    assert prepared.spec.samples == {"train": 18, "val": 9}
    assert data_key(imagenet(val="official")) != data_key(imagenet())


def test_imagenet_22k_has_no_test_set_of_its_own(tmp_path):
    spec = ImageNet22kSpec(name="imagenet22k", val_fraction=0.2, test_fraction=0.2)
    imagenets.train_folders(tmp_path / "a", ".")
    imagenets.train_tars(tmp_path / "b")
    by_folder = build(spec, cache=tmp_path / "cache", site_path=tmp_path / "a")
    by_tar = build(spec, cache=tmp_path / "cache", site_path=tmp_path / "b")
    assert by_folder.spec.samples == by_tar.spec.samples == {"train": 10, "val": 4, "test": 4}
    assert samples(by_folder, "test") == samples(by_tar, "test")
    assert by_tar.spec.classes[2] == "crane"


def test_equal_names_carry_their_synsets(tmp_path):
    from expflow.data.sources.imagenet_devkit import synset_names

    (tmp_path / "LOC_synset_mapping.txt").write_text("n00000001 crane, bird\nn00000002 crane, machine\n")
    assert synset_names(tmp_path, ("n00000001", "n00000002")) == ("crane (n00000001)", "crane (n00000002)")
    assert synset_names(tmp_path, ("n01440764", "n99999999")) == ("tench", "n99999999"), "from timm, and from nowhere"


@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (lambda root: _remove(root / "train"), DataMissing, "no training images in .*expected train/"),
        (lambda root: _remove(root / "val"), DataMissing, "no validation images in .*ILSVRC2012_img_val.tar"),
        (lambda root: _remove(root / "ILSVRC2012_devkit_t12"), DataMissing, "their classes are nowhere"),
        (lambda root: _only(_truth(root), 8), DataInvalid, "a line for each of the 9 validation images, found 8"),
        (lambda root: _truth(root).write_text("1\n" * 8 + "77\n"), DataInvalid, "names 77, which is no class"),
        (lambda root: (_truth(root).parent / "meta.mat").unlink(), DataMissing, "not the kit's meta.mat"),
        (lambda root: (_truth(root).parent / "meta.mat").write_bytes(b"x"), DataInvalid, "meta.mat is damaged"),
        (lambda root: _remove(root / "train" / SYNSETS[1]), DataInvalid, "1 synsets that are not in train"),
        (lambda root: (root / "train" / "n00000000").mkdir(), DataInvalid, "no images in train/n00000000"),
        (lambda root: (root / "train" / "cats").mkdir(), DataInvalid, "cats is no synset"),
        (lambda root: (root / "train" / "n00000000.tar").touch(), DataInvalid, "3 folders and 1 tars of synsets"),
    ],
)
def test_what_is_wrong_is_named_before_anything_is_built(spoil, error, message, tmp_path):
    root = make(tmp_path / "in", "folders, flat, kit")
    spoil(root)
    with pytest.raises(error, match=message):
        build(imagenet(), cache=tmp_path / "cache", site_path=root)
    assert not list((tmp_path / "cache").glob("[!.]*"))


def _remove(folder: Path) -> None:
    subprocess.run(["rm", "-r", folder], check=True)


def _truth(root: Path) -> Path:
    return root / "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt"


def _only(path: Path, lines: int) -> None:
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:lines]))


def test_kaggles_table_with_the_wrong_images(tmp_path):
    root = make(tmp_path / "in", "kaggle")
    table = root / "LOC_val_solution.csv"
    text = table.read_text()
    _only(table, 9)
    with pytest.raises(DataInvalid, match="a line for each of the 9 validation images, found 8"):
        build(imagenet(), cache=tmp_path / "cache", site_path=root)
    table.write_text(text.replace("00000004", "00000044"))
    with pytest.raises(DataInvalid, match="it lacks ILSVRC2012_val_00000004"):
        build(imagenet(), cache=tmp_path / "cache", site_path=root)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (imagenets.tar_of({"n01440764.tar": imagenets.tar_of({"a.JPEG": b"x"})})[: 512 + 10240], "cut off"),
        (imagenets.tar_of({"n01440764.tar": imagenets.tar_of({"a.JPEG": b"x"})[:512]}), "damaged"),
        (imagenets.tar_of({"n01440764.tar": imagenets.tar_of({"../a.JPEG": b"x"})}), "leads out of the archive"),
        (imagenets.tar_of({"images/a.JPEG": b"x"}), "is no tar of a synset"),
        (imagenets.tar_of({}), "no tars of synsets"),
    ],
)
def test_damaged_archives_are_refused(content, message, tmp_path):
    root = make(tmp_path / "in", "archives")
    (root / "ILSVRC2012_img_train.tar").write_bytes(content)
    with pytest.raises(DataInvalid, match=rf"ILSVRC2012_img_train\.tar: .*{message}"):
        build(imagenet(), cache=tmp_path / "cache", site_path=root)


def odd_files() -> dict[str, bytes]:
    return {
        "cmyk.JPEG": imagenets.jpeg(1, mode="CMYK"),
        "grey.JPEG": imagenets.jpeg(2, mode="L"),
        "png.JPEG": imagenets.jpeg(3, form="PNG"),
        os.fsdecode(b"caf\xe9.JPEG"): imagenets.jpeg(4),
        "palette.JPEG": imagenets.jpeg(5, mode="P", form="PNG"),
        "progressive.JPEG": imagenets.jpeg(6),
    }


def test_odd_files_are_copied_where_decoders_agree_about_them(tmp_path):
    root = make(tmp_path / "in")
    imagenets.write(root / "train" / SYNSETS[0], odd_files())
    prepared = build(imagenet(val="official"), cache=tmp_path / "cache", site_path=root)
    held = [content for synset, content in samples(prepared, "train") if synset == SYNSETS[0]]
    copied = {name: content for name, content in odd_files().items() if name != "palette.JPEG"}
    assert set(copied.values()) <= set(held)
    (anew,) = set(held) - set(copied.values()) - set(imagenets.train_images()[SYNSETS[0]].values())
    with Image.open(io.BytesIO(anew)) as image, Image.open(io.BytesIO(odd_files()["palette.JPEG"])) as original:
        assert (image.format, image.mode) == ("PNG", "RGB")
        assert image.tobytes() == original.convert("RGB").tobytes()
    counts = read_statistics(prepared.root, prepared.manifest)
    assert counts.anew == 1
    assert counts.kinds == {"JPEG RGB": 29, "JPEG CMYK": 1, "JPEG L": 1, "PNG RGB": 1, "PNG P": 1}


def test_bad_images_are_named_and_left_out_only_where_that_is_allowed(tmp_path):
    root = make(tmp_path / "in")
    good = imagenets.jpeg(7)
    bad = {"cut.JPEG": good[: len(good) * 9 // 10], "text.JPEG": b"no image", os.fsdecode(b"\xff.JPEG"): b""}
    imagenets.write(root / "train" / SYNSETS[1], bad)
    with pytest.raises(DataInvalid, match=r"3 of 30 images in .* data\.bad_limit; nothing was built") as raised:
        build(imagenet(bad_limit=2), cache=tmp_path / "cache", site_path=root)
    assert f"  train/{SYNSETS[1]}/\\xff.JPEG: it is no image" in str(raised.value)
    assert f"  train/{SYNSETS[1]}/cut.JPEG: image file is truncated" in str(raised.value)
    str(raised.value).encode()  # so that a terminal can print it

    prepared = build(imagenet(bad_limit=3), cache=tmp_path / "cache", site_path=root)
    assert sum(prepared.spec.samples.values()) == 27
    assert len(read_statistics(prepared.root, prepared.manifest).bad) == 3
    assert data_key(imagenet(bad_limit=3)) == data_key(imagenet())


def test_large_images_are_shrunk_and_no_others(tmp_path):
    root = make(tmp_path / "in")
    large = imagenets.jpeg(8, (90, 60))
    imagenets.write(root / "train" / SYNSETS[2], {"large.JPEG": large})
    prepared = build(imagenet(max_side=45, val="official"), cache=tmp_path / "cache", site_path=root)
    held = {content for _, content in samples(prepared, "train")}
    originals = {image for images in imagenets.train_images().values() for image in images.values()}
    assert originals <= held
    (shrunk,) = held - originals
    with Image.open(io.BytesIO(shrunk)) as image:
        assert (image.format, image.size) == ("JPEG", (45, 30))
    plain = build(imagenet(val="official"), cache=tmp_path / "cache", site_path=root)
    assert (plain.key, plain.root) != (prepared.key, prepared.root)
    assert large in {content for _, content in samples(plain, "train")}


def test_statistics_count_every_pixel(tmp_path):
    prepared = build(imagenet(), cache=tmp_path / "cache", site_path=make(tmp_path / "in"))
    images = [Image.open(io.BytesIO(content)).convert("RGB") for _, content in samples(prepared, "train")]
    import numpy as np

    pixels = np.concatenate([np.asarray(image).reshape(-1, 3) for image in images]) / 255
    assert prepared.spec.mean == pytest.approx(tuple(pixels.mean(axis=0)))
    assert prepared.spec.std == pytest.approx(tuple(pixels.std(axis=0)))


def test_a_sweep_finds_what_was_built_and_never_begins_hours_of_work(tmp_path):
    root, cache = make(tmp_path / "in"), tmp_path / "cache"
    with pytest.raises(DataMissing, match=r"nobody says where|not built yet.*https://image-net\.org"):
        prepare(imagenet(), cache=cache)
    with pytest.raises(DataMissing, match=f"not built yet.*--from {root}"):
        prepare(imagenet(), cache=cache, site_path=root)
    built = build(imagenet(), cache=cache, site_path=root)
    assert prepare(imagenet(), cache=cache, site_path=root).root == built.root
    assert prepare(imagenet(image_size=32), cache=cache).root == built.root, "also where nobody names the files"
    assert prepare(imagenet(image_size=32), cache=cache).spec.image_size == (32, 32)
    with pytest.raises(DataMissing, match="not built yet"):
        prepare(imagenet(split_seed=1), cache=cache)


def test_a_folder_of_original_files(tmp_path):
    imagenets.train_folders(tmp_path, "mine")
    spec = FolderSpec(name="folder", path=tmp_path / "mine", stored="original", image_size=16, val_fraction=0.34)
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.open(io.BytesIO(imagenets.jpeg(9))).save(tmp_path / "mine" / SYNSETS[0] / "turned.jpg", exif=turned)
    prepared = prepare(spec, cache=tmp_path / "cache")
    assert prepared.spec.image_shape == (3, 16, 16)
    sizes = {
        Image.open(io.BytesIO(values["image"])).size
        for split in prepared.manifest.splits
        for shard in prepared.manifest.shards(split)
        for _, values in shard_samples(prepared.root, shard, prepared.manifest.fields)
    }
    assert sizes == {(30, 40), *((40 + number, 30) for number in range(imagenets.TRAIN))}, "turned as its EXIF says"
    assert prepare(spec.model_copy(update={"image_size": 8}), cache=tmp_path / "cache").root == prepared.root


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("LOC_val_solution.csv", "Schlüssel,Wert\n".encode("latin-1"), "no text in UTF-8"),
        ("LOC_val_solution.csv", b"ImageId,PredictionString\nILSVRC2012_val_00000001,\n", "no table of ImageId"),
        ("LOC_val_solution.csv", b"a,b\nc,d\n", "no table of ImageId"),
        ("LOC_val_solution.csv", b'ImageId,PredictionString\n"' + b"x" * 200_000, "no table of ImageId"),
        ("imagenet_2012_validation_synset_labels.txt", b"\xff\xfe", "no text in UTF-8"),
        ("imagenet_2012_validation_synset_labels.txt", b"n01440764\n", "a line for each of the"),
    ],
)
def test_a_table_that_is_none_is_refused_by_name(name, content, message, tmp_path):
    root = make(tmp_path / "in", "kaggle")
    (root / "LOC_val_solution.csv").unlink()
    (root / name).write_bytes(content)
    with pytest.raises(DataInvalid, match=rf"{name}: .*{message}"):
        build(imagenet(), cache=tmp_path / "cache", site_path=root)


@pytest.mark.parametrize("name", ["LOC_val_solution.csv", "imagenet_2012_validation_synset_labels.txt"])
def test_a_table_that_is_no_file_or_too_large_is_refused(name, tmp_path, monkeypatch):
    monkeypatch.setattr("expflow.data.sources.imagenet_devkit.LARGEST_TABLE", 1000)
    root = make(tmp_path / "in", "kaggle")
    (root / "LOC_val_solution.csv").unlink()
    (root / name).write_bytes(b"x" * 1001)
    with pytest.raises(DataInvalid, match=f"{name}: cannot be read"):
        build(imagenet(), cache=tmp_path / "cache", site_path=root)


def test_a_kit_that_unpacks_to_more_than_any_has_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr("expflow.data.sources.imagenet_devkit.LARGEST_KIT", 1_000_000)
    root = make(tmp_path / "in", "kaggle")
    (root / "LOC_val_solution.csv").unlink()
    info = tarfile.TarInfo("zeros")
    info.size = 10_000_000
    with tarfile.open(root / "ILSVRC2012_devkit_t12.tar.gz", "w:gz") as tar:
        tar.addfile(info, io.BytesIO(bytes(info.size)))
    with pytest.raises(DataInvalid, match="more than 1000000 bytes come out of it"):
        build(imagenet(), cache=tmp_path / "cache", site_path=root)
