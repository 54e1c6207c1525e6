"""The keys of ``data.train`` and ``data.eval`` in a file: defaults, ranges, identity, sizes."""

import pytest
from pydantic import ValidationError

from expflow.config import load
from expflow.config.identity import config_id, dump, recipe_from_identity, recorded_tree
from expflow.data.augment import seen_by_model
from expflow.data.augment.sizes import image_sizes
from expflow.data.augment.specs import AugmentedSourceSpec, PhotographSourceSpec
from expflow.data.dataspec import DataSpec, FieldSpec
from expflow.data.prepare.prepared import data_key
from expflow.errors import ExperimentInvalid, UserError

BASE = "data: {name: digits%s}\nmodel: mlp\ntask: classification\noptimizer: {name: sgd, lr: 0.1}\n"


def recipe(tmp_path, keys=""):
    path = tmp_path / "experiment.yaml"
    path.write_text(BASE % keys)
    loaded = load(path)
    loaded.check()
    return loaded.experiment.recipe


def test_what_is_not_asked_for_changes_no_id(tmp_path):
    plain = recipe(tmp_path)
    written = recipe(tmp_path, ", train: {flip: 0.0, mixup: 0}, eval: {}, image_size: null")
    assert config_id(plain) == config_id(written)
    assert config_id(plain) != config_id(recipe(tmp_path, ", train: {flip: 0.5}"))


@pytest.mark.parametrize("keys", [", train: {random_resized_crop: {}}", ", eval: {center_crop: 6}", ", image_size: 16"])
def test_shards_do_not_depend_on_transforms(tmp_path, keys):
    changed = recipe(tmp_path, keys)
    assert config_id(changed) != config_id(recipe(tmp_path))
    assert data_key(changed.data) == data_key(recipe(tmp_path).data)


def test_what_is_recorded_reads_back(tmp_path):
    keys = ", train: {random_resized_crop: {scale: [0.5, 1]}, rand_augment: {}, flip: 0.5}, eval: {resize: 9}"
    first = recipe(tmp_path, keys)
    assert recipe_from_identity(recorded_tree(first))["data"] == dump(first.data)
    assert config_id(recipe(tmp_path, keys)) == config_id(first)


@pytest.mark.parametrize(
    ("keys", "place", "problem"),
    [
        ("train: {flip: 1.5}", "data.train.flip", "at most 1"),
        ("train: {flipp: 0.5}", "data.train.flipp", "nearest valid key: flip"),
        ("train: {random_resized_crop: {scale: [1, 0.1]}}", "data.train.random_resized_crop.scale", "smaller number"),
        ("train: {random_resized_crop: {scale: [0, 1]}}", "data.train.random_resized_crop.scale.0", "more than 0"),
        ("train: {random_resized_crop: true}", "data.train.random_resized_crop", "a mapping"),
        ("train: {rand_augment: {magnitude: 31}}", "data.train.rand_augment.magnitude", "at most 30"),
        ("train: {color_jitter: {hue: 0.6}}", "data.train.color_jitter.hue", "at most 0.5"),
        ("train: {pad_and_crop: -1}", "data.train.pad_and_crop", "at least 0"),
        ("train: {mixup: -0.1}", "data.train.mixup", "at least 0"),
        ("eval: {resize: 4, center_crop: 8}", "data.eval.center_crop", "larger than the image"),
        ("image_size: 0", "data.image_size", "at least 1"),
    ],
)
def test_what_is_wrong_is_said_at_its_place(tmp_path, keys, place, problem):
    with pytest.raises(ExperimentInvalid) as raised:
        recipe(tmp_path, f", {keys}")
    assert place in str(raised.value)
    assert problem in str(raised.value)


def test_they_can_be_searched(tmp_path):
    path = tmp_path / "experiment.yaml"
    sweep = "sweep:\n  space: {data.train.flip: [0, 0.5], data.train.rand_augment.magnitude: [3, 9]}\n"
    path.write_text(BASE % ", train: {rand_augment: {}}" + sweep)
    loaded = load(path)
    loaded.check()
    assert [parameter.key for parameter in loaded.experiment.sweep.space] == [
        "data.train.flip",
        "data.train.rand_augment.magnitude",
    ]


def spec(cls=AugmentedSourceSpec, **keys):
    return cls.model_validate({"name": "x", **keys})


@pytest.mark.parametrize(
    ("stored", "keys", "resize", "crop", "eval_", "train"),
    [
        ((8, 8), {}, None, None, (8, 8), (8, 8)),
        ((8, 6), {}, None, None, (8, 6), (8, 6)),
        ((32, 32), {"image_size": 32}, None, None, (32, 32), (32, 32)),
        ((32, 32), {"image_size": 16}, 16, None, (16, 16), (16, 16)),
        ((32, 48), {"image_size": 16}, 16, 16, (16, 16), (16, 16)),
        ((32, 48), {"eval": {"resize": 16}}, 16, None, (16, 24), (16, 24)),
        ((32, 32), {"eval": {"resize": 32, "center_crop": 28}}, None, 28, (28, 28), (28, 28)),
        (None, {"image_size": 224}, 256, 224, (224, 224), (224, 224)),
        (None, {"image_size": 160}, 183, 160, (160, 160), (160, 160)),
        (None, {"image_size": 64, "eval": {"resize": 64}}, 64, 64, (64, 64), (64, 64)),
        (None, {"image_size": 224, "train": {"random_resized_crop": {"size": 176}}}, 256, 224, (224, 224), (176, 176)),
        (
            None,
            {"image_size": 224, "train": {"random_resized_crop": {"size": 176, "probability": 0}}},
            256,
            224,
            (224, 224),
            (224, 224),
        ),
    ],
)
def test_sizes(stored, keys, resize, crop, eval_, train):
    sizes = image_sizes(stored, spec(**keys))
    assert (sizes.resize, sizes.crop, sizes.eval, sizes.train) == (resize, crop, eval_, train)


@pytest.mark.parametrize(
    ("stored", "keys", "problem"),
    [
        (None, {}, "data.image_size"),
        ((8, 8), {"eval": {"center_crop": 12, "resize": 12}, "image_size": 8}, None),
        ((8, 8), {"image_size": 12, "eval": {"resize": 10}}, "10 x 10"),
        (None, {"image_size": 8, "train": {"random_resized_crop": {"size": 6, "probability": 0.5}}}, "two sizes"),
    ],
)
def test_sizes_that_cannot_be(stored, keys, problem):
    if problem is None:
        assert image_sizes(stored, spec(**keys)).eval == (12, 12)
        return
    with pytest.raises(UserError, match=problem):
        image_sizes(stored, spec(**keys))


def test_photographs_have_the_usual_recipe():
    usual = spec(PhotographSourceSpec)
    assert usual.image_size == 224
    assert usual.train.flip == 0.5
    assert usual.train.random_resized_crop.scale == (0.08, 1.0)
    assert spec(PhotographSourceSpec, train={"rand_augment": {}}).train.random_resized_crop is not None


def test_the_model_sees_what_eval_gives():
    data = DataSpec({"image": FieldSpec((3, 0, 0), "uint8", varies=True), "label": FieldSpec((), "int64")}, ("a",))
    assert seen_by_model(data, spec(PhotographSourceSpec)).image_shape == (3, 224, 224)
    assert seen_by_model(data, spec(PhotographSourceSpec, eval={"center_crop": 192})).image_shape == (3, 192, 192)
    assert seen_by_model(data, None) is data


def test_an_own_datas_spec_is_left_alone():
    with pytest.raises(ValidationError):
        spec(augment=True)
