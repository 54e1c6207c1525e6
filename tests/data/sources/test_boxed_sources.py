"""Sources of boxes: what is read of COCO's files, the crowns' archive and composed scenes, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

from expflow.data.box_specs import CocoSpec, NucleiSpec, TreeCrownsSpec
from expflow.data.kinds.boxes import classes_of, is_crowd, is_ignored, label_code
from expflow.data.prepare.build import build
from expflow.data.sources import tree_crowns
from expflow.data.sources.coco_masks import object_mask
from expflow.data.sources.digit_scenes import open_digit_scenes
from expflow.data.specs import DigitScenesSpec
from expflow.data.streaming.loader import loader_for
from expflow.errors import DataInvalid, DataMissing
from tests.data.sources.boxed_sets import CATEGORIES, annotations, write_coco, write_crowns, write_nuclei

IMAGES_OF_TRAIN = [
    {"id": number, "file_name": f"{number}.jpg", "width": 30 + number, "height": 28 + number} for number in range(5)
]


def box(bbox=(2, 3, 3, 5), **keys):
    """Changes of a file: one object of image 1."""
    row = {"id": 4, "image_id": 1, "category_id": 3, "bbox": list(bbox) if isinstance(bbox, tuple) else bbox}
    return {"annotations": [{**row, **keys}]}


def coco(**keys) -> CocoSpec:
    return CocoSpec(name="coco", **{"image_size": 24, "batch_size": 4, **keys})


def first_batch(spec, folder, cache, split="train"):
    data = build(spec, cache=cache, site_path=folder)
    return data, next(iter(loader_for(spec, data.root, split, seed=0, shuffle=False)))


def test_a_folder_of_cocos_form_gives_its_boxes_classes_and_areas(tmp_path):
    folder = write_coco(tmp_path / "files", {"train": 5, "val": 3, "test": 2})
    data, batch = first_batch(coco(eval={"resize": 28}, image_size=28, batch_size=5), folder, tmp_path / "cache")
    assert data.spec.classes == ("round", "square")
    assert data.spec.samples == {"train": 5, "val": 3, "test": 2}
    assert data.spec.fields["boxes"].shape == (2, 4)
    assert batch["boxes"].shape == (5, 2, 4)
    counts = sorted((batch["box_label"] >= 0).sum(1).tolist())
    assert counts == sorted(number % 3 for number in range(5))


def test_areas_are_those_of_the_original_image(tmp_path):
    folder = write_coco(tmp_path / "files", {"train": 3, "val": 1, "test": 1})
    spec = coco(image_size=14, eval={"resize": 14}, batch_size=3)
    _, batch = first_batch(spec, folder, tmp_path / "cache")
    known = {row["area"] for number in range(3) for row in annotations(number, 30 + number, 28 + number)}
    kept = batch["box_area"][batch["box_label"] >= 0]
    assert len(kept)
    assert set(kept.tolist()) <= known
    assert ((batch["box_scale"] > 1.9) & (batch["box_scale"] < 2.3)).all(), "28 to 30 pixels became 14"


def test_objects_of_cocos_outlines_are_where_their_boxes_are(tmp_path):
    folder = write_coco(tmp_path / "files", {"train": 6, "val": 1, "test": 1})
    spec = coco(truth="instances", image_size=28, eval={"resize": 28}, batch_size=6)
    _, batch = first_batch(spec, folder, tmp_path / "cache")
    for boxes, labels, instances in zip(batch["boxes"], batch["box_label"], batch["instances"], strict=True):
        for number in range(int((labels >= 0).sum())):
            rows, columns = np.nonzero(instances.numpy() == number + 1)
            x0, y0, x1, y1 = boxes[number].tolist()
            assert len(rows) > 0.7 * (x1 - x0) * (y1 - y0)
            assert columns.min() >= x0 - 1.5
            assert columns.max() <= x1 + 0.5
            assert rows.min() >= y0 - 1.5
            assert rows.max() <= y1 + 0.5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"annotations": [{"id": 4, "image_id": 1, "category_id": 3, "bbox": [20, 3, 30, 5]}]},
            r"1\.jpg: box 0: \[20, 3, 50, 8\] reaches out of the image of 31 x 29 pixels",
        ),
        (
            {"annotations": [{"id": 4, "image_id": 1, "category_id": 5, "bbox": [2, 3, 3, 5]}]},
            "1.jpg: annotation 4: there is no",
        ),
        (
            {"annotations": [{"id": 4, "image_id": 99, "category_id": 3, "bbox": [2, 3, 3, 5]}]},
            "annotations of an image 99",
        ),
        (
            {"annotations": [{"id": 4, "image_id": 1, "category_id": 3}]},
            r"train\.json: not of COCO's form \(annotations, 4: no 'bbox'\)",
        ),
        ({"images": 3}, r"train\.json: not of COCO's form \(images is no list\)"),
        ({"images": [7]}, r"train\.json: not of COCO's form \(images, 0: no 'id'\)"),
        (box([float("nan"), 3, 3, 5]), r"1\.jpg: annotation 4: bbox is \[nan, 3, 3, 5\]; expected 4 numbers"),
        (box([2, 3, 3]), r"1\.jpg: annotation 4: bbox is \[2, 3, 3\]; expected 4 numbers"),
        (box(["2", 3, 3, 5]), r"1\.jpg: annotation 4: bbox is \['2', 3, 3, 5\]; expected 4 numbers"),
        (box(5), r"1\.jpg: annotation 4: bbox is 5; expected 4 numbers"),
        (box(area=float("nan")), r"1\.jpg: annotation 4: area is nan; expected a number"),
        (box(area=-5), r"1\.jpg: annotation 4: area is -5; expected none below 0"),
        (box(iscrowd="yes"), r"1\.jpg: annotation 4: iscrowd is 'yes'; expected 0 or 1"),
        ({"annotations": 2 * box()["annotations"]}, "annotations: id 4 stands 2 times"),
        ({"categories": [*CATEGORIES, {"id": 3, "name": "again"}]}, "categories: id 3 stands 2 times"),
        ({"categories": [*CATEGORIES, {"id": 9, "name": "round"}]}, "categories: name 'round' stands 2 times"),
        (
            {"images": [*IMAGES_OF_TRAIN, {**IMAGES_OF_TRAIN[0], "file_name": "other.jpg"}]},
            "images: id 0 stands 2 times",
        ),
        (
            {"images": [*IMAGES_OF_TRAIN, {**IMAGES_OF_TRAIN[0], "id": 500}]},
            r"images: file_name '0\.jpg' stands 2 times",
        ),
    ],
)
def test_what_cannot_be_right_is_refused_by_the_name_of_the_file(changes, message, tmp_path):
    folder = write_coco(tmp_path / "files", {"train": 5, "val": 2, "test": 2}, changes)
    with pytest.raises(DataInvalid, match=message):
        build(coco(), cache=tmp_path / "cache", site_path=folder)
    assert not list((tmp_path / "cache").glob("coco-*"))


@pytest.mark.parametrize(
    ("outline", "message"),
    [
        ([[1, 2, 3]], r"1\.jpg: annotation 4: segmentation: a polygon of \[1, 2, 3\]; expected"),
        ([["1", 2]], r"1\.jpg: annotation 4: segmentation: a polygon of \['1', 2\]; expected"),
        ("abc", r"1\.jpg: annotation 4: segmentation: a polygon of 'abc'; expected"),
        (
            [[2, 3, 2000, 3, 2000, 2000]],
            r"1\.jpg: annotation 4: segmentation: \(2000, 3\) lies out of the image of 31 x",
        ),
    ],
)
def test_outlines_that_cannot_be_right_are_named(outline, message, tmp_path):
    changes = box(segmentation=outline)
    folder = write_coco(tmp_path / "files", {"train": 5, "val": 2, "test": 2}, changes)
    with pytest.raises(DataInvalid, match=message):
        build(coco(truth="instances"), cache=tmp_path / "cache", site_path=folder)


def test_a_file_that_is_no_json_is_named(tmp_path):
    folder = write_coco(tmp_path / "files", {"train": 5, "val": 2, "test": 2})
    for text, message in (("{", r"train\.json is no JSON"), ("[]", r"train\.json: not of COCO's form \(it holds no")):
        (folder / "train.json").write_text(text)
        with pytest.raises(DataInvalid, match=message):
            build(coco(), cache=tmp_path / "cache", site_path=folder)


def test_images_that_are_not_there_or_of_another_size_are_named(tmp_path):
    folder = write_coco(tmp_path / "files", {"train": 5, "val": 2, "test": 2})
    (folder / "images" / "train" / "3.jpg").rename(folder / "images" / "train" / "x.jpg")
    with pytest.raises(DataMissing, match=r"1 images that train\.json names are not there: 3\.jpg"):
        build(coco(), cache=tmp_path / "cache", site_path=folder)
    (folder / "images" / "train" / "x.jpg").rename(folder / "images" / "train" / "3.jpg")
    data = json.loads((folder / "train.json").read_text())
    data["images"][2]["width"] = 300
    (folder / "train.json").write_text(json.dumps(data))
    with pytest.raises(
        DataInvalid, match=r"images/train/2\.jpg: it has 32 x 30 pixels, and its annotations are for 300 x 30"
    ):
        build(coco(), cache=tmp_path / "cache", site_path=folder)


def test_boxes_without_area_are_dropped_and_counted(tmp_path):
    row = {"id": 4, "image_id": 1, "category_id": 3, "bbox": [2, 3, 0, 5]}
    changes = {"annotations": [row, {**row, "id": 5, "bbox": [2, 3, 4, 5], "iscrowd": 1}]}
    folder = write_coco(tmp_path / "files", {"train": 5, "val": 2, "test": 2}, changes)
    data = build(coco(), cache=tmp_path / "cache", site_path=folder)
    assert data.manifest.passed_over.counts == {"boxes without area": 1}
    batch = next(iter(loader_for(coco(batch_size=5), data.root, "train", seed=0, shuffle=False)))
    labels = batch["box_label"].numpy()
    assert (is_crowd(labels).sum(), (labels >= 0).sum()) == (1, 0)
    assert classes_of(labels[is_crowd(labels)]).tolist() == [0]


def test_run_lengths_are_read_as_pycocotools_reads_them():
    from pycocotools import mask as theirs

    random = np.random.default_rng(0)
    for height, width in ((1, 1), (7, 5), (40, 61)):
        pixels = np.kron(random.integers(0, 2, (-(-height // 3), -(-width // 3))), np.ones((3, 3), int))[
            :height, :width
        ]
        packed = theirs.encode(np.asfortranarray(pixels.astype(np.uint8)))
        outline = {"size": [height, width], "counts": packed["counts"].decode()}
        assert np.array_equal(object_mask(outline, (height, width), (height, width)), pixels > 0)


def test_tiles_of_crowns_show_what_lies_in_them_and_no_photograph_is_in_two_splits(tmp_path, monkeypatch):
    write_crowns(tmp_path / "files", monkeypatch)
    spec = TreeCrownsSpec(name="tree_crowns", side=64, batch_size=64)
    data, batch = first_batch(spec, tmp_path / "files", tmp_path / "cache")
    assert data.spec.samples == {"train": 6, "val": 6, "test": 12}
    labels = batch["box_label"].numpy()
    assert (labels == 0).sum() == 3
    assert is_ignored(labels).sum() >= 1, "a crown of which a tile shows less than half counts for nothing there"
    assert any("4 aerial photographs" in note for note in data.manifest.notes)


def test_tiles_of_nuclei_show_what_lies_in_them_and_half_a_nucleus_counts_for_nothing(tmp_path, monkeypatch):
    write_nuclei(tmp_path / "files", monkeypatch)
    spec = NucleiSpec(name="nuclei", batch_size=64)
    data, batch = first_batch(spec, tmp_path / "files", tmp_path / "cache")
    assert data.spec.samples == {"train": 4, "val": 2, "test": 2}
    labels, instances = batch["box_label"].numpy(), batch["instances"].numpy()
    # the first is whole; of the second 6 columns of 16 are in the left tile, 10 in the right one; the third is whole
    assert sorted(labels[labels != -1].tolist()) == [label_code(0, difficult=True), 0, 0, 0]
    for row in range(len(labels)):
        for number in np.flatnonzero(labels[row] != -1):
            rows, columns = np.nonzero(instances[row] == number + 1)
            corners = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert batch["boxes"][row, number].tolist() == corners
            assert batch["box_area"][row, number] == len(rows)
    masks = NucleiSpec(name="nuclei", truth="masks", batch_size=64)
    data, batch = first_batch(masks, tmp_path / "files", tmp_path / "cache")
    assert data.spec.classes == ("background", "nucleus")
    assert batch["mask"].sum() == 3 * 20 * 16


def test_another_archive_than_the_published_one_is_refused(tmp_path, monkeypatch):
    write_crowns(tmp_path / "files", monkeypatch)
    (tmp_path / "files" / tree_crowns.ARCHIVE.file).write_bytes(b"PK")
    with pytest.raises(DataInvalid, match="is not what was published as deepforest 2"):
        build(TreeCrownsSpec(name="tree_crowns"), cache=tmp_path / "cache", site_path=tmp_path / "files")


def test_boxes_of_composed_scenes_are_around_what_is_seen_of_each_digit():
    spec = DigitScenesSpec(name="digit_scenes", truth="instances", side=48, most_digits=4, distinct=True)
    source = open_digit_scenes(spec, None)
    assert source.classes == tuple(map(str, range(10)))
    for item in source.splits["val"][:40]:
        values = source.read(item)
        boxes, instances = values["boxes"], values["instances"]
        assert set(np.unique(instances)) == set(range(len(boxes.boxes) + 1))
        for number, box in enumerate(boxes.boxes, start=1):
            rows, columns = np.nonzero(instances == number)
            assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def test_labels_tell_classes_crowds_and_difficult_objects_apart():
    codes = np.asarray(
        [-1, *(label_code(n, crowd=c, difficult=d) for n in (0, 5) for c, d in ((0, 0), (1, 0), (0, 1)))]
    )
    assert classes_of(codes[1:]).tolist() == [0, 0, 0, 5, 5, 5]
    assert classes_of(codes)[0] < 0
    assert is_ignored(codes).tolist() == [False, False, True, True, False, True, True]
    assert is_crowd(codes).tolist() == [False, False, True, False, False, True, False]
