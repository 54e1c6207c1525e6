"""The first experiment on images of one's own: a commented YAML file that sweeps as it is (``expflow init``)."""

from __future__ import annotations

import math
import os
import re
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from expflow.config.loading import load
from expflow.config.yaml_writer import yaml_text
from expflow.data.sources.folder import open_folder
from expflow.data.sources.listing import ImageListing, list_images
from expflow.data.sources.mask_folder import values_of_masks
from expflow.data.sources.mask_listing import holds_masks, list_masked_images
from expflow.data.sources.pillow import FORMATS
from expflow.data.specs import FolderSpec
from expflow.errors import DataInvalid, UserError

SIZES = (8, 16, 28, 32, 48, 64)
"""Sizes of images that a first experiment is given: a laptop trains them in minutes."""

SAMPLED_IMAGES = 50
"""Images whose size and colours are looked at."""

STEPS = 600
"""Optimizer steps that a trial takes, about: more epochs where there are few images."""

MASKED_SIDE = 32
"""Least side that images with masks are given: smaller ones show no outlines."""

GREY_MODES = frozenset({"1", "L", "LA", "I", "I;16", "I;16B"})

TEXT = """\
# A first experiment: `expflow plan {file}` lists its trials and what they will take, `expflow sweep {file}` runs them.
# Every key has its place and its default in the reference of experiment files; all of them can be changed at any time,
# and the same command then runs only what is new.
about:
  question: "Which learning rate and depth suit these images?"

# Where the samples come from. {counted}
data:
{data}
# The network; `expflow models` lists all names, well-known ones such as resnet50 or vit_b_16 among them, and
# "my_net:MyNet" is the class MyNet in my_net.py beside this file.
model: {{name: resnet, layout: cifar, depth: 8, width: 16}}

task: classification
loss: cross_entropy
optimizer: {{name: sgd, lr: 0.1, momentum: 0.9, weight_decay: 5e-4}}
schedule: one_cycle
trainer: {{epochs: {epochs}}}

# What is searched: every combination of these values is trained, with each of the seeds. Five seeds tell differences of
# about two standard deviations from luck; two show whether everything works.
sweep:
  space:
    optimizer.lr: [0.03, 0.1]
    model.depth: [8, 14]
  seeds: 5
  searcher: grid
  metric: val/top1
"""

MASKS_TEXT = """\
# A first segmentation: `expflow plan {file}` lists its trials and what they will take, `expflow sweep {file}` runs
# them, `expflow data show {file}` draws images with their masks.
about:
  question: "Which learning rate suits these images?"

# Where the samples come from. {counted}
data:
{data}
# The network; "my_net:MyNet" is the class MyNet in my_net.py beside this file, which gives (b, classes, h, w).
model: {{name: unet, depth: 3, width: 16, norm: batch}}

task: segmentation
loss: cross_entropy
optimizer: {{name: adam, lr: 3e-3}}
schedule: one_cycle
trainer: {{epochs: {epochs}}}

# What is searched: every combination of these values is trained, with each of the seeds. Five seeds tell differences of
# about two standard deviations from luck; two show whether everything works.
sweep:
  space:
    optimizer.lr: [1e-3, 3e-3]
  seeds: 5
  searcher: grid
  metric: val/miou
"""

LEAST_MASKED = 3
"""Images with masks that can be split: one each for train, val and test."""


@dataclass(frozen=True)
class ImageFacts:
    """What a folder of images says about the experiment on them.

    Attributes:
        counted: How many images of which classes there are, in words.
        size: Height and width that the network is given.
        channels: 1 where every image is grey, else 3.
        share: Share of the images that becomes val, and likewise test, where they are not given.
        batch_size: Samples of one batch.
        epochs: Passes over the training set.
    """

    counted: str
    size: int
    channels: int
    share: float
    batch_size: int
    epochs: int


def write_starter(folder: Path | None, out: Path | None = None) -> Path:
    """Write a first experiment, and check that it can be run.

    Args:
        folder: A folder of images, with a folder for each class; None: scikit-learn's digits.
        out: The file; by default named by the folder, in the working folder.

    Returns:
        The file.

    Raises:
        UserError: There is no such folder, the file is there already, or it cannot be written.
        DataInvalid: The folder is none of classes with images, or too small to be split.
    """
    if folder is not None and not folder.is_dir():
        raise UserError(f"there is no folder {folder}; name one that holds a folder of images for each class")
    file = out or Path(f"{_stem(folder)}.yaml")
    if file.suffix not in (".yaml", ".yml"):
        raise UserError(f"--out {file}: an experiment's file ends in .yaml")
    if file.exists():
        raise UserError(f"{file} is there already and stays as it is; --out names another file")
    template, facts, lines = _chosen(folder, file.parent)
    lines += f"  batch_size: {facts.batch_size}\n"
    name = "".join(letter if letter.isprintable() else "_" for letter in file.name)
    text = template.format(file=name, counted=facts.counted, data=lines, epochs=facts.epochs)
    try:
        with file.open("x", encoding="utf-8") as handle:
            handle.write(text)
    except OSError as error:
        raise UserError(f"{file} cannot be written: {error.strerror or error}") from error
    load(file).check()
    return file


def _chosen(folder: Path | None, place: Path) -> tuple[str, ImageFacts, str]:
    """The file's text, what is known of the images, and the lines of ``data``. Raises DataInvalid."""
    if folder is None:
        facts = _facts_of(1300, "1,797 handwritten digits of 8x8 pixels, which come with scikit-learn.")
        return TEXT, facts, "  name: digits\n"
    if holds_masks(folder):
        return MASKS_TEXT, *_masked(folder, place)
    facts = _look_at(folder)
    return TEXT, facts, _folder_lines(facts, yaml_text({"path": _seen_from(folder, place)}).strip())


