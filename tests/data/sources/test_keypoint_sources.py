"""Keypoints of COCO's files and of composed scenes: where they are, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

from expflow.data.box_specs import CocoSpec
from expflow.data.contact_sheet import contact_sheet
from expflow.data.keypoint_layout import KeypointLayout
from expflow.data.kinds.keypoints import point_colours
from expflow.data.prepare.build import build
from expflow.data.prepare.prepared import data_key
from expflow.data.sources.digit_scenes import TIPS, open_digit_scenes
from expflow.data.specs import DigitScenesSpec
from expflow.data.streaming.loader import loader_for
from expflow.errors import DataInvalid
from tests.data.sources.boxed_sets import write_coco, write_faces

COUNTS = {"train": 5, "val": 2, "test": 2}


def faces(**keys) -> CocoSpec:
    return CocoSpec(name="coco", **{"image_size": 24, "batch_size": 5, "truth": "keypoints", **keys})


def test_a_folder_of_cocos_form_gives_the_points_of_its_categories(tmp_path):
    folder = write_faces(tmp_path / "files", COUNTS)
    spec = faces(image_size=28, eval={"resize": 28})
    data = build(spec, cache=tmp_path / "cache", site_path=folder)
    names = ("nose", "left_eye", "right_eye")
    assert data.spec.points == KeypointLayout(names, ((0, 1), (0, 2)), (0, 2, 1))
    batch = next(iter(loader_for(spec, data.root, "train", seed=0, shuffle=False)))
    boxes, labels, points = (batch[name].numpy() for name in ("boxes", "box_label", "keypoints"))
    assert points.shape == (5, 2, 3, 3)
    assert (points[labels != 0] == 0).all(), "a category without points has objects without any"
    scale = batch["box_scale"].numpy()[np.nonzero(labels == 0)[0], None, None]
    nose_and_eye = points[labels == 0][:, :2]
    assert len(nose_and_eye) > 1
    assert (nose_and_eye[..., 2] == [2, 1]).all()
    apart = (nose_and_eye[..., :2] - boxes[labels == 0][:, None, :2]) * scale
    assert np.allclose(apart, [[1.5, 2.5], [3.5, 1.5]], atol=0.1), "numbers of pixels, whose centres are half a one on"
    assert (points[:, :, 2] == 0).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"keypoints": [200, 3, 2] * 3, "num_keypoints": 3},
            r"box \d: point 0 at \(200.5, 3.5\) lies out of the image",
        ),
        ({"keypoints": [1, 2, 2] * 4, "num_keypoints": 4}, "annotation 21: keypoints: expected 3 points .* found 4"),
        ({"keypoints": [1, 2, 2, 3]}, "annotation 21: keypoints: expected numbers .* found 4 values"),
        ({"keypoints": [1, 2, 5] * 3}, "annotation 21: keypoints: point 0 has the visibility 5; expected 0"),
        ({"num_keypoints": 3}, "num_keypoints is 3, and 2 have a visibility above 0"),
        ({"category_id": 7}, "annotation 21: keypoints: its category 7 names none"),
    ],
)
def test_points_that_cannot_be_right_are_refused_by_the_name_of_the_image(changes, message, tmp_path):
    folder = write_faces(tmp_path / "files", COUNTS, changes)
    with pytest.raises(DataInvalid, match=rf"train\.json: 1 entry that .*\n  \d\.jpg: .*{message}"):
        build(faces(), cache=tmp_path / "cache", site_path=folder)
    assert not list((tmp_path / "cache").glob("coco-*"))


@pytest.mark.parametrize(
    ("category", "message"),
    [
        ({"keypoints": ["nose", "nose", "eye"]}, "has keypoints of one name twice"),
        ({"skeleton": [[0, 1]]}, r"skeleton: expected pairs of the points 1 to 3, found \[0, 1\]"),
        ({"keypoints": ["nose", "left_eye", "chin"]}, r"val\.json: its keypoints or their skeleton differ from those"),
    ],
)
def test_names_that_do_not_match_are_refused_by_the_name_of_the_file(category, message, tmp_path):
    folder = write_faces(tmp_path / "files", COUNTS, {"category": category})
    with pytest.raises(DataInvalid, match=message):
        build(faces(), cache=tmp_path / "cache", site_path=folder)


def test_categories_without_points_or_with_different_ones_are_refused(tmp_path):
    folder = write_coco(tmp_path / "files", COUNTS)
    with pytest.raises(DataInvalid, match=r"train\.json: no category names keypoints, as"):
        build(faces(), cache=tmp_path / "cache", site_path=folder)
    folder = write_faces(tmp_path / "faces", COUNTS)
    data = json.loads((folder / "train.json").read_text())
    data["categories"][1]["keypoints"] = ["corner"]
    (folder / "train.json").write_text(json.dumps(data))
    with pytest.raises(DataInvalid, match="'round' and 'square' name different keypoints"):
        build(faces(), cache=tmp_path / "cache", site_path=folder)


def test_pairs_of_points_can_be_named(tmp_path):
    folder = write_faces(tmp_path / "files", COUNTS)
    spec = faces(mirrored_points=[["nose", "left_eye"]])
    data = build(spec, cache=tmp_path / "cache", site_path=folder)
    assert data.spec.points is not None
    assert data.spec.points.mirrored == (1, 0, 2)
    with pytest.raises(DataInvalid, match=r"train\.json: there is no point 'chin'; the points are nose, left_eye"):
        build(faces(mirrored_points=[["nose", "chin"]]), cache=tmp_path / "cache", site_path=folder)
    with pytest.raises(ValueError, match="is of keypoints, and these data have none; set truth"):
        faces(truth="boxes", mirrored_points=[["nose", "left_eye"]])


def test_cocos_own_files_of_people_are_found_beside_those_of_objects(tmp_path):
    folder = write_faces(tmp_path / "files", {"train": 5, "val": 3})
    (folder / "annotations").mkdir()
    for split in ("train", "val"):
        (folder / "images" / split).rename(folder / f"{split}2017")
        (folder / f"{split}.json").rename(folder / "annotations" / f"person_keypoints_{split}2017.json")
        plain = write_coco(tmp_path / f"plain-{split}", {split: 3}) / f"{split}.json"
        plain.rename(folder / "annotations" / f"instances_{split}2017.json")
    data = build(faces(val_fraction=0.2, test_fraction=0.3), cache=tmp_path / "cache", site_path=folder)
    assert data.spec.points is not None
    assert data.spec.samples["val"] == 3


def scenes(**keys) -> DigitScenesSpec:
    return DigitScenesSpec(name="digit_scenes", side=48, most_digits=4, **keys)


def test_points_of_composed_scenes_are_where_each_digits_ink_ends():
    alone = scenes(truth="keypoints").model_copy(update={"most_digits": 1})
    with_instances = open_digit_scenes(alone.model_copy(update={"truth": "instances"}), None)
    source = open_digit_scenes(alone, None)
    for item in source.splits["val"][:30]:
        (box,), (points,) = (getattr(source.read(item)["keypoints"], name) for name in ("boxes", "points"))
        assert points[:, 2].tolist() == [2] * 4
        ink = with_instances.read(item)["instances"] == 1
        assert all(ink[int(y), int(x)] for x, y, _ in points.tolist()), "each lies on ink"
        (top, bottom, left, right) = points
        assert [left[0] - 0.5, top[1] - 0.5, right[0] + 0.5, bottom[1] + 0.5] == box.tolist()


def test_a_tip_that_another_digit_covers_is_hidden():
    spec = scenes(truth="keypoints")
    source, instances = open_digit_scenes(spec, None), open_digit_scenes(scenes(truth="instances"), None)
    hidden = 0
    for item in source.splits["train"][:60]:
        boxes, seen = source.read(item)["boxes"], instances.read(item)["instances"]
        assert boxes.boxes.tolist() == instances.read(item)["boxes"].boxes.tolist()
        assert boxes.points.shape == (len(boxes.boxes), len(TIPS.names), 3)
        for number, points in enumerate(boxes.points, start=1):
            for x, y, visibility in points.tolist():
                assert (visibility == 2) == (seen[int(y), int(x)] == number)
                hidden += visibility == 1
    assert hidden > 5


def test_images_and_keys_of_scenes_without_points_are_those_of_before():
    """The key of 2026-11: what came later is in it only where it is used."""
    plain, pointed = (open_digit_scenes(scenes(truth=truth), None) for truth in ("boxes", "keypoints"))
    for item in plain.splits["val"][:5]:
        assert np.array_equal(plain.read(item)["image"], pointed.read(item)["image"])
    assert set(plain.fields) == set(pointed.fields) - {"keypoints"}
    assert data_key(DigitScenesSpec(name="digit_scenes", truth="boxes")) == "de0853a4aa72"
    assert data_key(CocoSpec(name="coco", image_size=24)) == "ad5e54365c6f"


def test_the_contact_sheet_shows_each_point_in_a_colour_of_its_own(tmp_path):
    spec = scenes(truth="keypoints", train_scenes=4, val_scenes=1, test_scenes=1)
    data = build(spec, cache=tmp_path / "cache")
    sheet = np.asarray(contact_sheet(data.root, data.manifest, "train", samples=4))
    shown = {tuple(colour) for colour in np.unique(sheet.reshape(-1, 3), axis=0).tolist()}
    assert set(point_colours(len(TIPS.names), 1)) <= shown
