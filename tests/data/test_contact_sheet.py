"""The picture that `expflow data show` writes, looked at pixel by pixel."""

import numpy as np
import pytest
from PIL import Image

from expflow.data.contact_sheet import CELL, GAP, LINE, PAPER, contact_sheet
from expflow.data.prepare.build import prepare
from expflow.data.shards.manifest import read_manifest
from expflow.data.specs import FolderSpec
from expflow.errors import DataMissing
from tests.data.photographs import photograph
from tests.data.tiny import tiny_shards


def sheet_of(root, **options):
    return np.asarray(contact_sheet(root, read_manifest(root), "train", **options))


def test_small_images_are_magnified_by_a_whole_number_and_stand_side_by_side(tmp_path):
    root = tiny_shards(tmp_path / "tiny", [3])
    sheet = sheet_of(root, samples=3)
    assert sheet.shape == (CELL + LINE + 2 * GAP, 3 * (CELL + GAP) + GAP, 3)
    for number in range(3):
        left = GAP + number * (CELL + GAP)
        cell = sheet[GAP : GAP + CELL, left : left + CELL]
        assert (cell == number).all(), "sample i is grey of value i"
        label = sheet[GAP + CELL : GAP + CELL + LINE, left : left + CELL]
        assert label.min() < 60 < label.max(), "something is written under it"
    assert (sheet[:GAP] == PAPER).all()


def test_it_is_as_wide_and_high_as_its_images_need(tmp_path):
    for name, size in (("a", (300, 200)), ("b", (100, 200))):
        (tmp_path / "images" / name).mkdir(parents=True)
        photograph(size=size).save(tmp_path / "images" / name / "x.png")
    spec = FolderSpec(name="folder", path=tmp_path / "images", stored="original", val_fraction=0, test_fraction=0)
    sheet = sheet_of(prepare(spec, cache=tmp_path / "cache").root)
    assert sheet.shape[:2] == (CELL + LINE + 2 * GAP, 2 * (CELL + GAP) + GAP)
    rows = [(sheet[:, left : left + CELL] != PAPER).any(axis=(1, 2)) for left in (GAP, 2 * GAP + CELL)]
    assert all(row[GAP + CELL - 1] for row in rows), "both stand on their labels"


def test_seeds_draw_and_nothing_is_shown_twice(tmp_path):
    root = tiny_shards(tmp_path / "tiny", [20, 20, 20])
    first = sheet_of(root, samples=6)
    assert np.array_equal(first, sheet_of(root, samples=6))
    assert not np.array_equal(first, sheet_of(root, samples=6, seed=1))
    everything = sheet_of(root, samples=1000)
    greys = {int(value) for value in np.unique(everything[GAP + 1 :: CELL + LINE + GAP, GAP + 1 :: CELL + GAP])}
    assert greys - {PAPER[0]} == set(range(60))


def test_long_class_names_are_cut_and_a_missing_split_is_named(tmp_path):
    folder = tmp_path / "images" / ("a very long name of a class " * 4).strip()
    folder.mkdir(parents=True)
    Image.new("RGB", (400, 10)).save(folder / "x.png")
    spec = FolderSpec(name="folder", path=tmp_path / "images", stored="original", val_fraction=0, test_fraction=0)
    root = prepare(spec, cache=tmp_path / "cache").root
    sheet = sheet_of(root)
    assert sheet.shape[1] == CELL + 2 * GAP
    assert (sheet[:, -GAP:] == PAPER).all(), "nothing is written over the edge"
    with pytest.raises(DataMissing, match="no split 'val', only train"):
        contact_sheet(root, read_manifest(root), "val")
