"""What every task that has a name must do, whoever wrote it."""

import warnings
from dataclasses import replace

import pytest
import torch
from pytorch_lightning import LightningModule, Trainer
from torch.utils.data import DataLoader

from expflow.architectures import build
from expflow.config.schema import Recipe
from expflow.config.schema import Trainer as TrainerSection
from expflow.data.dataspec import VOID, DataSpec, FieldSpec
from expflow.data.keypoint_layout import KeypointLayout
from expflow.data.sources.base import image_fields, with_boxes
from expflow.errors import UserError
from expflow.metrics import METRICS, metric_of
from expflow.registry import SLOTS, TASKS, load_dotted
from expflow.tasks import BUILT_SLOTS, build_task
from expflow.tasks.layer_features import LayerFeatures, LayerFeatureTask
from expflow.training import Attempt, World, run_trial
from expflow.training.manual_steps import StepCounter

CLASSES, BATCH = 7, 4
IMAGES = DataSpec({"image": FieldSpec((1, 4, 4), "uint8")}, tuple("abcdefg"), mean=(0.5,), std=(0.25,))


def labelled_images():
    """One batch of images with labels; its last sample is padding."""
    generator = torch.Generator().manual_seed(0)
    return {
        "image": torch.randint(0, 256, (BATCH, *IMAGES.image_shape), generator=generator, dtype=torch.uint8),
        "label": torch.randint(0, CLASSES, (BATCH,), generator=generator),
        "valid": torch.arange(BATCH) < BATCH - 1,
    }


SCENES = DataSpec(
    {"image": FieldSpec((1, 4, 4), "uint8"), "mask": FieldSpec((4, 4), "uint8", kind="mask")},
    ("background", "object"),
    mean=(0.5,),
    std=(0.25,),
)


def masked_images():
    """One batch of images with masks, some of whose pixels are void; its last sample is padding."""
    batch = labelled_images()
    generator = torch.Generator().manual_seed(1)
    mask = torch.tensor([0, 1, VOID], dtype=torch.uint8)[torch.randint(0, 3, (BATCH, 4, 4), generator=generator)]
    return {"image": batch["image"], "mask": mask, "valid": batch["valid"]}


PLACES = DataSpec(with_boxes(image_fields(1, 32, 32), 3)["shapes"], ("round", "square"), mean=(0.5,), std=(0.25,))


def boxed_images():
    """One batch of images with a small, a medium and a large object, or none; its last sample is padding."""
    generator = torch.Generator().manual_seed(2)
    boxes = torch.tensor([[1.0, 1, 6, 6], [8, 8, 18, 20], [2, 3, 30, 31]]).repeat(BATCH, 1, 1)
    labels = torch.tensor([[0, 1, 1], [1, 0, -1], [-1, -1, -1], [0, 0, 0]])
    boxes[labels < 0] = 0
    return {
        "image": torch.randint(0, 256, (BATCH, 1, 32, 32), generator=generator, dtype=torch.uint8),
        "boxes": boxes,
        "box_label": labels,
        "box_area": (boxes[..., 2:] - boxes[..., :2]).prod(-1),
        "box_scale": torch.ones(BATCH),
        "valid": torch.arange(BATCH) < BATCH - 1,
    }


def filled_boxes(batch):
    """Which object each pixel is of: boxes filled in their order, so that later ones lie above."""
    instances = torch.zeros((BATCH, 32, 32), dtype=torch.int32)
    for image, (boxes, labels) in enumerate(zip(batch["boxes"].int(), batch["box_label"], strict=True)):
        for number, ((left, top, right, bottom), label) in enumerate(zip(boxes.tolist(), labels, strict=True)):
            if label >= 0:
                instances[image, top:bottom, left:right] = number + 1
    return instances


def ends_of_boxes(batch):
    """Two points of each object: where its box begins, seen, and where it ends, hidden."""
    boxes = batch["boxes"]
    seen = (batch["box_label"] >= 0)[..., None].float()
    first, last = torch.cat([boxes[..., :2], 2 * seen], -1), torch.cat([boxes[..., 2:] - 1, seen], -1)
    return torch.stack([first, last], 2)


MEASURED = DataSpec(
    {
        "image": FieldSpec((1, 4, 4), "uint8"),
        "label": FieldSpec((), "int64"),
        "labels": FieldSpec((CLASSES,), "uint8", kind="labels"),
        "target": FieldSpec((CLASSES,), "float32", kind="numbers"),
    },
    tuple("abcdefg"),
    mean=(0.5,),
    std=(0.25,),
)


