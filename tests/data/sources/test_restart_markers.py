"""Restart markers that a build puts in: no pixel changes, and nothing is lost where they cannot be had."""

import io

import numpy as np
import pytest
from PIL import Image

from expflow.config.spec import FieldError
from expflow.data.decode.jpeg_header import read_jpeg_header
from expflow.data.decode.lazy_image import open_image
from expflow.data.decode.pillow_decoder import decode_with_pillow
from expflow.data.prepare.build import prepare
from expflow.data.prepare.prepared import data_key
from expflow.data.sources import restart_markers
from expflow.data.sources.restart_markers import add_restart_markers, restart_interval
from expflow.data.specs import FolderSpec
from expflow.errors import PackageMissing
from tests.data.photographs import jpeg, photograph, saved
from tests.data.stored_samples import read_samples
from tests.debian_packages import need_programs

installed = pytest.mark.usefixtures("jpegtran")


@pytest.fixture(scope="module")
def jpegtran():
    need_programs("libjpeg-turbo-progs", "jpegtran")


@installed
@pytest.mark.parametrize("kind", ["4:2:0", "4:2:2", "4:4:4", "progressive", "grey"])
def test_no_pixel_changes_and_crops_read_less(kind):
    plain = jpeg(kind)
    marked = add_restart_markers(plain)
    header = read_jpeg_header(marked)
    assert header.simple
    assert header.restarts == restart_interval(header)
    assert len(marked) < (1.1 if kind == "progressive" else 1.04) * len(plain)
    assert np.array_equal(decode_with_pillow(marked), decode_with_pillow(plain))
    spoiled = bytearray(marked)
    spoiled[-len(marked) // 4 : -2] = bytes(len(marked) // 4 - 2)
    part = open_image(memoryview(spoiled), 3).region((0, 40, 60, 90))
    assert np.array_equal(part, decode_with_pillow(plain, 3)[:60, 40:130]), "the lower rows are not looked at"


@pytest.mark.parametrize(("width", "expected"), [(500, 2), (336, 3), (400, 5), (224, 2), (1, 1), (496, 31)])
def test_intervals_begin_at_the_same_columns_in_every_row(width, expected):
    header = read_jpeg_header(saved(photograph(size=(width, 32)), "JPEG", subsampling="4:2:0"))
    assert restart_interval(header) == expected


@installed
def test_what_has_them_or_is_damaged_or_has_four_colours_stays_as_it_is():
    cmyk = saved(photograph(size=(64, 48)).convert("CMYK"), "JPEG")
    for content in (jpeg("every 5 units"), cmyk, jpeg()[:2000], jpeg()[:-200], b"", b"GIF89a"):
        assert add_restart_markers(content) == content


@pytest.mark.parametrize(
    "program",
    ["exit 1", "cat >/dev/null", "cat >/dev/null; echo no image", "cat >/dev/null; cat {other}", "exec sleep 60"],
    ids=["fails", "says nothing", "says nonsense", "gives other pixels", "hangs"],
)
def test_a_program_that_does_wrong_changes_nothing(program, tmp_path, monkeypatch):
    (tmp_path / "other.jpg").write_bytes(saved(photograph(1), "JPEG"))
    path = tmp_path / restart_markers.PROGRAM
    path.write_text("#!/bin/sh\n" + program.format(other=tmp_path / "other.jpg") + "\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(restart_markers, "PATIENCE_SECONDS", 0.3)
    assert add_restart_markers(jpeg()) == jpeg()


def recipe(folder, **keys):
    return FolderSpec.model_validate(
        {"name": "folder", "path": folder, "stored": "original", "val_fraction": 0, "test_fraction": 0, **keys}
    )


@pytest.fixture
def photographs(tmp_path):
    for number in range(2):
        path = tmp_path / "images" / f"class{number}" / "a.jpg"
        path.parent.mkdir(parents=True)
        path.write_bytes(jpeg(number=number))
    photograph(size=(20, 20)).save(path.with_name("b.png"))
    return tmp_path / "images"


@installed
def test_a_build_puts_them_in_on_request(photographs, tmp_path):
    built = {}
    for marked in (False, True):
        data = prepare(recipe(photographs, restart_markers=marked), cache=tmp_path / "cache")
        built[marked] = {key: bytes(sample["image"]) for key, sample in read_samples(data.root, data.manifest, "train")}
    assert {content for content in built[False].values() if content[:2] == b"\xff\xd8"} == {jpeg(), jpeg(number=1)}
    for key, content in built[True].items():
        assert np.array_equal(decode_with_pillow(content), decode_with_pillow(built[False][key]))
        assert content[:2] != b"\xff\xd8" or read_jpeg_header(content).restarts


def test_only_asking_for_them_changes_the_key(photographs):
    spec = recipe(photographs)
    assert "restart_markers" not in spec.description()
    assert data_key(spec) != data_key(recipe(photographs, restart_markers=True))


def test_without_the_program_it_says_what_to_install(photographs, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PackageMissing, match="restart_markers needs the program jpegtran: install"):
        prepare(recipe(photographs, restart_markers=True), cache=tmp_path / "cache")


def test_small_pictures_have_no_use_for_them(photographs):
    with pytest.raises((FieldError, ValueError), match="needs stored: original"):
        recipe(photographs, stored="resized", restart_markers=True)


@installed
def test_images_that_are_made_smaller_get_them_too(photographs, tmp_path):
    data = prepare(recipe(photographs, restart_markers=True, max_side=100), cache=tmp_path / "cache")
    for _, sample in read_samples(data.root, data.manifest, "train"):
        content = bytes(sample["image"])
        with Image.open(io.BytesIO(content)) as image:
            assert max(image.size) <= 100
            assert image.format == "PNG" or read_jpeg_header(content).restarts
