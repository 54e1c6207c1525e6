"""Arguments of sources whose samples have masks, several classes or numbers. Torch-free."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import model_validator

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

VOC_CLASSES = (
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)

_PHOTOGRAPH = FieldSpec((3, 0, 0), "uint8", varies=True)
_MASK = FieldSpec((0, 0), "uint8", varies=True, kind="mask")


class _FileStamps(ShardedSourceSpec):
    """Base: a source is built anew when one of its files changes."""

    files: ClassVar[tuple[str, ...]] = ()
    """Patterns of the files that say what there is, below the source's folder."""

    def stamps(self, origin: Origin) -> list[list[object]]:
        """Return size and time of change of the files that list the samples, after the folder's path."""
        root = Path(str(origin))
        paths = sorted(path for pattern in self.files for path in root.glob(pattern))
        listed = [(path.relative_to(root).as_posix(), path.stat()) for path in paths]
        return [[str(origin), 0, 0], *([name, stat.st_size, stat.st_mtime_ns] for name, stat in listed)]


class VOC2012Spec(PhotographSourceSpec, ImageFilesSpec, LocatedFilesSpec, ValSplitSpec, _FileStamps):
    """Pascal VOC 2012, segmentation (Everingham et al. 2010): 1,464 photographs and 1,449 of val, 21 classes.

    Its official val is test here, since the masks of its test set are not public; val is drawn from train.
    """

    build: ClassVar[str] = "expflow.data.sources.voc:open_voc_masks"
    published: ClassVar[DataSpec | None] = DataSpec({"image": _PHOTOGRAPH, "mask": _MASK}, ("background", *VOC_CLASSES))
    files: ClassVar[tuple[str, ...]] = ("**/ImageSets/Segmentation/*.txt",)
    where: ClassVar[str] = (
        "get VOCtrainval_11-May-2012.tar from http://host.robots.ox.ac.uk/pascal/VOC/voc2012/ and unpack it"
    )


class VOC2012LabelsSpec(PhotographSourceSpec, ImageFilesSpec, LocatedFilesSpec, ValSplitSpec, _FileStamps):
    """Pascal VOC 2012, classification: 5,717 photographs and 5,823 of val; which of 20 classes are in each.

    Its official val is test here, and val is drawn from train. An object that is marked difficult leaves its class not
    known, which counts for nothing, unless another of the class is there.
    """

    build: ClassVar[str] = "expflow.data.sources.voc:open_voc_labels"
    published: ClassVar[DataSpec | None] = DataSpec(
        {"image": _PHOTOGRAPH, "labels": FieldSpec((len(VOC_CLASSES),), "uint8", kind="labels")}, VOC_CLASSES
    )
    files: ClassVar[tuple[str, ...]] = ("**/ImageSets/Main/train.txt", "**/ImageSets/Main/val.txt")
    where: ClassVar[str] = VOC2012Spec.where


class PetsSpec(PhotographSourceSpec, ImageFilesSpec, LocatedFilesSpec, ValSplitSpec, _FileStamps):
    """Oxford-IIIT Pet (Parkhi et al. 2012): 3,680 photographs of cats and dogs and 3,669 of test, with masks.

    Classes are background and pet; the drawn outline of three pixels is void.
    """

    build: ClassVar[str] = "expflow.data.sources.pets:open_pets"
    published: ClassVar[DataSpec | None] = DataSpec({"image": _PHOTOGRAPH, "mask": _MASK}, ("background", "pet"))
    files: ClassVar[tuple[str, ...]] = ("annotations/*.txt",)
    where: ClassVar[str] = (
        "get images.tar.gz and annotations.tar.gz from https://www.robots.ox.ac.uk/~vgg/data/pets/ and unpack both into"
        " one folder"
    )