def measured_images():
    """One batch of images with a class, several classes (some not known) and numbers; its last sample is padding."""
    generator = torch.Generator().manual_seed(2)
    answers = torch.tensor([0, 1, 1, VOID], dtype=torch.uint8)
    return {
        **labelled_images(),
        "labels": answers[torch.randint(0, 4, (BATCH, CLASSES), generator=generator)],
        "target": torch.randn(BATCH, CLASSES, generator=generator),
    }


WORDS = ("<pad>", "<start>", "<end>", "a", "b")
TEXTS = DataSpec(
    {
        "source": FieldSpec((5,), "int64", kind="text", vocabulary=WORDS),
        "target": FieldSpec((4,), "int64", kind="text", vocabulary=WORDS),
    }
)


def pairs_of_texts():
    """One batch of texts of different lengths; its last sample is padding."""
    return {
        "source": torch.tensor([[3, 4, 2, 0, 0], [4, 4, 3, 3, 2], [3, 2, 0, 0, 0], [4, 3, 4, 2, 0]]),
        "target": torch.tensor([[4, 3, 2, 0], [3, 4, 4, 2], [3, 2, 0, 0], [4, 4, 2, 0]]),
        "valid": torch.arange(BATCH) < BATCH - 1,
    }


CAPTIONED = DataSpec(
    {
        "image": FieldSpec((1, 4, 4), "uint8"),
        "label": FieldSpec((), "int64"),
        "text": FieldSpec((5,), "int64", kind="text", vocabulary=WORDS),
    },
    tuple("abcdefg"),
    mean=(0.5,),
    std=(0.25,),
)


def captioned_images():
    """One batch of images with texts, two of which are the same; its last sample is padding."""
    return {
        **labelled_images(),
        "text": torch.tensor([[3, 4, 2, 0, 0], [4, 4, 3, 3, 2], [3, 4, 2, 0, 0], [4, 3, 4, 2, 0]]),
    }


PALETTED = DataSpec(
    {"image": FieldSpec((1, 4, 4), "uint8", palette=((0,), (90,), (255,)))}, tuple("abcdefg"), mean=(0.5,), std=(0.25,)
)


def numbered_images():
    """As :func:`labelled_images`, with the numbers of the samples."""
    return {**labelled_images(), "index": torch.arange(BATCH)}


CENTRES = DataSpec({"image": FieldSpec((1, 8, 8), "uint8")}, mean=(0.5,), std=(0.25,))
PAIRED = DataSpec(
    {"image": FieldSpec((3, 16, 16), "uint8"), "mask": FieldSpec((16, 16), "uint8", kind="mask")},
    ("background", "object"),
    mean=(0.5,) * 3,
    std=(0.25,) * 3,
)


def images_of(data_spec):
    """What makes one batch of images with masks; its last sample is padding."""

    def make():
        generator = torch.Generator().manual_seed(3)
        shape = (BATCH, *data_spec.image_shape)
        return {
            "image": torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8),
            "mask": torch.randint(0, 2, (BATCH, *data_spec.image_size), generator=generator, dtype=torch.uint8),
            "valid": torch.arange(BATCH) < BATCH - 1,
        }

    return make


CENTRE_JUDGE = {"name": "dcgan_discriminator", "sees": "centre"}


def players(generator, discriminator):
    """Slots of a task with two networks."""
    return {"model": {"generator": generator, "discriminator": discriminator}, "optimizer": "sgd"}


NUMBERED = DataSpec({**IMAGES.fields, "image": FieldSpec((1, 8, 8), "uint8")}, IMAGES.classes, mean=(0.5,), std=(0.25,))


def two_sided_images():
    """One batch of images with labels and their numbers, some of either side of a search; its last one is padding."""
    generator, count = torch.Generator().manual_seed(3), 12
    return {
        "image": torch.randint(0, 256, (count, 1, 8, 8), generator=generator, dtype=torch.uint8),
        "label": torch.randint(0, CLASSES, (count,), generator=generator),
        "index": torch.arange(count),
        "valid": torch.arange(count) < count - 1,
    }


