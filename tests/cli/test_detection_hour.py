"""A user's hour with boxes of their own, as docs/detection.md tells it: look, plan, train, and see what came out."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from expflow.ledger import load_state
from tests.cli.test_segmentation_hour import call
from tests.test_house import ROOT, blocks

PAGE = (ROOT / "docs" / "detection.md").read_text()


def apples(folder: Path, count: int = 20) -> None:
    """Discs on noise in images of two sizes, and one image without any."""
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    random = np.random.default_rng(0)
    for number in range(count):
        width, height = (96, 80) if number % 2 else (80, 90)
        image = Image.fromarray(random.integers(90, 130, (height, width, 3), dtype=np.uint8))
        images.append({"id": number, "file_name": f"{number}.png", "width": width, "height": height})
        for _ in range(min(number, int(random.integers(1, 4)))):
            side = int(random.integers(12, 26))
            left, top = (int(random.integers(8, length - side - 8)) for length in (width, height))
            ImageDraw.Draw(image).ellipse([left, top, left + side - 1, top + side - 1], fill=(200, 40, 30))
            box = [left, top, side, side]
            row = {"id": len(annotations) + 1, "image_id": number, "category_id": 1, "bbox": box, "area": side**2}
            annotations.append(row | {"iscrowd": 0})
        image.save(folder / "images" / f"{number}.png")
    data = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "apple"}]}
    (folder / "train.json").write_text(json.dumps(data))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    apples(tmp_path / "apples")
    (tmp_path / "apples.yaml").write_text(blocks(PAGE, "yaml")[0].replace("epochs: 5", "epochs: 3"))
    (tmp_path / "apple_net.py").write_text(blocks(PAGE, "python")[0])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EXPFLOW_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "path", [*sys.path])
    return tmp_path


def test_the_page_works_as_it_stands(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, error = call(capsys, "data", "show", "apples.yaml")
    assert (code, error) == (0, "")
    assert (place / "coco-train.png").is_file()
    code, out, error = call(capsys, "data", "stats", "apples.yaml")
    assert "1 classes; objects of train:" in out
    code, out, error = call(capsys, "plan", "apples.yaml", "--no-time")
    assert (code, error) == (0, ""), error
    assert "val/ap" in out
    code, out, error = call(capsys, "train", "apples.yaml")
    assert code == 0, error
    assert "val/ap" in out
    code, out, error = call(capsys, "show", "apples+train/best", "--worst")
    assert code == 0, error
    (trial,) = (place / "runs/apples+train/trials").iterdir()
    with Image.open(trial / "pictures/worst.png") as drawn:
        assert len(drawn.convert("RGB").getcolors(2**24)) > 100
    (table,) = trial.rglob("artifacts/ap-val/*.csv")
    rows = [row.split(",") for row in table.read_text().splitlines()]
    assert rows[0] == ["class", "ap", "ap50", "ap75", "objects", "predictions"]
    assert rows[1][0] == "apple"
    code, out, error = call(capsys, "show", "apples+train/best")
    assert code == 0, error
    code, out, error = call(capsys, "test", "apples+train/best")
    assert code == 0, error
    assert "test/ap" in out
    evaluation = load_state(place / "runs/apples+train").split_evaluations[-1]
    kept = trial / "detections-test.npz"
    assert list(evaluation.predictions.values()) == [hashlib.sha256(kept.read_bytes()).hexdigest()]


def test_boxes_that_cannot_be_are_named_by_plan(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = json.loads((place / "apples" / "train.json").read_text())
    data["annotations"][0]["bbox"][0] = 90
    (place / "apples" / "train.json").write_text(json.dumps(data))
    code, _, error = call(capsys, "plan", "apples.yaml")
    assert code == 2
    assert "train.json" in error
    assert "reaches out of the image" in error


def test_a_network_that_gives_no_boxes_is_refused_when_a_batch_is_tried(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net = blocks(PAGE, "python")[0].replace("return self.losses(scores, sides, targets) if", "return scores if")
    (place / "apple_net.py").write_text(net)
    code, _, error = call(capsys, "plan", "apples.yaml", "--no-time")
    assert code == 2
    assert "a detector gives its losses by name" in error
