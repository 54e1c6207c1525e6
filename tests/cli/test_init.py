"""`expflow init`: a first experiment on the user's images, with comments, that can be swept at once."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import expflow
from expflow import cli
from expflow.config import load
from expflow.data.prepare.build import prepare
from expflow.sweep.cost_estimate import check_builds
from expflow.sweep.plan import make_plan
from tests.sweep.runs import Workplace


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EXPFLOW_CACHE", str(tmp_path / "cache"))
    return tmp_path


def images(folder: Path, labels: dict[str, int], size: tuple[int, int] = (40, 50), mode: str = "RGB") -> Path:
    shape = (*size, 3) if mode == "RGB" else size
    for label, count in labels.items():
        (folder / label).mkdir(parents=True)
        for number in range(count):
            pixels = np.random.default_rng(number).integers(0, 256, shape, dtype=np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{number}.png")
    return folder


def call(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as left:
        cli.main([str(word) for word in words])
    message = capsys.readouterr()
    assert "Traceback" not in message.err
    return int(left.value.code or 0), message.out, message.err


def test_the_file_can_be_planned_and_its_data_prepared(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images(place / "flowers", {"rose": 20, "tulip": 12})
    code, out, _ = call(capsys, "init", "flowers")
    assert code == 0
    assert (
        out
        == "wrote flowers.yaml; expflow plan flowers.yaml says what it will take, expflow sweep flowers.yaml runs it\n"
    )
    text = (place / "flowers.yaml").read_text()
    assert text.count("#") > 6
    rows = check_builds(make_plan(place / "flowers.yaml"))
    assert len(rows) == 20
    data = rows[0].trial.data
    assert data is not None
    assert (data.spec.classes, data.spec.image_shape) == (("rose", "tulip"), (3, 32, 32))
    assert min(data.spec.samples.values()) >= 2


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("split", [False, True])
def test_the_file_sweeps_at_once(tmp_path: Path, split: bool) -> None:
    """Of few images, which give most epochs; grey and of odd sizes the second time, with splits of their own."""
    place = Workplace(tmp_path)
    try:
        for part in ("train", "val") if split else ("",):
            images(tmp_path / "small photos" / part, {"a": 4, "b": 3}, (9, 12), "L" if split else "RGB")
        place.run("init", "small photos")
        output = place.run("sweep", "small_photos.yaml", "--set", "trainer.epochs=2")
    finally:
        place.leave()
    assert "[20/20] done" in output
    assert "Warning" not in output
    trials = expflow.results("small_photos+trainer.epochs=2", storage=tmp_path / "runs").trials
    assert list(trials["status"]) == ["done"] * 20
    assert trials["val/top1"].between(0, 1).all()


def test_without_a_folder_it_is_about_digits(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(capsys, "init")[0] == 0
    assert len(check_builds(make_plan(place / "digits.yaml"))) == 20


def test_grey_images_get_one_channel_and_small_classes_larger_shares(place: Path, capsys) -> None:
    images(place / "scans", {"a": 6, "b": 5, "c": 40}, size=(9, 20), mode="L")
    call(capsys, "init", "scans")
    data = load(place / "scans.yaml").experiment.recipe.data
    assert (data.channels, data.image_size, data.val_fraction, data.test_fraction) == (1, 8, 0.2, 0.2)
    prepared = prepare(data, cache=place / "cache", folder=place)
    assert all(prepared.spec.samples[split] >= 3 for split in ("val", "test"))


def test_splits_of_the_folder_are_kept(place: Path, capsys) -> None:
    for split, count in (("train", 9), ("val", 2), ("test", 2)):
        images(place / "set" / split, {"a": count, "b": count})
    call(capsys, "init", "set")
    data = load(place / "set.yaml").experiment.recipe.data
    prepared = prepare(data, cache=place / "cache", folder=place)
    assert prepared.spec.samples == {"train": 18, "val": 4, "test": 4}


@pytest.mark.parametrize("name", ["my flowers", "-rf", "a: b # c", "line\nbreak", "ünder", "{x}"])
def test_any_name_of_a_folder_is_read_back(place: Path, capsys, name: str) -> None:
    images(place / "sets" / name, {"a": 4, "b": 4})
    code, out, _ = call(capsys, "init", place / "sets" / name, "--out", "mine.yaml")
    assert code == 0
    assert shlex.split(out)[1] == "mine.yaml;"
    recipe = load(place / "mine.yaml").experiment.recipe
    assert (place / recipe.data.path).resolve() == (place / "sets" / name).resolve()


def test_the_files_own_name_is_harmless(place: Path, capsys) -> None:
    images(place / "-r f", {"a": 4, "b": 4})
    assert call(capsys, "init", place / "-r f")[0] == 0
    assert (place / "r_f.yaml").is_file()


def test_nothing_is_overwritten(place: Path, capsys) -> None:
    (place / "digits.yaml").write_text("mine")
    code, _, error = call(capsys, "init")
    assert code == 2
    assert "digits.yaml is there already and stays as it is; --out names another file" in error
    assert (place / "digits.yaml").read_text() == "mine"


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"cat": 4}, "cat is the only class, and a classifier of one class learns nothing"),
        ({"cat": 9, "dog": 2}, "the class dog has 2 images; at least 3 are needed"),
        ({"Train": 4, "Val": 4}, "look like parts of a data set"),
        ({}, "no folders in it"),
    ],
)
def test_a_folder_that_cannot_be_learned_from_is_refused(place: Path, capsys, labels, message: str) -> None:
    images(place / "set", labels).mkdir(exist_ok=True)
    code, _, error = call(capsys, "init", "set")
    assert code == 2
    assert message in error
    assert not (place / "set.yaml").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("nowhere",), "there is no folder nowhere"),
        (("--out", "a.txt"), "--out a.txt: an experiment's file ends in .yaml"),
        (("--out", "no/where.yaml"), "no/where.yaml cannot be written"),
    ],
)
def test_what_cannot_be_written_is_said(place: Path, capsys, words, message: str) -> None:
    code, _, error = call(capsys, "init", *words)
    assert code == 2
    assert message in error


def test_images_that_do_not_read_are_named(place: Path, capsys) -> None:
    for label in ("a", "b"):
        (place / "set" / label).mkdir(parents=True)
        for number in range(3):
            (place / "set" / label / f"{number}.png").write_bytes(b"no image")
    code, _, error = call(capsys, "init", "set")
    assert code == 2
    assert "a/0.png and others can not be read as images" in error
