"""Sources with masks, several classes and numbers: what is read, what is kept together, and what is refused."""

import numpy as np
import pytest
from PIL import Image

from expflow.data.dataspec import VOID
from expflow.data.labelled_specs import VOC_CLASSES, PetsSpec, StampsSpec, TableSpec, VOC2012LabelsSpec, VOC2012Spec
from expflow.data.prepare.build import prepare
from expflow.data.specs import FolderSpec
from expflow.data.streaming.loader import loader_for
from expflow.errors import DataInvalid, DataMissing
from expflow.registry import load_dotted
from tests.data.sources.labelled_sets import (
    write_image,
    write_package,
    write_pets,
    write_stamps,
    write_table,
    write_voc,
)


def field_of(spec, data, field, split="train"):
    loader = loader_for(spec, data.root, split, seed=0, shuffle=False)
    return np.concatenate([batch[field].numpy() for batch in loader])


def groups_of(spec, folder):
    source = load_dotted(spec.build)(spec, folder)
    return {split: {item.group for item in items} for split, items in source.splits.items()}


def test_masks_of_voc_hold_its_classes_and_void(tmp_path):
    write_voc(tmp_path / "voc", 6)
    spec = VOC2012Spec(name="voc2012", val_fraction=0.3, image_size=16, train={"random_resized_crop": None, "flip": 0})
    data = prepare(spec, cache=tmp_path / "cache", site_path=tmp_path / "voc")
    assert data.spec.samples == {"train": 4, "val": 2, "test": 6}
    masks = np.concatenate([field_of(spec, data, "mask", split).ravel() for split in ("train", "val")])
    assert set(masks.tolist()) == {0, *range(1, 7), VOID}


def test_a_photograph_of_voc_has_the_classes_of_its_objects_and_difficult_ones_are_not_known(tmp_path):
    write_voc(tmp_path / "voc", 6)
    spec = VOC2012LabelsSpec(name="voc2012_labels", val_fraction=0.3, image_size=16)
    data = prepare(spec, cache=tmp_path / "cache", site_path=tmp_path / "voc")
    labels = field_of(spec, data, "labels", "test")
    assert sorted(np.flatnonzero(row == 1).tolist() for row in labels) == [[number] for number in range(6)]
    assert all(row[np.flatnonzero(row == 1)[0] + 1] == VOID for row in labels)
    assert ((labels == 1) | (labels == 0) | (labels == VOID)).all()


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (lambda voc: (voc / "SegmentationClass/2007_train1.png").unlink(), DataMissing, "2007_train1.png is not there"),
        (lambda voc: (voc / "ImageSets/Segmentation/val.txt").unlink(), DataMissing, "val.txt is not there"),
        (
            lambda voc: Image.new("RGB", (21, 17)).save(voc / "SegmentationClass/2007_train1.png"),
            DataInvalid,
            "2007_train1.png: its mode is RGB",
        ),
    ],
)
def test_what_is_missing_or_wrong_in_voc_is_named(damage, error, message, tmp_path):
    write_voc(tmp_path / "voc", 6)
    damage(tmp_path / "voc")
    with pytest.raises(error, match=message):
        prepare(VOC2012Spec(name="voc2012"), cache=tmp_path / "cache", site_path=tmp_path / "voc")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotation><object>", "is no XML"),
        ("<annotation><object><name>dragon</name></object></annotation>", "of the class 'dragon'; known: aeroplane"),
        ('<!DOCTYPE x [<!ENTITY a "b">]><annotation/>', "declares entities"),
    ],
)
def test_an_annotation_that_cannot_be_read_is_named(text, message, tmp_path):
    write_voc(tmp_path / "voc", 6)
    (tmp_path / "voc/Annotations/2007_val3.xml").write_text(text)
    with pytest.raises(DataInvalid, match=message) as raised:
        prepare(VOC2012LabelsSpec(name="voc2012_labels"), cache=tmp_path / "cache", site_path=tmp_path / "voc")
    assert "2007_val3.xml" in str(raised.value)