JUDGE = {"name": "patch_discriminator", "sees": "image", "norm": "instance"}
CYCLE = {
    "model": {
        "to_image": "resnet_generator",
        "to_condition": "resnet_generator",
        "image_judge": JUDGE,
        "condition_judge": JUDGE,
    },
    "optimizer": "sgd",
}
TRAINED = {
    # name -> what its recipe needs beside its defaults, the data, and a batch of them
    "classification": ({"model": "linear", "optimizer": "sgd"}, IMAGES, labelled_images),
    "one_shot": ({"model": "supernet", "optimizer": "sgd"}, NUMBERED, two_sided_images),
    "segmentation": ({"model": "unet", "optimizer": "sgd"}, SCENES, masked_images),
    "detection": ({"model": "retinanet", "optimizer": "sgd"}, PLACES, boxed_images),
    "multilabel": ({"model": "linear", "optimizer": "sgd"}, MEASURED, measured_images),
    "regression": ({"model": "linear", "optimizer": "sgd"}, MEASURED, measured_images),
    "autoencoder": ({"model": "autoencoder", "optimizer": "sgd"}, IMAGES, labelled_images),
    "diffusion": ({"model": "ddpm_unet", "optimizer": "sgd"}, IMAGES, labelled_images),
    "super_resolution": ({"model": "srcnn", "optimizer": "sgd"}, IMAGES, labelled_images),
    "anomaly": ({"model": "autoencoder", "optimizer": "sgd"}, MEASURED, measured_images),
    "mae": ({"model": "mae", "optimizer": "sgd"}, MEASURED, measured_images),
    "seq2seq": ({"model": "transformer", "optimizer": "sgd"}, TEXTS, pairs_of_texts),
    "clip": ({"model": "clip", "optimizer": "sgd"}, CAPTIONED, captioned_images),
    "igpt": ({"model": "igpt", "optimizer": "sgd"}, PALETTED, labelled_images),
    "multitask": ({"model": "multi_head", "optimizer": "sgd"}, MEASURED, measured_images),
    "gan": (players("dcgan_generator", "dcgan_discriminator"), IMAGES, numbered_images),
    "pix2pix": (players("pix2pix_generator", "patch_discriminator"), PAIRED, images_of(PAIRED)),
    "cyclegan": (CYCLE, PAIRED, images_of(PAIRED)),
    "context_encoder": (players("context_encoder", CENTRE_JUDGE), CENTRES, images_of(CENTRES)),
}
MORE = {
    # the task's name and what is learned besides -> the same, and the metrics that come with it
    "detection of masks": (
        {"model": "mask_rcnn", "optimizer": "sgd"},
        replace(PLACES, fields=with_boxes(image_fields(1, 32, 32), 3, instances=True)["shapes"]),
        lambda: {**boxed_images(), "instances": filled_boxes(boxed_images())},
        {"mask_ap", "mask_ap50", "mask_ap75"},
    ),
    "detection of keypoints": (
        {"model": "keypoint_rcnn", "optimizer": "sgd"},
        replace(PLACES, fields=with_boxes(image_fields(1, 32, 32), 3, points=KeypointLayout(("top", "end")))["shapes"]),
        lambda: {**boxed_images(), "keypoints": ends_of_boxes(boxed_images())},
        {"keypoint_ap", "keypoint_ap50", "keypoint_ap75", "keypoint_ar"},
    ),
}
TRAINED |= {case: (needs, data_spec, batch) for case, (needs, data_spec, batch, _) in MORE.items()}
LOOKING = DataSpec({**CENTRES.fields, "label": FieldSpec((), "int64")}, IMAGES.classes, mean=(0.5,), std=(0.25,))


def classified_images():
    """One batch of images with labels; its last sample is padding."""
    return {**images_of(LOOKING)(), "label": torch.tensor([0, 1, 2, 5])}