class StampFilesSpec(LocatedFilesSpec, DrawnSplitsSpec):
    """Base: a source made of Tux Paint's stamps; no source by itself."""

    endings: ClassVar[tuple[str, ...]] = (".png",)
    """How the names of the files end that are read of a stamp."""
    where: ClassVar[str] = (
        "install Debian's package tuxpaint-stamps-default, or name a folder that holds its .deb file or its files"
    )

    def origin(self, folder: Path | None, site_path: Path | str | None) -> Origin:
        """Return the folder of the stamps: as the recipe or the site file says, else Debian's. Raises DataMissing."""
        from expflow.data.sources.stamp_files import INSTALLED

        origin = locate_files(self.name, self.path, folder, site_path)
        if origin is None and not INSTALLED.is_dir():
            raise DataMissing(f"nobody says where the stamps lie: {self.where}", key="data.path")
        return origin or INSTALLED

    def stamps(self, origin: Origin) -> list[list[object]]:
        """Return each stamp's path, size and time of change, or those of the package's file."""
        from expflow.data.sources.stamp_files import stamp_stats

        return stamp_stats(Path(str(origin)), self.endings)


class StampsSpec(StampFilesSpec):
    """Tux Paint's stamps on crops of photographs: 775 drawings and cut-out photographs with exact masks, by theme.

    They are those of Debian's package tuxpaint-stamps-default, where it is installed, or from its .deb file or its
    unpacked files. Stamps of one motif (frog, frog-1) are one group, which no split cuts. The scenes are composed.
    """

    build: ClassVar[str] = "expflow.data.sources.stamps:open_stamps"
    described: ClassVar[frozenset[str]] = DrawnSplitsSpec.described | {"side", "distinct", "scene_seed"}

    side: int = identity(64, description="Height and width of a scene.", ge=16, le=256)
    distinct: bool = identity(
        False,
        description="Whether each theme (animals, food …) is a class, not all of them one.",
    )
    scene_seed: int = identity(0, description="Seed of where a stamp lies, and on what.", ge=0)


class TableSpec(DrawnSplitsSpec, _FileStamps):
    """Images with a table (CSV) of what is known of each: its class, several classes, numbers, its group, its split."""

    build: ClassVar[str] = "expflow.data.sources.table:open_table"
    described: ClassVar[frozenset[str]] = DrawnSplitsSpec.described | {"image_size", "channels", "image"}

    path: Path | None = execution(
        None,
        description="Folder of the images, relative to the YAML file; by default what the site file says for `table`."
        " On the command line: --from.",
    )
    file: str = identity("table.csv", description="The table, seen from the folder; its first line names the columns.")
    image: str = identity("image", description="Column with the path of each image, seen from the folder.")
    label: str = identity("", description="Column with the class of each image (classification, multitask).")
    labels: str = identity(
        "",
        description="Column with the classes of each image, separated by spaces or semicolons (multilabel).",
    )
    target: tuple[str, ...] = identity((), description="Columns with numbers that are predicted (regression).")
    group: str = identity(
        "",
        description="Column with what several images share, such as a subject or a photograph; no group is in two"
        " splits.",
    )
    split: str = identity("", description="Column with train, val or test; what it says is not drawn.")
    image_size: int = identity(
        64, description="Height and width: the shorter side is resized to it, the longer cut to it.", ge=1, le=65_536
    )
    channels: Literal[1, 3] = identity(3, description="3 for colour, 1 for grey.")

    @model_validator(mode="after")
    def _cut_to_a_square(self) -> Self:
        if self.letterbox:
            raise FieldError("letterbox", "a table's images are stored cut to a square; leave it out")
        return self

    def origin(self, folder: Path | None, site_path: Path | str | None) -> Origin:
        """Return the folder of table and images. Raises DataMissing."""
        origin = locate_files("table", self.path, folder, site_path)
        if origin is None:
            raise DataMissing("no folder is given: write data.path in the experiment", key="data.path")
        return origin

    def stamps(self, origin: Origin) -> list[list[object]]:
        """Return path, size and time of change of the table and of each image that it names."""
        from expflow.data.sources.table_file import table_stats

        return table_stats(Path(str(origin)), self.file, self.image)
