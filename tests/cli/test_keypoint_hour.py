"""A user's hour with points of their own in COCO's JSON: look, plan, train, see what came out, and mend a file."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from tests.cli.test_segmentation_hour import call

CORNERS = ["top", "left_corner", "right_corner"]
SIGNS = """
data: {name: coco, path: signs, truth: keypoints, image_size: 48, batch_size: 5, train: {flip: 0.5}}
model: {name: keypoint_rcnn, backbone: resnet, layout: [1, 1], width: 4, head_width: 8, hidden: 8, proposals: 20,
        keypoint_width: 4, keypoint_layers: 2, smallest_stride: 4}
task: {name: detection, keypoint_sigmas: [0.1]}
optimizer: {name: adam, lr: 3e-3}
trainer: {epochs: 2}
"""


def signs(folder: Path, count: int = 20) -> None:
    """Triangles on noise, with their corners; a second sign of each third image hides a corner."""
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    random = np.random.default_rng(0)
    for number in range(count):
        image = Image.fromarray(random.integers(90, 130, (72, 80, 3), dtype=np.uint8))
        images.append({"id": number, "file_name": f"{number}.png", "width": 80, "height": 72})
        for order in range(2 if number % 3 == 0 else 1):
            side = int(random.integers(14, 26))
            left, top = (int(random.integers(4, length - side - 4)) for length in (80, 72))
            corners = [(left + side // 2, top), (left, top + side - 1), (left + side - 1, top + side - 1)]
            ImageDraw.Draw(image).polygon(corners, fill=(200, 40, 30))
            points = [value for corner in corners for value in (*corner, 2)]
            points[2] = 2 - order
            row = {"id": len(annotations) + 1, "image_id": number, "category_id": 1, "iscrowd": 0, "num_keypoints": 3}
            annotations.append(row | {"bbox": [left, top, side, side], "area": side**2 // 2, "keypoints": points})
        image.save(folder / "images" / f"{number}.png")
    sign = {"id": 1, "name": "sign", "keypoints": CORNERS, "skeleton": [[1, 2], [2, 3], [3, 1]]}
    write(folder, {"images": images, "annotations": annotations, "categories": [sign]})


def write(folder: Path, content: dict[str, Any]) -> None:
    (folder / "train.json").write_text(json.dumps(content))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    signs(tmp_path / "signs")
    (tmp_path / "signs.yaml").write_text(SIGNS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EXPFLOW_CACHE", str(tmp_path / "cache"))
    return tmp_path


def test_an_hour_with_points(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, error = call(capsys, "data", "show", "signs.yaml")
    assert (code, error) == (0, "")
    with Image.open(place / "coco-train.png") as drawn:
        assert len(drawn.convert("RGB").getcolors(2**24)) > 100
    code, out, error = call(capsys, "plan", "signs.yaml", "--no-time")
    assert (code, error) == (0, ""), error
    assert "val/ap" in out
    code, out, error = call(capsys, "train", "signs.yaml")
    assert code == 0, error
    code, out, error = call(capsys, "show", "signs/best")
    assert code == 0, error
    assert "val/keypoint_ap" in out
    assert "samples, step" in out
    code, out, error = call(capsys, "show", "signs/best", "--worst")
    assert code == 0, error
    (trial,) = (place / "runs/signs/trials").iterdir()
    assert (trial / "pictures/worst.png").is_file()
    code, out, error = call(capsys, "test", "signs/best")
    assert code == 0, error
    assert "test/ap" in out


def out_of_the_image(content: dict[str, Any]) -> None:
    content["annotations"][0]["keypoints"][0] = 81


def two_of_three_points(content: dict[str, Any]) -> None:
    del content["annotations"][0]["keypoints"][3:6]


def a_side_without_a_partner(content: dict[str, Any]) -> None:
    content["categories"][0]["keypoints"][2] = "tip"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (out_of_the_image, "train.json"),
        (two_of_three_points, "train.json"),
        (a_side_without_a_partner, "data.train.flip"),
    ],
)
def test_points_that_cannot_be_are_named_by_plan(
    place: Path, capsys: pytest.CaptureFixture[str], change: Callable[[dict[str, Any]], None], reason: str
) -> None:
    content = json.loads((place / "signs/train.json").read_text())
    change(content)
    write(place / "signs", content)
    code, _, error = call(capsys, "plan", "signs.yaml", "--no-time")
    assert code == 2
    assert reason in error
    assert "Traceback" not in error
