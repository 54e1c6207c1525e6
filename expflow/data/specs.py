"""Arguments of each data source. Torch-free: the sources themselves are in :mod:`expflow.data.sources`."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import NonNegativeInt, field_validator, model_validator

from expflow.config.spec import FieldError, execution, identity
from expflow.data.augment.specs import PhotographSourceSpec
from expflow.data.dataspec import DataSpec, FieldSpec
from expflow.data.source_spec import (
    DrawnSplitsSpec,
    ImageFilesSpec,
    LocatedFilesSpec,
    Origin,
    ShardedSourceSpec,
    ValSplitSpec,
    locate_files,
)
from expflow.errors import DataMissing


def _images(channels: int, side: int, classes: int) -> DataSpec:
    """What is known of images of ``side`` pixels (0: they differ in size) without any of them."""
    fields = {"image": FieldSpec((channels, side, side), "uint8", varies=not side), "label": FieldSpec((), "int64")}
    return DataSpec(fields, tuple(map(str, range(classes))))


class DigitsSpec(DrawnSplitsSpec):
    """Scikit-learn's 1,797 handwritten digits, 8x8 pixels, grey: by default 1,300 train, 397 val and 100 test.

    Few are held back for test, because the deep nets of the examples lack training images first; one test image is a
    whole point, so quote it with that in mind.
    """

    build: ClassVar[str] = "expflow.data.sources.digits:open_digits"

    val_fraction: float = identity(0.221, description="Share of the images that becomes val.", ge=0, lt=1)
    test_fraction: float = identity(0.0557, description="Share of the images that becomes test.", ge=0, lt=1)


class DigitScenesSpec(ShardedSourceSpec):
    """Real digits composed on crops of real photographs, with exact masks or boxes: no download, and quick to learn.

    The digits are scikit-learn's, the photographs its china.jpg and flower.jpg; train, val and test share neither
    digits nor parts of photographs. Where a digit fades out its mask is void. Scores on composed scenes say which of
    two networks learns such scenes better, and nothing about photographs.
    """

    build: ClassVar[str] = "expflow.data.sources.digit_scenes:open_digit_scenes"
    described: ClassVar[frozenset[str]] = frozenset(
        {"train_scenes", "val_scenes", "test_scenes", "side", "most_digits", "distinct", "scene_seed"}
    )

    train_scenes: int = identity(600, description="Scenes of train.", ge=1, le=1_000_000)
    val_scenes: int = identity(200, description="Scenes of val.", ge=1, le=1_000_000)
    test_scenes: int = identity(200, description="Scenes of test.", ge=1, le=1_000_000)
    side: int = identity(64, description="Height and width of a scene.", ge=16, le=160)
    most_digits: int = identity(3, description="A scene has between one and so many digits.", ge=1, le=20)
    distinct: bool = identity(
        False, description="Whether each digit is a class of its own, rather than all of them one class, digit."
    )
    truth: Literal["masks", "boxes", "instances", "keypoints", "labels"] = identity(
        "masks",
        description="masks: the class of each pixel; boxes: a box around each digit; instances: boxes, and which digit"
        " each pixel is of; keypoints: boxes, and the topmost, bottommost, leftmost and rightmost pixel of each digit's"
        " ink; labels: which of the ten digits are in the scene.",
    )
    scene_seed: int = identity(0, description="Seed of what is composed where.", ge=0)


class NoisyCurveSpec(ShardedSourceSpec):
    """Points of sin(2 pi x) with normal noise (Bishop 2006, figure 1.2), for regression: x is the grey of one pixel."""

    build: ClassVar[str] = "expflow.data.sources.noisy_curve:open_noisy_curve"
    described: ClassVar[frozenset[str]] = frozenset(
        {"train_points", "val_points", "test_points", "noise", "point_seed"}
    )

    train_points: int = identity(10, description="Points of train.", ge=2, le=1_000_000)
    val_points: int = identity(100, description="Points of val.", ge=1, le=1_000_000)
    test_points: int = identity(100, description="Points of test.", ge=1, le=1_000_000)
    noise: float = identity(0.3, description="Standard deviation of the noise.", ge=0)
    point_seed: NonNegativeInt | Literal["trial"] = identity(
        0, description="Seed of the points; trial: each trial draws points of its own."
    )

    def of_trial(self, seed: int) -> Self:
        """Return the source as a trial sees it: with ``point_seed: trial`` its points are drawn by the trial's seed.

        Args:
            seed: the trial's seed.
        """
        return self.model_copy(update={"point_seed": f"trial {seed}"}) if self.point_seed == "trial" else self


class WrittenDatesSpec(ShardedSourceSpec):
    """Dates as people write them (`Sunday, 3 May 1998`), and in ISO 8601: text to text, with a known answer.

    They are made exactly, and no day of the century is in two splits.
    """

    build: ClassVar[str] = "expflow.data.sources.written_dates:open_written_dates"
    described: ClassVar[frozenset[str]] = frozenset({"train_dates", "val_dates", "test_dates", "date_seed"})

    train_dates: int = identity(4000, description="Dates of train.", ge=1, le=30_000)
    val_dates: int = identity(500, description="Dates of val.", ge=1, le=3_000)
    test_dates: int = identity(500, description="Dates of test.", ge=1, le=3_000)
    date_seed: int = identity(0, description="Seed of which dates they are, and of how each is written.", ge=0)


class FolderSpec(ImageFilesSpec, DrawnSplitsSpec):
    """A folder of images: a folder per class, or images/ and masks/; directly or inside of train/, val/ and test/.

    A mask is a PNG of 8 bits with the number of each pixel's class; 255 is void, which counts for nothing. It has the
    name and the size of its image.
    """

    build: ClassVar[str] = "expflow.data.sources.folder:open_folder"
    described: ClassVar[frozenset[str]] = DrawnSplitsSpec.described | {"image_size", "channels"}

    path: Path | None = execution(
        None,
        description="The folder, relative to the YAML file; by default what the site file says for `folder`. On the"
        " command line: --from.",
    )
    stored: Literal["resized", "original"] = identity(
        "resized",
        description="resized: shards hold small images of image_size without loss; original: they hold the files as"
        " they are, and random crops see all their pixels.",
    )
    image_size: int = identity(
        64, description="Height and width: the shorter side is resized to it, the longer cut to it.", ge=1, le=65_536
    )
    channels: Literal[1, 3] = identity(3, description="3 for colour, 1 for grey.")
    classes: tuple[str, ...] = identity(
        (),
        description="Names of the classes of masks, in the order of their numbers, as [background, leaf]; for images/"
        " and masks/ alone.",
        max_length=255,
    )
    group: str = identity(
        "",
        description="Regular expression for paths of images: images in which it finds the same text (its first"
        " group, or all that it finds) are of one photograph, subject or scene, and never in two splits. "
        "`([^/]+)_tile` for leaf7_tile3.png.",
    )

    @field_validator("classes", mode="after")
    @classmethod
    def _names_differ(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if twice := [name for name, count in Counter(value).items() if count > 1]:
            raise ValueError(f"two classes are named {twice[0]!r}; each needs a name of its own")
        return value

    @field_validator("group", mode="after")
    @classmethod
    def _is_an_expression(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"expected a regular expression, found {value!r}: {error}") from error
        return value

    @model_validator(mode="after")
    def _resized_has_its_size(self) -> Self:
        if self.stored == "resized" and self.max_side is not None:
            raise FieldError("max_side", "image_size is the size of what is stored; max_side needs stored: original")
        if self.stored == "resized" and self.restart_markers:
            raise FieldError("restart_markers", "small images are stored without JPEG; it needs stored: original")
        if self.stored == "resized" and self.letterbox:
            raise FieldError("letterbox", "small images are stored cut to a square already; it needs stored: original")
        return self

    def description(self) -> dict[str, Any]:
        """Describe the samples as every source does; those of original size do not depend on ``image_size``."""
        described = super().description()
        return described if self.stored == "resized" else {k: v for k, v in described.items() if k != "image_size"}

    def origin(self, folder: Path | None, site_path: Path | str | None) -> Origin:
        """Return the folder: ``path`` seen from ``folder`` (the YAML's), else ``site_path``. Raises DataMissing."""
        origin = locate_files(self.name, self.path, folder, site_path)
        if origin is None:
            raise DataMissing(
                "no folder of images is given: write data.path in the experiment, or data: {folder: PATH} in the"
                " site file",
                key="data.path",
            )
        return origin

    def stamps(self, origin: Origin) -> list[list[object]]:
        """Return each file's path, size and time of change, after the folder's path."""
        from expflow.data.shards.manifest import FIRST_READING
        from expflow.data.sources.listing import list_images
        from expflow.data.sources.mask_listing import holds_masks, list_masked_images

        if holds_masks(Path(origin or "")):
            pairs = (item for items in list_masked_images(Path(origin or "")).splits.values() for item in items)
            stamped = ([[pair.path, pair.size, pair.mtime_ns], list(pair.mask)] for pair in pairs)
            return [[str(origin), 0, 0], *(stamp for stamps in stamped for stamp in stamps)]
        listing = list_images(Path(origin or ""))
        files = [[image.path, image.size, image.mtime_ns] for image in listing.images]
        reading = [["reading", listing.reading, 0]] if listing.reading != FIRST_READING else []
        return [[str(origin), 0, 0], *files, *reading]


class MNISTSpec(LocatedFilesSpec, ValSplitSpec):
    """MNIST (LeCun et al. 1998): 60,000 handwritten digits of 28x28 pixels, grey, and 10,000 for test."""

    build: ClassVar[str] = "expflow.data.sources.idx:open_mnist"
    published: ClassVar[DataSpec | None] = _images(1, 28, 10)
    fetched: ClassVar[str] = "expflow.data.sources.idx:fetch"
    where: ClassVar[str] = "it is fetched by `expflow data build mnist`"


class FashionMNISTSpec(LocatedFilesSpec, ValSplitSpec):
    """Fashion-MNIST (Xiao et al. 2017): 60,000 articles of clothing of 28x28 pixels, grey, and 10,000 for test.

    Debian's package dataset-fashion-mnist is used where it is installed.
    """

    build: ClassVar[str] = "expflow.data.sources.idx:open_fashion_mnist"
    published: ClassVar[DataSpec | None] = _images(1, 28, 10)
    fetched: ClassVar[str] = "expflow.data.sources.idx:fetch"
    where: ClassVar[str] = (
        "install Debian's package dataset-fashion-mnist, or have `expflow data build fashion_mnist` fetch it"
    )


class CIFAR10Spec(LocatedFilesSpec, ValSplitSpec):
    """CIFAR-10 (Krizhevsky 2009): 50,000 photographs of 32x32 pixels in ten classes, and 10,000 for test."""

    build: ClassVar[str] = "expflow.data.sources.cifar:open_cifar10"
    published: ClassVar[DataSpec | None] = _images(3, 32, 10)
    fetched: ClassVar[str] = "expflow.data.sources.cifar:fetch"
    where: ClassVar[str] = "it is fetched by `expflow data build cifar10`"


class CIFAR100Spec(LocatedFilesSpec, ValSplitSpec):
    """CIFAR-100 (Krizhevsky 2009): 50,000 photographs of 32x32 pixels in a hundred classes, and 10,000 for test."""

    build: ClassVar[str] = "expflow.data.sources.cifar:open_cifar100"
    published: ClassVar[DataSpec | None] = _images(3, 32, 100)
    fetched: ClassVar[str] = "expflow.data.sources.cifar:fetch"
    where: ClassVar[str] = "it is fetched by `expflow data build cifar100`"


class ImageNetSpec(PhotographSourceSpec, ImageFilesSpec, LocatedFilesSpec, ValSplitSpec):
    """ImageNet (ILSVRC-2012): 1,281,167 photographs of 1,000 classes, and the 50,000 of its validation set.

    The official validation set is ``test`` here, and ``val`` is drawn from train: 2 %, as Tan and Le (2019) held back.
    """

    build: ClassVar[str] = "expflow.data.sources.imagenet:open_imagenet"
    published: ClassVar[DataSpec | None] = _images(3, 0, 1000)
    takes_hours: ClassVar[bool] = True
    where: ClassVar[str] = (
        "get ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar and ILSVRC2012_devkit_t12.tar.gz from"
        " https://image-net.org/download (it asks for an account), put them into one folder, unpacked or not"
    )

    val: Literal["drawn", "official"] = identity(
        "drawn",
        description="drawn: val is a fixed part of train, and the official validation set is test; official: val is the"
        " official validation set, and there is no test.",
    )
    val_fraction: float = identity(0.02, description="Share of train that becomes val where it is drawn.", ge=0, lt=1)

    def stamps(self, origin: Origin) -> list[list[object]]:
        """Return each class folder and archive with its size and time of change."""
        from expflow.data.sources.imagenet_layout import layout_stamps

        return layout_stamps(Path(origin)) if origin is not None else []


class ImageNet22kSpec(PhotographSourceSpec, ImageFilesSpec, LocatedFilesSpec, DrawnSplitsSpec):
    """ImageNet-22k: 14 million photographs, a folder or a tar per synset. It has no test set: part of it is drawn."""

    build: ClassVar[str] = "expflow.data.sources.imagenet:open_imagenet22k"
    takes_hours: ClassVar[bool] = True
    where: ClassVar[str] = (
        "get winter21_whole.tar.gz or fall11_whole.tar from https://image-net.org/download (it asks for an account) and"
        " unpack it once, so that there is a folder or a tar per synset"
    )

    val_fraction: float = identity(0.005, description="Share of the images that becomes val.", ge=0, lt=1)
    test_fraction: float = identity(0.005, description="Share of the images that becomes test.", ge=0, lt=1)

    def stamps(self, origin: Origin) -> list[list[object]]:
        """Each class folder and archive with its size and time of change."""
        from expflow.data.sources.imagenet_layout import layout_stamps

        return layout_stamps(Path(origin)) if origin is not None else []


class ShardsSpec(ShardedSourceSpec):
    """WebDataset shards that are there already, ours or someone else's. They stay where they are and are indexed once.

    A shard belongs to the split whose name its path contains (``train/0001.tar``, ``imagenet-val-000000.tar``). Where
    no path says train, those that name no split are train. Members of other extensions than those of ``fields`` are
    passed over and counted.
    """

    build: ClassVar[str] = "expflow.data.sources.existing_shards:index_shards"
    in_place: ClassVar[bool] = True
    where: ClassVar[str] = "write data.path in the experiment, or data: {shards: FOLDER OR ADDRESS} in the site file"

    path: str | None = execution(
        None,
        description="Folder or address of the shards; by default what the site file says for `shards`. On the command"
        " line: --from.",
    )
    fields: dict[str, str] = identity(
        default_factory=lambda: {"image": "jpg", "label": "cls"},
        description="Each field's extension in the shards; jpg means jpeg, png and webp as well.",
    )
    splits: dict[str, str] = identity(
        default_factory=dict,
        description="Split (train, val, test) to a pattern of its shards' paths, as train-*.tar; by default by name.",
    )
    channels: Literal[1, 3] = identity(3, description="3 for colour, 1 for grey.")
    classes: str | None = execution(
        None,
        description="File beside the shards with a class name a line, in the order of their numbers; by default the"
        " numbers are the names.",
    )

    @model_validator(mode="after")
    def _fields_are_read_here(self) -> Self:
        known = {"image": ("jpg", "png"), "label": ("cls",)}
        if self.fields.keys() != known.keys():
            raise FieldError("fields", f"expected the fields image and label, found {', '.join(self.fields) or 'none'}")
        for field, extensions in known.items():
            if self.fields[field] not in extensions:
                raise FieldError(
                    "fields", f"{field} is read from {' or '.join(extensions)}, not {self.fields[field]!r}"
                )
        if self.splits and ("train" not in self.splits or not self.splits.keys() <= {"train", "val", "test"}):
            raise FieldError("splits", f"expected train, and val and test if there are, found {', '.join(self.splits)}")
        return self

    def origin(self, folder: Path | None, site_path: Path | str | None) -> Origin:
        """Return the folder or address of the shards. Raises DataMissing."""
        origin = locate_files(self.name, self.path, folder, site_path)
        if origin is None:
            raise DataMissing(f"nobody says where the shards lie: {self.where}", key="data.path")
        return origin

    def stamps(self, origin: Origin) -> list[list[object]]:
        """Return each tar's path, size and time of change, and each compressed tar's path; of an address, itself."""
        from expflow.data.sources.listing import list_tars
        from expflow.data.stores.signed_urls import without_query

        if not isinstance(origin, Path):
            return [[without_query(str(origin)), 0, 0]]
        listing = list_tars(origin)
        compressed: list[list[object]] = [[name, -1, 0] for name in listing.compressed]
        return [[str(origin), 0, 0], *([name, size, mtime] for name, size, mtime in listing.tars), *compressed]