def test_trimaps_of_pets_become_classes(tmp_path):
    write_pets(tmp_path / "pets", 5)
    spec = PetsSpec(name="pets", val_fraction=0.2, image_size=16)
    data = prepare(spec, cache=tmp_path / "cache", site_path=tmp_path / "pets")
    assert data.spec.samples == {"train": 4, "val": 1, "test": 5}
    assert set(np.unique(field_of(spec, data, "mask", "test")).tolist()) == {0, 1, VOID}
    size = write_image(tmp_path / "pets/images/Beagle_test_0.jpg", 0)
    Image.new("L", size, 7).save(tmp_path / "pets/annotations/trimaps/Beagle_test_0.png")
    with pytest.raises(DataInvalid, match=r"Beagle_test_0\.png: it holds 7; expected 1, 2, 3"):
        prepare(spec.model_copy(update={"val_fraction": 0.4}), cache=tmp_path / "cache", site_path=tmp_path / "pets")


def test_stamps_are_the_same_from_the_package_and_from_its_files_and_motifs_stay_together(tmp_path):
    write_stamps(tmp_path / "files", 40)
    write_package(tmp_path / "package", 40)
    spec = StampsSpec(name="stamps", side=16, val_fraction=0.2, test_fraction=0.2)
    prepared = [prepare(spec, cache=tmp_path / name, site_path=tmp_path / name) for name in ("files", "package")]
    assert prepared[0].manifest.content == prepared[1].manifest.content
    masks = field_of(spec, prepared[0], "mask")
    assert all({0, 1} <= set(np.unique(mask).tolist()) <= {0, 1, VOID} for mask in masks)
    groups = groups_of(spec, tmp_path / "files")
    assert all(len(motifs) > 1 for motifs in groups.values())
    assert sum(map(len, groups.values())) == len(set().union(*groups.values())) == 20


def test_a_package_that_is_none_is_refused(tmp_path):
    (tmp_path / "tuxpaint-stamps-default_1_all.deb").write_bytes(b"no archive")
    with pytest.raises(DataInvalid, match=r"\.deb is no package of Debian's"):
        prepare(StampsSpec(name="stamps"), cache=tmp_path / "cache", site_path=tmp_path)


def test_a_table_says_class_classes_numbers_and_groups(tmp_path):
    write_table(tmp_path / "leaves", 12)
    spec = TableSpec(
        name="table", label="label", labels="labels", target=("x", "y"), group="leaf", image_size=8, val_fraction=0.3
    )
    data = prepare(spec, cache=tmp_path / "cache", site_path=tmp_path / "leaves")
    assert data.spec.classes == ("elm", "oak", "old", "torn", "wet")
    x, label, labels = (field_of(spec, data, field) for field in ("target", "label", "labels"))
    assert x.dtype == np.float32
    assert (x[:, 1] == -x[:, 0] / 2).all()
    assert (label == x[:, 0].astype(int) % 2).all()
    assert (labels[:, 2] == (x[:, 0].astype(int) + 1) % 2).all()
    groups = groups_of(spec, tmp_path / "leaves")
    assert sum(map(len, groups.values())) == len(set().union(*groups.values())) == 6


@pytest.mark.parametrize(
    ("keys", "error", "message"),
    [
        ({}, DataInvalid, "which column of the table is learned"),
        ({"target": ("z",)}, DataInvalid, "has no column z; it has image, label"),
        ({"target": ("leaf",)}, DataInvalid, "row 2: expected a number in leaf, found 'l0'"),
        ({"label": "label", "split": "leaf"}, DataInvalid, "row 2: expected train, val or test in leaf, found 'l0'"),
        ({"label": "label", "file": "other.csv"}, DataMissing, "there is no table"),
        ({"label": "label", "image": "leaf"}, DataInvalid, "row 2: there is no image"),
    ],
)
def test_what_is_wrong_with_a_table_is_named_with_its_row(keys, error, message, tmp_path):
    write_table(tmp_path / "leaves", 12)
    with pytest.raises(error, match=message):
        prepare(TableSpec(name="table", **keys), cache=tmp_path / "cache", site_path=tmp_path / "leaves")


