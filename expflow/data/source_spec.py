"""Arguments that the data sources have in common. Torch-free."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from expflow.config.byte_size import ByteSize
from expflow.config.spec import FieldError, execution, identity, role_of
from expflow.data.augment.specs import AugmentedSourceSpec
from expflow.data.dataspec import DataSpec
from expflow.errors import DataMissing

Origin = Path | str | None
"""Where a source's files lie: a folder, an address (``s3://…``), or None where it brings its own or none is named."""


class ShardedSourceSpec(AugmentedSourceSpec):
    """A source that becomes shards: what every data source takes."""

    at_use: ClassVar[frozenset[str]] = frozenset(
        {"batch_size", "limit", "labels_from", "last", "sampling", "on_bad_sample", "skip_limit"}
    )
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
    in_place: ClassVar[bool] = False
    """Whether its files are shards already, which are indexed where they lie and never written."""

    batch_size: PositiveInt | Literal["all"] = identity(
        64,
        description="Samples of one batch, over all ranks; `all` takes the whole training set at once (full-batch"
        " gradient descent).",
    )
    limit: int | None = identity(
        None, description="Train on this many samples only, drawn by split_seed; val and test stay whole.", ge=1
    )
    labels_from: str = identity(
        "",
        description="A trained classifier, NAME/best or NAME/3fa9: the train split's labels are the classes that it"
        " gives to the images (pseudo-labels); val and test keep their own. Its digest is part of the data key.",
    )
    palette: int = identity(
        0,
        description="Colours of a palette that tasks name pixels by (igpt): the centres of k-means on training images,"
        " kept in the manifest; 0: none.",
        ge=0,
        le=4096,
    )
    bad_limit: int = execution(
        0,
        description="Images that may be unreadable and left out; more are an error. On the command line: --max-bad.",
        ge=0,
    )
    workers: Annotated[int, Field(ge=1, le=1024)] | Literal["auto"] = execution(
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
    sampling: Literal["natural", "balanced"] = identity(
        "natural",
        description="Training images: natural takes each once in an epoch; balanced draws as many, but each class"
        " equally often, images of rare classes repeatedly.",
    )
    on_bad_sample: Literal["fail", "skip"] = identity(
        "fail", description="A stored sample that is damaged: fail the trial, or skip it and count it."
    )
    skip_limit: float = identity(
        0.001, description="Share of an epoch's samples that skip may skip; above it the trial fails.", ge=0, le=1
    )

    @property
    def samples_per_batch(self) -> int | Literal["all"]:
        """What the key ``batch_size`` says."""
        return self.batch_size

    @property
    def skips_bad_samples(self) -> bool:
        """Whether the key ``on_bad_sample`` is ``skip``."""
        return self.on_bad_sample == "skip"

    def description(self) -> dict[str, Any]:
        """Return what determines the samples, and hence the data key: the name and the identity fields.

        Those of ``described`` are written out always: a default of theirs that changes makes other samples, so it must
        make another key. What came later is there only where it differs from its default.
        """
        cls = type(self)
        at_use = frozenset[str]().union(*(vars(base).get("at_use", ()) for base in cls.__mro__)) - cls.described
        described = {"name": self.name}
        for name, field in cls.model_fields.items():
            value = getattr(self, name)
            if name == "name" or name in at_use or role_of(cls, name) != "identity":
                continue
            if name in cls.described or value != field.get_default(call_default_factory=True):
                described[name] = value
        return described

    def origin(self, folder: Path | None, site_path: Path | str | None) -> Origin:
        """Return where the source's files lie; None where none is named, or it brings its own.

        Args:
            folder: where relative paths start (the YAML's folder).
            site_path: where the site file says that the files lie.

        Raises:
            DataMissing: nothing is there (in sources that have files).
        """
        return None

    def of_trial(self, seed: int) -> Self:
        """Return the source as a trial sees it; most are the same for all.

        Args:
            seed: the trial's seed.
        """
        return self

    def stamps(self, origin: Origin) -> list[list[object]]:
        """Return the state of the files: when it changes, the shards are built anew. Opens no image.

        Args:
            origin: where the files lie.
        """
        return []


class ValSplitSpec(ShardedSourceSpec):
    """A source of which a part is drawn as val, unless it has a val of its own."""

    described: ClassVar[frozenset[str]] = frozenset({"val_fraction", "split_seed"})

    val_fraction: float = identity(0.1, description="Share of the images that becomes val unless given.", ge=0, lt=1)
    split_seed: NonNegativeInt | Literal["trial"] = identity(
        0,
        description="Seed of the splits, and of the order on disk; trial: each trial draws val anew by its own seed,"
        " and test stays. For small sources: shards are written for each seed.",
    )

    search_val: float = identity(
        0.0,
        description="Share of train that becomes val, while val and test are left out: for a search, whose choices must"
        " see neither. Without it the same file trains what was chosen on all of train, beside an untouched val.",
        ge=0,
        lt=1,
    )

    def of_trial(self, seed: int) -> Self:
        """Return the source as a trial sees it: with ``split_seed: trial`` its val is drawn by the trial's seed.

        Args:
            seed: the trial's seed.
        """
        return self.model_copy(update={"split_seed": f"trial {seed}"}) if self.split_seed == "trial" else self

    @model_validator(mode="after")
    def _small_where_trials_have_splits(self) -> Self:
        if self.split_seed == "trial" and self.takes_hours:
            raise FieldError("split_seed", f"`trial` writes shards for each seed, and {self.name} takes hours to write")
        if self.split_seed == "trial" and self.search_val:
            raise FieldError(
                "search_val", "a search compares children on one split; split_seed: trial draws one for each"
            )
        if self.split_seed == "trial" and not self.val_fraction:
            raise FieldError("split_seed", "`trial` draws val for each trial, and val_fraction is 0")
        return self


class DrawnSplitsSpec(ValSplitSpec):
    """A source of which parts are drawn as val and as test, unless it has its own."""

    described: ClassVar[frozenset[str]] = ValSplitSpec.described | {"test_fraction"}

    test_fraction: float = identity(0.1, description="Share of the images that becomes test unless given.", ge=0, lt=1)

    @model_validator(mode="after")
    def _train_remains(self) -> Self:
        if self.val_fraction + self.test_fraction >= 1:
            raise FieldError("val_fraction", "val_fraction and test_fraction together must leave images for training")
        return self


class LocatedFilesSpec(ShardedSourceSpec):
    """A source whose files lie somewhere that the recipe or the site file says."""

    path: str | None = execution(
        None,
        description="Folder of the files, relative to the YAML file, or address of shards built from them; by default"
        " what the site file says under data. On the command line: --from.",
    )

    def origin(self, folder: Path | None, site_path: Path | str | None) -> Origin:
        """Return ``path`` seen from ``folder`` (the YAML's), else ``site_path``. Raises DataMissing."""
        return locate_files(self.name, self.path, folder, site_path)


def locate_files(name: str, path: Path | str | None, folder: Path | None, site_path: Path | str | None) -> Origin:
    """Return the folder or address that the recipe or the site file names for a source; None where neither does.

    Args:
        name: the source's name.
        path: what the recipe says.
        folder: where relative paths start (the YAML's folder).
        site_path: what the site file says.

    Raises:
        DataMissing: there is no such folder.
    """
    from expflow.data.stores.address import is_remote

    stated = path if path is not None else site_path
    if stated is None or (isinstance(stated, str) and is_remote(stated)):
        return stated
    place = (folder or Path()) / Path(stated).expanduser()
    if not place.is_dir():
        key, whose = ("data.path", "") if path is not None else ("", " (the site file)")
        what = "folder of images" if name == "folder" else f"folder with the files of {name}"
        raise DataMissing(f"no {what} at {place}{whose}; correct the path, or put the images there", key=key)
    return place.resolve()


class ImageFilesSpec(ShardedSourceSpec):
    """A source of image files that shards hold as they are, byte for byte, unless they are too large."""

    max_side: int | None = identity(
        None,
        description="Images with a longer side are shrunk to it and encoded as JPEG; none: all stay as they are. On the"
        " command line: --max-side.",
        ge=1,
    )
    quality: int = identity(
        90,
        description="JPEG quality of the images that are encoded anew. On the command line: --quality.",
        ge=1,
        le=100,
    )
    restart_markers: bool = identity(
        False,
        description="Give JPEGs restart markers when they are stored, which changes no pixel and takes 1 to 2 % more"
        " room: crops are then decoded without the rest of the image. Needs the program jpegtran.",
    )

    @property
    def longest_side(self) -> int | None:
        """What the key ``max_side`` says."""
        return self.max_side
