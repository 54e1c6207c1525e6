"""Arguments of the data sources. Torch-free: the sources themselves are in :mod:`expflow.data.sources`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import PositiveInt, model_validator

from expflow.config.sizes import ByteSize
from expflow.config.spec import FieldError, execution, identity, role_of
from expflow.data.augment.specs import Augmented, Photographs
from expflow.data.dataspec import DataSpec, FieldSpec
from expflow.errors import DataMissing

Origin = Path | str | None
"""Where a source's files lie: a folder, an address (``s3://…``), or nowhere because it brings its own."""


def _images(channels: int, side: int, classes: int) -> DataSpec:
    """What is known of images of ``side`` pixels (0: they differ in size) without any of them."""
    fields = {"image": FieldSpec((channels, side, side), "uint8", varies=not side), "label": FieldSpec((), "int64")}
    return DataSpec(fields, tuple(map(str, range(classes))))


class Source(Augmented):
    """What every data source takes."""

    at_use: ClassVar[frozenset[str]] = frozenset({"batch_size", "limit", "last", "on_bad_sample", "skip_limit"})
    """Identity fields that choose among prepared samples, or change them when they are read: they need no other shards.
    A base class may name more."""
    described: ClassVar[frozenset[str]] = frozenset()
    """Identity fields that are written into the description even where they have their default. Closed: a field that is
    added later is written only where it differs, so that it changes no key."""
    where: ClassVar[str] = ""
    """Where one gets the files, for who has none."""
    fetched: ClassVar[str] = ""
    """Dotted path of what fetches the files into a folder; only ``expflow data build`` calls it."""
    published: ClassVar[DataSpec | None] = None
    """Shape and classes of the images (numbers stand for the classes' names), for plans that are made where the files
    are not; None where only the files tell."""
    takes_hours: ClassVar[bool] = False
    """Whether only ``expflow data build`` may build it, because a sweep that begins with hours of it surprises."""

    batch_size: PositiveInt | Literal["all"] = identity(
        64,
        description="Samples of one batch, over all ranks; `all` takes the whole training set at once (full-batch"
        " gradient descent).",
    )
    limit: int | None = identity(
        None, description="Train on this many samples only, drawn by split_seed; val and test stay whole.", ge=1
    )
    bad_limit: int = execution(0, description="Images that may be unreadable and left out; more are an error.", ge=0)
    workers: PositiveInt | Literal["auto"] = execution(
        "auto", description="Threads that decode images in each rank; auto: as many as the rank computes with."
    )
    memory: ByteSize = execution(
        2**30,
        description="A split that takes at most this when decoded, such as 1 GiB, is decoded once per machine, for all"
        " trials; a larger one is decoded as it is read.",
    )
    last: Literal["keep", "pad", "drop"] = identity(
        "keep",
        description="A last, short batch of training: keep it as it is; pad it to full size with samples that do not"
        " count; drop it.",
    )
    on_bad_sample: Literal["fail", "skip"] = identity(
        "fail", description="A stored sample that is damaged: fail the trial, or skip it and count it."
    )
    skip_limit: float = identity(
        0.001, description="Share of an epoch's samples that skip may skip; above it the trial fails.", ge=0, le=1
    )

    def description(self) -> dict[str, Any]:
        """What determines the samples, and hence the data key: the name and the identity fields.

        Those of ``described`` are written out always: a default of theirs that changes makes other samples, so it must
        make another key. What came later is there only where it differs from its default.
        """
        cls = type(self)
        at_use = frozenset[str]().union(*(vars(base).get("at_use", ()) for base in cls.__mro__)) - cls.described
        described = {"name": self.name}
        for name, each in cls.model_fields.items():
            value = getattr(self, name)
            if name == "name" or name in at_use or role_of(cls, name) != "identity":
                continue
            if name in cls.described or value != each.get_default(call_default_factory=True):
                described[name] = value
        return described

    def origin(self, folder: Path | None, site_path: Path | str | None) -> Origin:
        """Where the source's files lie; None where nobody said, or it brings its own. Raises DataMissing."""
        return None

    def stamps(self, origin: Origin) -> list[list[object]]:
        """The state of the files at ``origin``: when it changes, the shards are built anew. Opens no image."""
        return []


class Split(Source):
    """A source of which a part is drawn as val."""

    described: ClassVar[frozenset[str]] = frozenset({"val_fraction", "split_seed"})

    val_fraction: float = identity(0.1, description="Share of the images that becomes val unless given.", ge=0, lt=1)
    split_seed: int = identity(0, description="Seed of the splits, and of the order on disk.", ge=0)


