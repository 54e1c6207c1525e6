import numpy as np
import pytest
from PIL import Image

from expflow.data.prepare.build import prepare
from expflow.data.sources.base import BadSample
from expflow.data.sources.folder import read_image
from expflow.data.specs import DigitsSpec, FolderSpec
from expflow.data.streaming.loader import Loader, LoaderConfig
from expflow.errors import DataInvalid

RED = (255, 0, 0)


def odd_images():
    palette = Image.new("RGB", (9, 6), RED).quantize(4)
    transparent = palette.copy()
    transparent.info["transparency"] = bytes([255, 128, 0, 0])
    turned = Image.new("RGB", (6, 9), RED)
    exif = Image.Exif()
    exif[0x0112] = 6
    grey16 = Image.fromarray(np.full((6, 9), 200 * 256, dtype=np.uint16))
    return {
        "rgb.png": (Image.new("RGB", (9, 6), RED), {}),
        "rgb.jpg": (Image.new("RGB", (9, 6), RED), {}),
        "grey.png": (Image.new("L", (9, 6), 200), {}),
        "grey.jpeg": (Image.new("L", (9, 6), 200), {}),
        "grey16.png": (grey16, {}),
        "bit.png": (Image.new("1", (9, 6), 1), {}),
        "cmyk.jpg": (Image.new("RGB", (9, 6), RED).convert("CMYK"), {}),
        "palette.png": (palette, {}),
        "transparent.png": (transparent, {"transparency": transparent.info["transparency"]}),
        "alpha.png": (Image.new("RGBA", (9, 6), (*RED, 10)), {}),
        "greyalpha.png": (Image.new("LA", (9, 6), (200, 10)), {}),
        "turned.jpg": (turned, {"exif": exif}),
        "UPPER.PNG": (Image.new("RGB", (9, 6), RED), {"format": "PNG"}),
        "animated.gif": (palette, {"save_all": True, "append_images": [palette]}),
        "tiny.webp": (Image.new("RGB", (1, 1), RED), {"lossless": True}),
    }


@pytest.mark.parametrize("name", list(odd_images()))
@pytest.mark.parametrize("channels", [1, 3])
def test_every_kind_of_image_becomes_eight_bits(name, channels, tmp_path):
    image, options = odd_images()[name]
    image.save(tmp_path / name, **options)
    pixels = read_image(tmp_path / name, 4, channels)
    assert pixels.shape == (4, 4, channels)
    assert pixels.dtype == np.uint8
    grey = "grey" in name
    color = [200] * 3 if grey else [255] * 3 if name == "bit.png" else RED
    expected = color if channels == 3 else [200 if grey else 255 if name == "bit.png" else 76]
    assert np.abs(pixels.astype(int) - np.array(expected)).max() <= 2


def test_shorter_side_is_resized_and_the_middle_kept(tmp_path):
    stripes = np.zeros((20, 60, 3), dtype=np.uint8)
    stripes[:, 20:40] = 255
    Image.fromarray(stripes).save(tmp_path / "stripes.png")
    assert read_image(tmp_path / "stripes.png", 10, 3).min() > 200