def _stem(folder: Path | None) -> str:
    if folder is None:
        return "digits"
    return re.sub(r"[^A-Za-z0-9._-]+", "_", folder.resolve().name).strip("._-") or "experiment"


def _seen_from(folder: Path, place: Path) -> str:
    """The folder relative to the experiment file where it lies near it, else its whole path."""
    relative = os.path.relpath(folder.resolve(), place.resolve())
    return relative if not relative.startswith(f"..{os.sep}..") else str(folder.resolve())


def _folder_lines(facts: ImageFacts, path: str) -> str:
    lines = [
        "  name: folder",
        f"  {path}  # a folder for each class, directly or inside of train/, val/ and test/",
        f"  image_size: {facts.size}  # height and width that the network sees",
    ]
    if facts.channels == 1:
        lines.append("  channels: 1  # grey")
    if facts.share != FolderSpec.model_fields["val_fraction"].default:
        lines.append(f"  val_fraction: {facts.share:g}  # so that every class has an image in it")
        lines.append(f"  test_fraction: {facts.share:g}")
    return "\n".join(lines) + "\n"


def _masked(folder: Path, place: Path) -> tuple[ImageFacts, str]:
    """Look at a folder of images with masks; also returns the lines of ``data``. Raises DataInvalid."""
    listing = list_masked_images(folder)
    own = listing.splits.get("", listing.splits.get("train", []))
    drawn = {"val", "test"} - listing.splits.keys()
    if drawn and len(own) < LEAST_MASKED:
        raise DataInvalid(
            f"{folder}: {len(own)} images; at least {LEAST_MASKED} are needed, one each for train, val and test"
        )
    values = values_of_masks(folder, listing, SAMPLED_IMAGES)
    classes = ["background", *(f"class_{number}" for number in range(1, max([1, *values]) + 1))]
    sides = [
        min(height_width) for item in own[:SAMPLED_IMAGES] if (height_width := _size_of(folder / item.path)) is not None
    ]
    size = max(
        (size for size in SIZES if size >= MASKED_SIDE and sides and size <= statistics.median(sides)), default=32
    )
    share = max(0.1, math.ceil(100 / len(own)) / 100) if drawn else 0.1
    facts = _facts_of(round(len(own) * (1 - share * len(drawn))), f"{len(own):,} images with masks.", size, 3, share)
    lines = _folder_lines(facts, yaml_text({"path": _seen_from(folder, place)}).strip()).replace(
        "a folder for each class, directly", "images/ and masks/, directly"
    )
    return facts, lines + f"  classes: [{', '.join(classes)}]  # by the numbers in the masks; 255 is void\n"


def _size_of(path: Path) -> Sequence[int] | None:
    opened = _opened(path)
    return None if opened is None else opened[0]


def _look_at(folder: Path) -> ImageFacts:
    """Look at a folder of images. Raises DataInvalid."""
    listing = list_images(folder)
    counts = Counter(image.label for image in listing.images if image.split in ("", "train"))
    if len(counts) < 2:
        raise DataInvalid(
            f"{folder}: {next(iter(counts))} is the only class, and a classifier of one class learns nothing; each"
            " class needs a folder of its own"
        )
    label, smallest = min(counts.items(), key=lambda pair: pair[1])
    drawn = {"val", "test"} - {image.split for image in listing.images}
    if drawn and smallest < 3:
        raise DataInvalid(
            f"{folder}: the class {label} has {smallest} images; at least 3 are needed, one each for train, val and"
            " test; add some, or give val/ and test/ beside train/"
        )
    size, channels = _size_and_channels(folder, listing)
    share = max(0.1, math.ceil(100 / smallest) / 100) if drawn else 0.1
    counted = f"{sum(counts.values()):,} images of {len(counts)} classes."
    facts = _facts_of(round(sum(counts.values()) * (1 - share * len(drawn))), counted, size, channels, share)
    spec = FolderSpec(name="folder", image_size=size, val_fraction=share, test_fraction=share)
    open_folder(spec, folder.resolve())  # says what does not fit before anything is written
    return facts


def _facts_of(train: int, counted: str, size: int = 8, channels: int = 1, share: float = 0.1) -> ImageFacts:
    batch_size = min(64, max(4, 2 ** int(math.log2(max(1, train / 8)))))
    epochs = min(30, max(5, round(STEPS * batch_size / max(1, train))))
    return ImageFacts(counted, size, channels, share, batch_size, epochs)


def _size_and_channels(folder: Path, listing: ImageListing) -> tuple[int, int]:
    """The largest of :data:`SIZES` that most images have, and 1 where all of them are grey, by some of the images."""
    every = max(1, len(listing.images) // SAMPLED_IMAGES)
    images = [_opened(folder / image.path) for image in listing.images[::every][:SAMPLED_IMAGES]]
    known = [image for image in images if image is not None]
    if not known:
        first = listing.images[0].path
        raise DataInvalid(f"{folder}: {first} and others can not be read as images; `expflow data stats` names them")
    side = statistics.median(min(width, height) for (width, height), _ in known)
    size = max((size for size in SIZES if size <= side), default=SIZES[0])
    return size, 1 if all(mode in GREY_MODES for _, mode in known) else 3


def _opened(path: Path) -> tuple[Sequence[int], str] | None:
    """Size and mode of an image by its header; None where it does not read."""
    try:
        with Image.open(path, formats=FORMATS) as image:
            return image.size, image.mode
    except Exception:  # noqa: BLE001  Pillow's readers raise whatever broken bytes lead them to
        return None
