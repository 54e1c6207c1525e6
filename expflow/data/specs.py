"""Arguments of the data sources. Torch-free: the sources themselves are in :mod:`expflow.data.sources`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal, Self

from pydantic import PositiveInt, model_validator

from expflow.config.sizes import ByteSize
from expflow.config.spec import FieldError, Spec, execution, identity, role_of
from expflow.errors import DataMissing

HOW_SAMPLES_ARE_USED = frozenset({"batch_size", "limit", "last", "on_bad_sample", "skip_limit"})
"""Identity fields that choose among prepared samples without changing them: they need no other shards."""


class Source(Spec):
    """What every data source takes."""

    batch_size: int = identity(64, description="Samples of one optimizer step, over all ranks.", ge=1)
    limit: int | None = identity(
        None, description="Train on this many samples only, drawn by split_seed; val and test stay whole.", ge=1
    )
    val_fraction: float = identity(0.1, description="Share of the images that becomes val unless given.", ge=0, lt=1)
    test_fraction: float = identity(0.1, description="Share of the images that becomes test unless given.", ge=0, lt=1)
    split_seed: int = identity(0, description="Seed of the splits, and of the order on disk.", ge=0)
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

    @model_validator(mode="after")
    def _train_remains(self) -> Self:
        if self.val_fraction + self.test_fraction >= 1:
            raise FieldError("val_fraction", "val_fraction and test_fraction together must leave images for training")
        return self

    def description(self) -> dict[str, Any]:
        """What determines the samples: the name and the identity fields, defaults written out.

        A default that changes makes other samples, so it must make another key.
        """
        fields = type(self).model_fields.keys() - HOW_SAMPLES_ARE_USED
        values = {name: getattr(self, name) for name in sorted(fields) if role_of(type(self), name) == "identity"}
        return {**values, "name": self.name}

    def origin(self, folder: Path | None, site_path: Path | None) -> Path | None:
        """Where the source's files lie; None where it brings its own. Raises DataMissing when they are not there."""
        return None


class Digits(Source):
    """Scikit-learn's 1,797 handwritten digits, 8x8 pixels, grey: by default 1,300 train, 397 val and 100 test.

    Few are held back for test, because the deep nets of the examples lack training images first; one test image is a
    whole point, so quote it with that in mind.
    """

    build: ClassVar[str] = "expflow.data.sources.digits:open_digits"

    val_fraction: float = identity(0.221, description="Share of the images that becomes val.", ge=0, lt=1)
    test_fraction: float = identity(0.0557, description="Share of the images that becomes test.", ge=0, lt=1)


class Folder(Source):
    """A folder of images: a folder per class, either directly or inside of train/, val/ and test/."""

    build: ClassVar[str] = "expflow.data.sources.folder:open_folder"

    path: Path | None = execution(
        None, description="The folder, relative to the YAML file; by default what the site file says for `folder`."
    )
    image_size: int = identity(
        64, description="Height and width: the shorter side is resized to it, the longer cut to it.", ge=1
    )
    channels: Literal[1, 3] = identity(3, description="3 for colour, 1 for grey.")

    def origin(self, folder: Path | None, site_path: Path | None) -> Path:
        """The folder: ``path`` seen from ``folder`` (the YAML's), else ``site_path``. Raises DataMissing."""
        found = (folder or Path()) / self.path.expanduser() if self.path is not None else site_path
        if found is None:
            raise DataMissing(
                "no folder of images is given: write data.path in the experiment, or data: {folder: PATH} in the"
                " site file",
                key="data.path",
            )
        if not found.is_dir():
            key, said = ("data.path", "") if self.path is not None else ("", " (the site file)")
            message = f"no folder of images at {found}{said}; correct the path, or put the images there"
            raise DataMissing(message, key=key)
        return found.resolve()