class Drawn(Split):
    """A source without a test set of its own: part of it is drawn."""

    described: ClassVar[frozenset[str]] = Split.described | {"test_fraction"}

    test_fraction: float = identity(0.1, description="Share of the images that becomes test unless given.", ge=0, lt=1)

    @model_validator(mode="after")
    def _train_remains(self) -> Self:
        if self.val_fraction + self.test_fraction >= 1:
            raise FieldError("val_fraction", "val_fraction and test_fraction together must leave images for training")
        return self


class Located(Source):
    """A source whose files lie somewhere that the recipe or the site file says."""

    path: str | None = execution(
        None,
        description="Folder of the files, relative to the YAML file, or address of shards built from them; by default"
        " what the site file says.",
    )

    def origin(self, folder: Path | None, site_path: Path | str | None) -> Origin:
        """``path`` seen from ``folder`` (the YAML's), else ``site_path``. Raises DataMissing where nothing is there."""
        return located(self.name, self.path, folder, site_path)


def located(name: str, path: Path | str | None, folder: Path | None, site_path: Path | str | None) -> Origin:
    """The folder or address that ``path`` or the site file names for source ``name``. Raises DataMissing."""
    found = path if path is not None else site_path
    from expflow.data.stores.address import is_elsewhere

    if found is None or (isinstance(found, str) and is_elsewhere(found)):
        return found
    place = (folder or Path()) / Path(found).expanduser()
    if not place.is_dir():
        key, said = ("data.path", "") if path is not None else ("", " (the site file)")
        what = "folder of images" if name == "folder" else f"folder with the files of {name}"
        raise DataMissing(f"no {what} at {place}{said}; correct the path, or put the images there", key=key)
    return place.resolve()


class Stored(Source):
    """A source of image files that shards hold as they are, byte for byte, unless they are too large."""

    max_side: int | None = identity(
        None,
        description="Images with a longer side are shrunk to it and encoded as JPEG; none: all stay as they are.",
        ge=1,
    )
    quality: int = identity(90, description="JPEG quality of the images that are encoded anew.", ge=1, le=100)
    restart_markers: bool = identity(
        False,
        description="Give JPEGs restart markers when they are stored, which changes no pixel and takes 1 to 2 % more"
        " room: crops are then decoded without the rest of the image. Needs the program jpegtran.",
    )


class Digits(Drawn):
    """Scikit-learn's 1,797 handwritten digits, 8x8 pixels, grey: by default 1,300 train, 397 val and 100 test.

    Few are held back for test, because the deep nets of the examples lack training images first; one test image is a
    whole point, so quote it with that in mind.
    """

    build: ClassVar[str] = "expflow.data.sources.digits:open_digits"

    val_fraction: float = identity(0.221, description="Share of the images that becomes val.", ge=0, lt=1)
    test_fraction: float = identity(0.0557, description="Share of the images that becomes test.", ge=0, lt=1)


class Folder(Stored, Drawn):
    """A folder of images: a folder per class, either directly or inside of train/, val/ and test/."""

    build: ClassVar[str] = "expflow.data.sources.folder:open_folder"
    described: ClassVar[frozenset[str]] = Drawn.described | {"image_size", "channels"}

    path: Path | None = execution(
        None, description="The folder, relative to the YAML file; by default what the site file says for `folder`."
    )
    stored: Literal["resized", "original"] = identity(
        "resized",
        description="resized: shards hold small images of image_size without loss; original: they hold the files as"
        " they are, and random crops see all their pixels.",
    )
    image_size: int = identity(
        64, description="Height and width: the shorter side is resized to it, the longer cut to it.", ge=1
    )
    channels: Literal[1, 3] = identity(3, description="3 for colour, 1 for grey.")

    @model_validator(mode="after")
    def _resized_has_its_size(self) -> Self:
        if self.stored == "resized" and self.max_side is not None:
            raise FieldError("max_side", "image_size is the size of what is stored; max_side needs stored: original")
        if self.stored == "resized" and self.restart_markers:
            raise FieldError("restart_markers", "small images are stored without JPEG; it needs stored: original")
        return self

    def description(self) -> dict[str, Any]:
        """As for every source; what is stored in its original size does not depend on ``image_size``."""
        described = super().description()
        return described if self.stored == "resized" else {k: v for k, v in described.items() if k != "image_size"}

    def origin(self, folder: Path | None, site_path: Path | str | None) -> Origin:
        """The folder: ``path`` seen from ``folder`` (the YAML's), else ``site_path``. Raises DataMissing."""
        found = located(self.name, self.path, folder, site_path)
        if found is None:
            raise DataMissing(
                "no folder of images is given: write data.path in the experiment, or data: {folder: PATH} in the"
                " site file",
                key="data.path",
            )
        return found

    def stamps(self, origin: Origin) -> list[list[object]]:
        """Each file's path, size and time of change, behind the folder's own."""
        from expflow.data.sources.listing import list_images

        return [
            [str(origin), 0, 0],
            *([each.path, each.size, each.mtime_ns] for each in list_images(Path(origin or ""))),
        ]