TRAINED |= {
    "style_transfer": ({"optimizer": "sgd"}, LOOKING, classified_images),
    "fast_style_transfer": ({"model": "resnet_generator", "optimizer": "sgd"}, LOOKING, classified_images),
    "deep_dream": ({"optimizer": "sgd"}, LOOKING, classified_images),
}
PYRAMID = {"backbone": "resnet", "layout": (1, 1, 1), "width": 2, "norm": "layer", "head_width": 4}
REGIONS = {"hidden": 4, "proposals": 20}
SMALL = {
    # networks: norms over a batch would let padding have a part in gradients
    "autoencoder": {
        "backbone": "resnet",
        "depth": 8,
        "width": 2,
        "norm": "layer",
        "code": 3,
        "decoder_width": 2,
        "decoder_norm": "layer",
    },
    "multi_head": {"backbone": "linear"},
    "supernet": {"nodes": 2, "operations": ("max_pool_3x3", "conv_3x3"), "cells": 3, "width": 4},
    "mae": {
        "patch": 2,
        "depth": 1,
        "width": 4,
        "heads": 2,
        "decoder_width": 4,
        "decoder_depth": 1,
        "decoder_heads": 1,
    },
    "transformer": {"width": 4, "depth": 1, "heads": 2, "hidden": 4, "dropout": 0.0},
    "igpt": {"depth": 1, "width": 4, "heads": 2},
    "clip": {
        "backbone": "vit",
        "patch": 2,
        "depth": 1,
        "width": 4,
        "heads": 2,
        "embedding": 3,
        "text_width": 4,
        "text_depth": 1,
        "text_heads": 2,
    },
    "ddpm_unet": {"width": 4, "factors": (1, 2), "blocks": 1, "dropout": 0.0},
    "dcgan_generator": {"latent": 3, "width": 2, "norm": "none"},
    "dcgan_discriminator": {"width": 2, "norm": "none"},
    "pix2pix_generator": {"width": 2, "norm": "none", "dropout": 0.0},
    "patch_discriminator": {"width": 2, "norm": "none", "layers": 1, "sees": "pair"},
    "resnet_generator": {"width": 2, "blocks": 1},
    "context_encoder": {"width": 2, "bottleneck": 3, "norm": "none"},
    "unet": {"width": 2, "depth": 1},
    "retinanet": {**PYRAMID, "smallest_stride": 2},
    "mask_rcnn": {**PYRAMID, **REGIONS, "mask_width": 4},
    "keypoint_rcnn": {**PYRAMID, **REGIONS, "keypoint_width": 4, "keypoint_layers": 1},
}
STYLE_KEYS = {"features": "net/best", "style": "a", "content_layer": "layer1", "style_layers": ("stem", "layer1")}
TASK_KEYS = {
    "style_transfer": {**STYLE_KEYS, "images": 2},
    "fast_style_transfer": STYLE_KEYS,
    "deep_dream": {"features": "net/best", "of": "layer1", "images": 2},
    "detection": {"areas": (36.0, 200.0)},
    "diffusion": {"timesteps": 20, "sampling_steps": 3},
    "pix2pix": {"condition": "mask"},
    "anomaly": {"left_out": "b"},
    "replayed": {"table": "table.json.gz"},
    "cyclegan": {"condition": "mask"},
}
REGION_LOSSES = {"loss", "loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg"}
ONLY_TRAINED = {
    "detection": {"loss", "classification", "bbox_regression"},
    "detection of masks": {*REGION_LOSSES, "loss_mask"},
    "detection of keypoints": {*REGION_LOSSES, "loss_keypoint"},
    "one_shot": {"loss", "top1", "skips", "entropy", "eigenvalue"},
}
"""Metrics of train alone: a detector gives losses in train mode, and boxes in eval mode."""
FITTED = {"bovw", "knn"}
"""Tasks that are fitted once, without steps (tests/training/test_bovw_trials.py, test_knn_trials.py)."""
WITHOUT_TORCH = {"scripted", "replayed"}
"""Tasks that build nothing: their runner alone knows what they do."""


def task_name(case):
    return case.partition(" ")[0]


def spec_of(case):
    name = task_name(case)
    return TASKS.spec(name)(name=name, **TASK_KEYS.get(name, {}))


def recipe_of(name, **changes):
    cls, needs = TASKS.spec(task_name(name)), TRAINED[name][0]
    chosen = {**cls.defaults, **needs, **changes}
    slots = {slot: filled(slot, components) for slot, components in chosen.items() if components}
    return Recipe(task=spec_of(name), **slots)


def filled(slot, components):
    """A slot's component, or its components by their names."""
    if isinstance(components, dict) and "name" in components:
        return SLOTS[slot].spec(components["name"])(**SMALL.get(components["name"], {}) | components)
    if isinstance(components, dict):
        return {part: filled(slot, component) for part, component in components.items()}
    return SLOTS[slot].spec(components)(name=components, **SMALL.get(components, {}))


def built(name):
    """The task, with the classifier and the pictures that it asks for."""
    task = build_task(recipe_of(name), TRAINED[name][1])
    if isinstance(task, LayerFeatureTask):
        with torch.random.fork_rng():
            classifier = build(filled("model", {"name": "resnet", "layout": "cifar", "depth": 8, "width": 2}), LOOKING)
        task.look_through(LayerFeatures(classifier, LOOKING, "net"))
        for picture, choice in task.picture_choices().items():
            generator = torch.Generator().manual_seed(4)
            shape = (choice.number, *LOOKING.image_shape)
            task.take_pictures(picture, torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8))
    return task


def trained(name):
    """The task after one training step and one validation, and the metrics that it logged."""
    return fitted(built(name), TRAINED[name][2]())


