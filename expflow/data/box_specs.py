"""Arguments of the sources whose images have boxes. Torch-free: they are in :mod:`expflow.data.sources`."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import model_validator

from expflow.config.spec import FieldError, identity
from expflow.data.source_spec import DrawnSplitsSpec, ImageFilesSpec, LocatedFilesSpec, Origin


class CocoSpec(ImageFilesSpec, LocatedFilesSpec, DrawnSplitsSpec):
    """Photographs with boxes in COCO's JSON files: COCO itself (Lin et al. 2014), or a folder of one's own.

    annotations/instances_train2017.json with train2017/, train.json with images/, or train/_annotations.coco.json with
    its images beside it. A val or test without a file is drawn from train.
    """

    build: ClassVar[str] = "expflow.data.sources.coco:open_coco"
    described: ClassVar[frozenset[str]] = DrawnSplitsSpec.described | {"truth", "channels"}
    where: ClassVar[str] = (
        "get train2017.zip, val2017.zip and annotations_trainval2017.zip from https://cocodataset.org/#download and"
        " unpack them into one folder, or name a folder of your own with such files"
    )

    truth: Literal["boxes", "instances", "keypoints"] = identity(
        "boxes",
        description="boxes; instances: boxes, and which object each pixel is of, from the outlines; or keypoints:"
        " boxes, and the points of each object that its category names.",
    )
    mirrored_points: tuple[tuple[str, str], ...] = identity(
        (),
        description="Pairs of keypoints, by their names, that are exchanged in a mirrored image, beside those whose"
        " names differ in left and right.",
    )
    channels: Literal[1, 3] = identity(3, description="3 for colour, 1 for grey.")

    def stamps(self, origin: Origin) -> list[list[object]]:
        """Return the state of the files of annotations and of the folders of images."""
        from expflow.data.sources.coco_files import file_stamps

        if not isinstance(origin, Path):
            return []
        return [[str(origin), 0, 0], *file_stamps(origin, points=self.truth == "keypoints")]

    @model_validator(mode="after")
    def _pairs_need_points(self) -> Self:
        if self.mirrored_points and self.truth != "keypoints":
            raise FieldError("mirrored_points", "is of keypoints, and these data have none; set truth: keypoints")
        return self


class TreeCrownsSpec(LocatedFilesSpec):
    """951 tree crowns in 4 aerial photographs, in tiles: a small detection task of real images.

    They come with the Python package deepforest (Weinstein et al. 2020), out of whose archive they are read; nothing is
    installed. Train, val and test are different photographs, the last two of them of other forests.
    """

    build: ClassVar[str] = "expflow.data.sources.tree_crowns:open_tree_crowns"
    described: ClassVar[frozenset[str]] = frozenset({"side"})
    fetched: ClassVar[str] = "expflow.data.sources.tree_crowns:fetch"
    where: ClassVar[str] = (
        "`expflow data build tree_crowns` gets them with pip, or put deepforest-2.1.0-py3-none-any.whl into a folder"
    )

    side: int = identity(128, description="Height and width of a tile, in pixels.", ge=64, le=400)


class NucleiSpec(LocatedFilesSpec):
    """125 nuclei in one image of a fluorescence microscope, in tiles: small instances that touch each other.

    They come with the Python package stardist (Schmidt et al. 2018), out of whose archive they are read; nothing is
    installed. Train is the left half of the image, val and test are the quarters beside it.
    """

    build: ClassVar[str] = "expflow.data.sources.nuclei:open_nuclei"
    described: ClassVar[frozenset[str]] = frozenset({"side", "truth"})
    fetched: ClassVar[str] = "expflow.data.sources.nuclei:fetch"
    where: ClassVar[str] = (
        "`expflow data build nuclei` gets it with pip, or put stardist-0.9.2-cp311-cp311-manylinux_2_24_x86_64."
        "manylinux_2_28_x86_64.whl into a folder"
    )

    side: int = identity(64, description="Height and width of a tile, in pixels.", ge=32, le=128)
    truth: Literal["masks", "boxes", "instances"] = identity(
        "instances",
        description="masks: whether each pixel is of a nucleus; boxes: a box around each; instances: boxes, and which"
        " nucleus each pixel is of.",
    )