class MNIST(Located, Split):
    """MNIST (LeCun et al. 1998): 60,000 handwritten digits of 28x28 pixels, grey, and 10,000 for test."""

    build: ClassVar[str] = "expflow.data.sources.idx:open_mnist"
    published: ClassVar[DataSpec | None] = _images(1, 28, 10)
    fetched: ClassVar[str] = "expflow.data.sources.idx:fetch"
    where: ClassVar[str] = "it is fetched by `expflow data build mnist`"


class FashionMNIST(Located, Split):
    """Fashion-MNIST (Xiao et al. 2017): 60,000 articles of clothing of 28x28 pixels, grey, and 10,000 for test.

    Debian's package dataset-fashion-mnist is used where it is installed.
    """

    build: ClassVar[str] = "expflow.data.sources.idx:open_fashion_mnist"
    published: ClassVar[DataSpec | None] = _images(1, 28, 10)
    fetched: ClassVar[str] = "expflow.data.sources.idx:fetch"
    where: ClassVar[str] = (
        "install Debian's package dataset-fashion-mnist, or have `expflow data build fashion_mnist` fetch it"
    )


class CIFAR10(Located, Split):
    """CIFAR-10 (Krizhevsky 2009): 50,000 photographs of 32x32 pixels in ten classes, and 10,000 for test."""

    build: ClassVar[str] = "expflow.data.sources.cifar:open_cifar10"
    published: ClassVar[DataSpec | None] = _images(3, 32, 10)
    fetched: ClassVar[str] = "expflow.data.sources.cifar:fetch"
    where: ClassVar[str] = "it is fetched by `expflow data build cifar10`"


class CIFAR100(Located, Split):
    """CIFAR-100 (Krizhevsky 2009): 50,000 photographs of 32x32 pixels in a hundred classes, and 10,000 for test."""

    build: ClassVar[str] = "expflow.data.sources.cifar:open_cifar100"
    published: ClassVar[DataSpec | None] = _images(3, 32, 100)
    fetched: ClassVar[str] = "expflow.data.sources.cifar:fetch"
    where: ClassVar[str] = "it is fetched by `expflow data build cifar100`"


class ImageNet(Photographs, Stored, Located, Split):
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
        """Each class folder and archive with its size and time of change."""
        from expflow.data.sources.layout import stamps

        return stamps(Path(origin)) if origin is not None else []


class ImageNet22k(Photographs, Stored, Located, Drawn):
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
        from expflow.data.sources.layout import stamps

        return stamps(Path(origin)) if origin is not None else []


class Shards(Source):
    """WebDataset shards that are there already, ours or someone else's. They stay where they are and are indexed once.

    A shard belongs to the split whose name its path contains (``train/0001.tar``, ``imagenet-val-000000.tar``), and to
    train where it contains none. Members of other extensions than those of ``fields`` are passed over.
    """

    build: ClassVar[str] = "expflow.data.sources.foreign:index_shards"
    where: ClassVar[str] = "write data.path in the experiment, or data: {shards: FOLDER OR ADDRESS} in the site file"

    path: str | None = execution(
        None, description="Folder or address of the shards; by default what the site file says for `shards`."
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
        """The folder or address of the shards. Raises DataMissing."""
        found = located(self.name, self.path, folder, site_path)
        if found is None:
            raise DataMissing(f"nobody says where the shards lie: {self.where}", key="data.path")
        return found

    def stamps(self, origin: Origin) -> list[list[object]]:
        """Each tar's path, size and time of change; an address stands for itself."""
        from expflow.data.sources.layout import tars
        from expflow.data.stores.signed import bare

        if not isinstance(origin, Path):
            return [[bare(str(origin)), 0, 0]]
        return [[str(origin), 0, 0], *([name, size, mtime] for name, size, mtime in tars(origin))]