def fitted(task, batch):
    """The task after a step and a validation on one batch, and what it logged."""
    trainer = Trainer(
        max_epochs=1,
        callbacks=[] if task.automatic_optimization else [StepCounter(all_from_start=True)],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    batches = DataLoader([batch], batch_size=None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's advice about workers and devices
        trainer.fit(task, batches, batches)
    assert trainer.global_step == 1
    return task, dict(trainer.callback_metrics)


def test_every_task_has_a_case():
    assert {*map(task_name, TRAINED), *FITTED, *WITHOUT_TORCH} == set(TASKS.names())


@pytest.mark.parametrize("name", TASKS.names())
def test_its_declarations_lead_somewhere(name):
    cls = TASKS.spec(name)
    assert cls.slots <= SLOTS.keys()
    assert callable(load_dotted(cls.runner))
    assert bool(cls.build) == (name in {*TRAINED, *FITTED})
    for slot, component in cls.defaults.items():
        assert slot in cls.slots
        assert component in SLOTS[slot]


@pytest.mark.parametrize("name", TASKS.names())
def test_its_metrics_are_known_and_its_main_one_is_among_them(name):
    spec = spec_of(name)
    declared, main = spec.metrics, spec.main_metric
    assert declared
    assert set(declared) <= METRICS.keys()
    split, _, kind = main.partition("/")
    assert split == "val"
    assert kind in declared
    assert metric_of(main) is not None


@pytest.mark.parametrize("name", TRAINED)
def test_it_trains_a_step_and_reports_the_metrics_that_it_declares(name):
    task, logged = trained(name)
    assert isinstance(task, LightningModule)
    spec = spec_of(name)
    validated = {metric.removeprefix("val/") for metric in logged if metric.startswith("val/")}
    assert validated == {*spec.metrics, *(MORE[name][3] if name in MORE else ())}
    assert validated <= METRICS.keys()
    assert {metric.partition("/")[0] for metric in logged} == {"train", "val"}
    assert {metric.removeprefix("train/") for metric in logged if metric.startswith("train/")} <= (
        ONLY_TRAINED.get(name, validated)
    )
    assert all(value.isfinite() for value in logged.values())


def gradients(name, batch):
    """The gradient of one training step from the same weights; of optimizers that it moves, how far they moved."""
    torch.manual_seed(0)
    task = built(name)
    if not task.automatic_optimization:
        before = [parameter.detach().clone() for parameter in task.parameters()]
        after = fitted(task, batch)[0].parameters()
        moves = [moved.detach() - still for moved, still in zip(after, before, strict=True)]
        assert all(move.any() for move in moves)
        return moves
    loss = task.training_step(batch, 0)
    assert loss.ndim == 0
    loss.backward()
    return [parameter.grad for parameter in task.parameters()]


@pytest.mark.parametrize("name", TRAINED)
def test_every_weight_has_a_gradient_in_which_padding_has_no_part(name):
    batch, changed = TRAINED[name][2](), TRAINED[name][2]()
    for field, values in changed.items():
        if field != "valid":
            values[~changed["valid"]] = values[changed["valid"]][0]
    assert any(not torch.equal(batch[field], changed[field]) for field in batch)
    expected, actual = gradients(name, batch), gradients(name, changed)
    assert all(gradient is not None and gradient.isfinite().all() for gradient in expected)
    assert all(torch.allclose(first, second, atol=1e-6) for first, second in zip(expected, actual, strict=True))


@pytest.mark.parametrize("name", TRAINED)
def test_it_needs_the_slots_that_it_declares_and_takes_no_others(name):
    task, data_spec = task_name(name), TRAINED[name][1]
    cls = TASKS.spec(task)
    for slot in BUILT_SLOTS:
        if slot in cls.slots:
            with pytest.raises(UserError, match=f"task {task} needs {slot}"):
                build_task(recipe_of(name, **{slot: None}), data_spec)
        else:
            component = "linear" if slot == "model" else SLOTS[slot].names()[0]
            with pytest.raises(UserError, match=f"task {task} takes no {slot}"):
                build_task(recipe_of(name, **{slot: component}), data_spec)


@pytest.mark.parametrize("name", sorted(WITHOUT_TORCH - {"replayed"}))  # tests/training/test_replayed.py has a table
def test_a_task_without_torch_reports_the_metrics_that_it_declares(name):
    spec, reports = spec_of(name), []
    recipe = Recipe(task=spec, trainer=TrainerSection(epochs=2))
    run_trial(Attempt(recipe, 0), World(), lambda report: reports.append(report) or True)
    assert [set(report.metrics) for report in reports] == [{f"val/{metric}" for metric in spec.metrics}] * 2
