"""A user's hour with masks of their own, as docs/segmentation.md tells it: look, plan, train, and see what came out."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from expflow import cli
from expflow.report.image_draws import drawn_interval
from expflow.report.overlap_draws import overlap_draws
from expflow.report.prediction_statistics import interval_words
from expflow.training.evaluation.overlaps import load_overlaps
from tests.test_house import ROOT, blocks

PAGE = (ROOT / "docs" / "segmentation.md").read_text()


def leaves(folder: Path, count: int = 20) -> None:
    """Crops of scikit-learn's photograph of a flower, JPEG and PNG; the mask is where red outweighs blue."""
    from sklearn.datasets import load_sample_image

    photograph = load_sample_image("flower.jpg")
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for number in range(count):
        size = 70 + 2 * number
        crop = photograph[100 + number : 100 + number + size, 150 + 5 * number : 160 + 5 * number + size]
        Image.fromarray(crop).save(folder / "images" / f"{number}.{'png' if number % 4 == 0 else 'jpg'}")
        mask = (crop[..., 0].astype(int) > crop[..., 2] + 40).astype(np.uint8)
        mask[:2] = 255
        Image.fromarray(mask).save(folder / "masks" / f"{number}.png")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    leaves(tmp_path / "leaves")
    (tmp_path / "leaves.yaml").write_text(blocks(PAGE, "yaml")[0].replace("epochs: 5", "epochs: 2"))
    (tmp_path / "leaf_net.py").write_text(blocks(PAGE, "python")[0])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EXPFLOW_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "path", [*sys.path])
    return tmp_path


def call(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as left:
        cli.main([*words])
    return int(left.value.code or 0), *capsys.readouterr()


def test_the_page_works_as_it_stands(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, error = call(capsys, "data", "show", "leaves.yaml")
    assert (code, error) == (0, "")
    assert (place / "folder-train.png").is_file()
    code, out, error = call(capsys, "plan", "leaves.yaml", "--no-time")
    assert (code, error) == (0, ""), error
    assert "val/miou" in out
    code, out, error = call(capsys, "train", "leaves.yaml")
    assert code == 0, error
    assert "val/miou" in out
    code, out, error = call(capsys, "show", "leaves+train/best", "--worst")
    assert code == 0, error
    (trial,) = (place / "runs/leaves+train/trials").iterdir()
    with Image.open(trial / "pictures/worst.png") as drawn:
        colours = {colour for _, colour in drawn.convert("RGB").getcolors(2**24)}
    assert len(colours) > 500, "photographs and masks are drawn"
    assert list(trial.rglob("artifacts/samples/*.png")), "pictures of val without show"
    (table,) = trial.rglob("artifacts/iou-val/*.csv")
    rows = [row.split(",") for row in table.read_text().splitlines()]
    assert [row[0] for row in rows] == ["class", "background", "leaf"]
    code, out, error = call(capsys, "show", "leaves+train/best")
    assert code == 0, error
    assert "over the choice of 2 images [" in " ".join(out.split()), "the interval of the ratio over images"
    code, out, error = call(capsys, "test", "leaves+train/best")
    assert code == 0, error
    draws = overlap_draws(load_overlaps(trial / "overlaps-test.npz"), "test/miou")
    assert draws is not None
    assert interval_words("test/miou", drawn_interval([draws])) in out
    assert "Over images: 95 % interval" in out
    assert not list(trial.glob(".*look*"))


def test_init_writes_an_experiment_for_masks_that_plans(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, error = call(capsys, "init", "leaves", "--out", "mine.yaml")
    assert (code, error) == (0, "")
    text = (place / "mine.yaml").read_text()
    assert "task: segmentation" in text
    assert "classes: [background, class_1]" in text
    code, out, error = call(capsys, "plan", "mine.yaml", "--no-time")
    assert (code, error) == (0, ""), error
    assert "10 trials" in out


def test_a_broken_mask_is_named_by_plan(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (75, 70)).save(place / "leaves" / "masks" / "3.png")
    code, _, error = call(capsys, "plan", "leaves.yaml")
    assert code == 2
    assert "images/3.jpg: its mask masks/3.png: its mode is RGB" in error


def test_a_network_that_gives_no_maps_is_refused_when_a_batch_is_tried(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    net = blocks(PAGE, "python")[0].replace(
        "nn.Conv2d(width, num_classes, 1),", "nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes),"
    )
    (place / "leaf_net.py").write_text(net)
    code, _, error = call(capsys, "plan", "leaves.yaml", "--no-time")
    assert code == 2
    assert "scores at every pixel" in error