def test_an_image_in_two_rows_is_of_one_group(tmp_path):
    write_table(tmp_path / "leaves", 12)
    table = tmp_path / "leaves" / "table.csv"
    table.write_text(table.read_text() + "photos/0.png,oak,old,99,7,l0\n")
    with pytest.raises(DataInvalid, match=r"rows 2 and 14 name the same image 'photos/0\.png'; remove one"):
        prepare(TableSpec(name="table", target=("x",)), cache=tmp_path / "cache", site_path=tmp_path / "leaves")
    spec = TableSpec(name="table", target=("x",), group="leaf")
    assert sum(prepare(spec, cache=tmp_path / "cache", site_path=tmp_path / "leaves").spec.samples.values()) == 13


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ("zzz", r"data\.group: 'zzz' is found in no path of an image, such as elm/"),
        (r"\.(png)", r"6 images of 1 group, which stay whole, leave none for val and test"),
    ],
)
def test_groups_that_cannot_be_meant_are_refused(group, message, tmp_path):
    for label in ("oak", "elm"):
        for number in range(3):
            write_image(tmp_path / "trees" / label / f"{number}.png", number)
    spec = FolderSpec(name="folder", path=tmp_path / "trees", image_size=8, group=group)
    with pytest.raises(DataInvalid, match=message):
        prepare(spec, cache=tmp_path / "cache")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (FolderSpec, "stored cut to a square already; it needs stored: original"),
        (TableSpec, "a table's images are stored cut to a square"),
    ],
)
def test_images_that_are_stored_cut_have_no_letterbox(source, message):
    with pytest.raises(ValueError, match=message):
        source(name=source.__name__, letterbox=True)


def test_classes_of_one_name_are_refused():
    with pytest.raises(ValueError, match="two classes are named 'leaf'"):
        FolderSpec(name="folder", classes=("leaf", "leaf"))


def test_given_splits_that_cut_a_group_are_refused(tmp_path):
    parts = ["train"] * 5 + ["val"] * 5 + ["test"] * 2
    write_table(tmp_path / "leaves", 12, part=parts)
    spec = TableSpec(name="table", label="label", group="leaf", split="part")
    with pytest.raises(DataInvalid, match="groups are cut by the given splits: l2 in train and val"):
        prepare(spec, cache=tmp_path / "cache", site_path=tmp_path / "leaves")


def test_tiles_that_nobody_called_groups_are_noted_and_tiles_of_a_group_stay_together(tmp_path):
    for label in ("oak", "elm"):
        for photograph_number in range(6):
            for tile in range(4):
                write_image(tmp_path / "tiles" / label / f"p{photograph_number}_{tile // 2}_{tile % 2}.png", 0)
    keys = {"image_size": 8, "val_fraction": 0.25, "test_fraction": 0.25}
    spec = FolderSpec(name="folder", path=tmp_path / "tiles", **keys)
    (note,) = [note for note in prepare(spec, cache=tmp_path / "cache").manifest.notes if "tiles" in note]
    assert note.startswith("48 images look by their names like tiles of 12 photographs")
    grouped = spec.model_copy(update={"group": note.partition("data.group: '")[2].partition("' ")[0]})
    data = prepare(grouped, cache=tmp_path / "cache")
    assert not [note for note in data.manifest.notes if "tiles" in note]
    assert data.key != prepare(spec, cache=tmp_path / "cache").key
    groups = groups_of(grouped, tmp_path / "tiles")
    assert {split: len(photographs) for split, photographs in groups.items()} == {"train": 6, "val": 3, "test": 3}
    assert len(set().union(*groups.values())) == 12


def test_the_classes_of_voc_are_twenty():
    assert len(VOC_CLASSES) == len(set(VOC_CLASSES)) == 20