def test_all_bad_images_are_named_and_nothing_is_built(images, tmp_path):
    path = images({"cat": 10, "dog": 10})
    good = (path / "cat" / "1.png").read_bytes()
    (path / "cat" / "text.png").write_text("no image")
    (path / "cat" / "short.png").write_bytes(good[: len(good) // 2])
    (path / "dog" / "empty.jpg").write_bytes(b"")
    (path / "dog" / "photo.heic").write_text("not one that is read here")
    (path / "dog" / "script.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n")
    Image.fromarray(np.zeros((3, 3), dtype=np.float32)).save(path / "dog" / "float.tiff")
    (path / "dog" / "link.png").symlink_to(tmp_path / "nowhere.png")
    (path / "dog" / ".hidden").write_text("passed over")
    (path / "dog" / "Thumbs.db").write_text("passed over")
    cache = tmp_path / "cache"
    with pytest.raises(DataInvalid, match=r"7 of 27 images in .* nothing was built") as raised:
        prepare(FolderSpec(name="folder", path=path), cache=cache)
    for name in (
        "cat/text.png",
        "cat/short.png",
        "dog/empty.jpg",
        "dog/photo.heic",
        "dog/script.png",
        "dog/float.tiff",
        "dog/link.png",
    ):
        assert f"  {name}: " in str(raised.value)
    assert not [path for path in cache.iterdir() if not path.name.startswith(".")]


def test_a_long_list_of_bad_images_is_cut(images, tmp_path):
    path = images({"cat": 10, "dog": 10})
    for number in range(30):
        (path / "cat" / f"bad{number}.png").write_bytes(b"")
    with pytest.raises(DataInvalid, match="and 10 more") as raised:
        prepare(FolderSpec(name="folder", path=path), cache=tmp_path / "cache")
    assert str(raised.value).count("cat/bad") == 20


def test_folders_for_train_val_and_test(images, tmp_path):
    path = images({"train/a": 4, "train/b": 4, "val/a": 2, "val/b": 1, "test/b": 3, "test/b/deeper": 1})
    prepared = prepare(FolderSpec(name="folder", path=path, image_size=5), cache=tmp_path / "cache")
    assert prepared.spec.samples == {"train": 8, "val": 3, "test": 4}
    assert prepared.spec.classes == ("a", "b")
    (batch,) = Loader(LoaderConfig(prepared.root, "test", batch_size=8, seed=0, shuffle=False))
    assert batch["label"].tolist() == [1, 1, 1, 1]
    assert batch["image"].shape == (4, 3, 5, 5)


def test_what_has_no_folder_is_drawn_from_train(images, tmp_path):
    path = images({"train/a": 20, "train/b": 20, "test/a": 3, "test/b": 3})
    prepared = prepare(FolderSpec(name="folder", path=path), cache=tmp_path / "cache")
    assert prepared.spec.samples == {"train": 36, "val": 4, "test": 6}
    everything = FolderSpec(name="folder", path=path, val_fraction=0)
    assert prepare(everything, cache=tmp_path / "cache").spec.samples == {"train": 40, "test": 6}


def test_keys_lead_back_to_the_files(images, tmp_path):
    from tests.data.shards.contents import shard_samples

    path = images({"a cat.v2": 10, "dög": 10})
    prepared = prepare(FolderSpec(name="folder", path=path), cache=tmp_path / "cache")
    shard = prepared.manifest.splits["val"][0]
    keys = [key for key, _ in shard_samples(prepared.root, shard, prepared.manifest.fields)]
    assert [key[:9] for key in keys] == ["00000000-", "00000001-"]
    assert any("a_cat_v2_" in key for key in keys)


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"": 3}, "no folders in it; each class needs a folder"),
        ({"cat": 3, "dog": 0}, "dog: a class without images"),
        ({"train/cat": 3, "valid/cat": 3}, "beside train/ only val/ and test/ are read, not valid"),
        ({"train/cat": 3, "val/cow": 3}, "no such class in train: val/cow; known: cat"),
        ({"cat": 2, "dog": 2}, "4 images leave none for val and test"),
    ],
)
def test_folders_that_make_no_sense(images, tmp_path, counts, message):
    with pytest.raises(DataInvalid, match=message):
        prepare(FolderSpec(name="folder", path=images(counts)), cache=tmp_path / "cache")


def test_unreadable_image_says_why(tmp_path):
    with pytest.raises(BadSample, match="no image format that is read here"):
        read_image(tmp_path / "a.heic", 4, 3)


def test_fractions_leave_something_for_training():
    with pytest.raises(ValueError, match="must leave images for training"):
        DigitsSpec(name="digits", val_fraction=0.5, test_fraction=0.5)
