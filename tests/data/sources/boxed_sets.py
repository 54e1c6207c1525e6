"""Small data sets with boxes: COCO's files, and an archive like that of the tree crowns."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from expflow.data.sources import nuclei, tree_crowns

CATEGORIES = [{"id": 3, "name": "round"}, {"id": 7, "name": "square"}]


def annotations(number: int, width: int, height: int) -> list[dict[str, object]]:
    """Up to two objects of an image, with polygons around them."""
    boxes = [[2, 3, 10, 12], [width - 9.5, height - 12, 8, 11]][: number % 3]
    return [
        {
            "id": 10 * number + place + 1,
            "image_id": number,
            "category_id": CATEGORIES[(number + place) % 2]["id"],
            "bbox": [x, y, w, h],
            "area": w * h / 2,
            "iscrowd": 0,
            "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
        }
        for place, (x, y, w, h) in enumerate(boxes)
    ]


def write_coco(folder: Path, counts: dict[str, int], changes: dict[str, object] | None = None) -> Path:
    """``train.json`` with ``images/train/`` and so on; ``changes`` are made to the file of train."""
    folder.mkdir(parents=True, exist_ok=True)
    for place, (split, count) in enumerate(counts.items()):
        data: dict[str, object] = {"images": [], "annotations": [], "categories": CATEGORIES}
        (folder / "images" / split).mkdir(parents=True)
        for number in range(100 * place, 100 * place + count):
            width, height = 30 + number % 7, 28 + number % 5
            pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "images" / split / f"{number}.jpg")
            image = {"id": number, "file_name": f"{number}.jpg", "width": width, "height": height}
            data["images"].append(image)  # type: ignore[attr-defined]
            data["annotations"] += annotations(number, width, height)  # type: ignore[operator]
        data |= changes if changes is not None and split == "train" else {}
        (folder / f"{split}.json").write_text(json.dumps(data))
    return folder


def write_crowns(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An archive with small photographs under the names of the real ones."""
    folder.mkdir(parents=True)
    path = folder / tree_crowns.ARCHIVE.file
    with zipfile.ZipFile(path, "w") as archive:
        for number, name in enumerate(name for names in tree_crowns.PHOTOGRAPHS.values() for name in names):
            pixels = np.random.default_rng(number).integers(0, 256, (140 + number, 200, 3), dtype=np.uint8)
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "PNG")
            box = (
                "<object><name>Tree</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox>"
            )
            boxes = [(10, 10, 40, 50), (50, 60, 70, 90), (130, 20, 180, 60)]
            objects = "".join(box.format(*corners) + "</object>" for corners in boxes)
            archive.writestr(f"deepforest/data/{name}.png", buffer.getvalue())
            archive.writestr(f"deepforest/data/{name}.xml", f"<annotation>{objects}</annotation>")
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(tree_crowns, "ARCHIVE", replace(tree_crowns.ARCHIVE, sha256=sha256))
    tree_crowns._photograph.cache_clear()


def write_nuclei(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An archive with a small image in the place of the real one: squares, of which two lie on borders of tiles."""
    folder.mkdir(parents=True)
    path = folder / nuclei.ARCHIVE.file
    numbers = np.zeros((128, 256), np.uint16)
    for number, (top, left) in enumerate([(10, 10), (20, 58), (70, 100), (50, 140), (90, 170), (30, 200), (100, 230)]):
        numbers[top : top + 20, left : left + 16] = number + 1
    pixels = (numbers > 0) * 200 + np.random.default_rng(0).integers(0, 50, numbers.shape)
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in (("img2d", pixels.astype(np.uint16)), ("mask2d", numbers)):
            buffer = io.BytesIO()
            Image.fromarray(array).save(buffer, "TIFF")
            archive.writestr(f"stardist/data/images/{name}.tif", buffer.getvalue())
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(nuclei, "ARCHIVE", replace(nuclei.ARCHIVE, sha256=sha256))
    nuclei._image.cache_clear()


FACE = {"keypoints": ["nose", "left_eye", "right_eye"], "skeleton": [[1, 2], [1, 3]]}


def write_faces(folder: Path, counts: dict[str, int], changes: dict[str, object] | None = None) -> Path:
    """The same with three points in each round object; ``changes`` are made to the first object of train that has any,
    those of ``category`` to its category.
    """
    write_coco(folder, counts)
    for split in counts:
        data = json.loads((folder / f"{split}.json").read_text())
        data["categories"][0] |= FACE
        round_ones = [row for row in data["annotations"] if row["category_id"] == 3]
        for row in round_ones:
            x, y, _, _ = row["bbox"]
            row |= {"keypoints": [x + 1, y + 2, 2, x + 3, y + 1, 1, 0, 0, 0], "num_keypoints": 2}
        if split == "train" and changes is not None:
            of_category = changes.get("category", {})
            data["categories"][0] |= of_category  # type: ignore[operator]
            round_ones[0] |= {key: value for key, value in changes.items() if key != "category"}
        (folder / f"{split}.json").write_text(json.dumps(data))
    return folder
