"""Samples on their way to the model: beside the plain path, and the same whichever way they go."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import v2

from expflow.data.augment import pipeline_for, sample_random
from expflow.data.augment.geometry import random_crop_view
from expflow.data.augment.specs import AugmentedSourceSpec, PhotographSourceSpec, RandomResizedCrop
from expflow.data.dataspec import DataSpec, FieldSpec
from expflow.data.decode import Undecodable
from expflow.data.decode.pillow_decoder import decode_with_pillow
from expflow.errors import UserError
from tests.data.photographs import jpeg, noise, photograph, saved

EVERYTHING = {
    "random_resized_crop": {},
    "pad_and_crop": 3,
    "flip": 0.5,
    "rand_augment": {},
    "color_jitter": {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1},
    "random_erasing": 0.5,
}


def stored(height=0, width=0, channels=3):
    image = FieldSpec((channels, height, width), "uint8", varies=not height)
    return DataSpec({"image": image, "label": FieldSpec((), "int64")}, ("a", "b"), mean=(0.5,) * channels)


def made(transform=None, data=None, *, training=True, seed=0, extension="jpg", **options):
    fields = {"image": extension, "label": "cls"}
    return pipeline_for(fields, data or stored(), transform, training=training, seed=seed, **options)


def transform(cls=AugmentedSourceSpec, **keys):
    return cls.model_validate({"name": "x", **keys})


def run(pipeline, content, epoch=0, id=0, label=b"1", last=True):
    out = {name: np.zeros(shape, dtype) for name, (shape, dtype) in pipeline.shapes.items()}
    if last:
        channels, height, width = pipeline.shapes["image"][0]
        out["image"] = np.zeros((height, width, channels), np.uint8).transpose(2, 0, 1)
    pipeline.sample({"image": memoryview(content), "label": memoryview(label)}, epoch, id, out)
    return out


def plain_path(content, box, out):
    """Full decode, crop, antialiased resize, as torchvision documents it."""
    pixels = torch.from_numpy(decode_with_pillow(content, 3).copy()).permute(2, 0, 1)
    return v2.functional.resized_crop(pixels, box.top, box.left, box.height, box.width, list(out)).numpy()


@pytest.mark.parametrize("kind", ["4:2:0", "every 2 units", "progressive"])
@pytest.mark.parametrize("last", [True, False], ids=["channels last", "channels first"])
def test_crops_of_photographs_equal_the_plain_path(kind, last):
    content, spec = jpeg(kind, number=1, size=(500, 334)), transform(PhotographSourceSpec, train={"flip": 0})
    pipeline = made(spec)
    for id in range(12):
        box = random_crop_view(
            (334, 500), (224, 224), spec.train.random_resized_crop, sample_random.sample_key(0, 0, id)
        ).box
        assert np.array_equal(run(pipeline, content, id=id, last=last)["image"], plain_path(content, box, (224, 224)))


@pytest.mark.parametrize(("number", "size"), [(0, 56), (1, 56), (0, 28), (1, 28), (0, 14), (1, 14)])
def test_reduced_crops_of_photographs_are_close_to_the_plain_path(number, size):
    """Mean difference at most 2.5 of 255, and at most 16 in 99.9 % of the values."""
    content = jpeg(number=number, size=(500, 334))
    spec = transform(image_size=size, train={"random_resized_crop": {"scale": [0.6, 1]}})
    pipeline, differences = made(spec), []
    for id in range(20):
        box = random_crop_view(
            (334, 500), (size, size), spec.train.random_resized_crop, sample_random.sample_key(0, 0, id)
        ).box
        image = run(pipeline, content, id=id)["image"].astype(int)
        differences.append(np.abs(image - plain_path(content, box, (size, size))).ravel())
    all_of_them = np.concatenate(differences)
    assert all_of_them.any()  # it did go the other way
    assert all_of_them.mean() < 2.5
    assert np.percentile(all_of_them, 99.9) <= 16


def test_eval_is_torchvisions_resize_and_centre_crop():
    content = jpeg(size=(500, 334))
    pixels = torch.from_numpy(decode_with_pillow(content, 3).copy()).permute(2, 0, 1)
    wanted = v2.functional.center_crop(v2.functional.resize(pixels, [256], antialias=True), [224, 224])
    assert np.array_equal(run(made(transform(PhotographSourceSpec), training=False), content)["image"], wanted.numpy())


def test_without_a_transform_samples_are_what_is_stored():
    image = noise(8, 8)
    pipeline = made(None, stored(8, 8), extension="png")
    sample = run(pipeline, saved(photograph(size=(8, 8)), "PNG"), label=b"7")
    assert not pipeline.changes
    assert np.array_equal(sample["image"].transpose(1, 2, 0), np.asarray(photograph(size=(8, 8))))
    assert sample["label"] == 7
    arrays = {"image": image.transpose(2, 0, 1)[None], "label": np.asarray([3])}
    assert pipeline.batch(arrays, 0, np.asarray([0]))["image"] is arrays["image"]


@settings(max_examples=30, deadline=None)
@given(
    st.fixed_dictionaries({}, optional={key: st.just(value) for key, value in EVERYTHING.items()}),
    st.sampled_from([1, 3]),
    st.integers(0, 5),
)
def test_a_batch_from_memory_is_what_its_samples_are_from_shards(keys, channels, epoch):
    images = [noise(12, 10, channels, seed=seed) for seed in range(6)]
    pipeline = made(transform(train=keys), stored(12, 10, channels), extension="png", seed=3)
    ids = np.asarray([5, 900, 2, 77, 2**33, 1])
    arrays = {"image": np.stack([image.transpose(2, 0, 1) for image in images]), "label": np.arange(6)}
    together = pipeline.batch(arrays, epoch, ids)
    for slot, id in enumerate(ids.tolist()):
        content = saved(Image.fromarray(images[slot].squeeze()), "PNG")
        alone = run(pipeline, content, epoch, id, label=str(slot).encode())
        for name in ("image", "label"):
            assert np.array_equal(alone[name], together[name][slot]), name


def test_what_is_random_depends_on_seed_epoch_and_sample():
    spec, content = transform(PhotographSourceSpec, image_size=32), jpeg()
    first = run(made(spec), content, 0, 0)["image"]
    assert np.array_equal(first, run(made(spec), content, 0, 0)["image"])
    for other in (
        run(made(spec), content, 1, 0),
        run(made(spec), content, 0, 1),
        run(made(spec, seed=1), content, 0, 0),
    ):
        assert not np.array_equal(first, other["image"])


def test_evaluation_changes_nothing_by_chance():
    pipeline = made(transform(PhotographSourceSpec, image_size=32, train=EVERYTHING), training=False)
    assert np.array_equal(run(pipeline, jpeg(), 0, 0)["image"], run(pipeline, jpeg(), 9, 9)["image"])


def test_half_of_the_samples_are_mirrored():
    image = noise(4, 6)
    pipeline = made(transform(train={"flip": 0.5}), stored(4, 6), extension="png")
    images = np.repeat(image.transpose(2, 0, 1)[None], 2000, 0)
    outcomes = pipeline.batch({"image": images}, 0, np.arange(2000))["image"]
    mirrored = (outcomes == images[..., ::-1]).all((1, 2, 3))
    assert 900 < mirrored.sum() < 1100
    assert ((outcomes == images).all((1, 2, 3)) != mirrored).all()


def test_random_crops_have_the_areas_and_shapes_that_are_asked_for():
    spec = RandomResizedCrop(scale=(0.1, 0.35), ratio=(0.5, 2.0))
    boxes = [
        random_crop_view((300, 400), (10_000, 10_000), spec, sample_random.sample_key(0, 0, id)).box
        for id in range(3000)
    ]
    areas = np.asarray([box.height * box.width / 120_000 for box in boxes])
    ratios = np.asarray([box.width / box.height for box in boxes])
    assert areas.min() > 0.09
    assert areas.max() < 0.36
    assert abs(areas.mean() - 0.225) < 0.02
    assert abs(np.log(ratios).mean()) < 0.05
    assert all(box.top >= 0 and box.top + box.height <= 300 and box.left + box.width <= 400 for box in boxes)


@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (3, 2)])
def test_crops_of_strange_images_stay_inside(size):
    for id in range(50):
        box = random_crop_view(size, (8, 8), RandomResizedCrop(), sample_random.sample_key(0, 0, id)).box
        assert box.height >= 1
        assert box.width >= 1
        assert 0 <= box.top <= size[0] - box.height
        assert 0 <= box.left <= size[1] - box.width


def test_images_of_another_size_than_stored_are_refused():
    with pytest.raises(Undecodable, match="expected 8 x 8 pixels, found 6 x 4"):
        run(made(None, stored(8, 8), extension="png"), saved(photograph(size=(6, 4)), "PNG"))


def test_a_label_that_is_none_is_refused():
    with pytest.raises(ValueError, match="invalid literal"):
        run(made(None, stored(8, 8), extension="png"), saved(photograph(size=(8, 8)), "PNG"), label=b"cat")


def test_images_that_differ_in_size_need_one():
    with pytest.raises(UserError, match=r"data\.image_size"):
        made(None)
