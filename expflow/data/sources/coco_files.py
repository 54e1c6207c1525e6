"""Where a folder has COCO's files of annotations, and the images that they name. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FORMS = (
    "annotations/instances_train2017.json with train2017/ (COCO's own), train.json with images/ or train/, or"
    " train/_annotations.coco.json with its images beside it"
)
"""What is looked for, in words."""

SPLITS = {"train": ("train",), "val": ("val", "valid"), "test": ("test",)}
"""Split to what its files may be called."""


@dataclass(frozen=True)
class AnnotatedSplit:
    """The files of one split.

    Attributes:
        annotations: the JSON file.
        images: the folder in which its images lie.
    """

    annotations: Path
    images: Path


def annotated_splits(root: Path, *, points: bool = False) -> dict[str, AnnotatedSplit]:
    """Return split to its files; where one file alone is not of a split, it is train.

    Args:
        root: the folder.
        points: whether COCO's own files of people's keypoints go before those of objects.
    """
    splits = {}
    for split, names in SPLITS.items():
        for name in names:
            if (path := _annotations(root, name, points)) is not None:
                splits[split] = AnnotatedSplit(path, _images(root, path, name))
                break
    if not splits:
        for path in (root / "_annotations.coco.json", root / "annotations.json"):
            if path.is_file():
                return {"train": AnnotatedSplit(path, _images(root, path, ""))}
    return splits


def _annotations(root: Path, name: str, points: bool) -> Path | None:
    kinds = ("person_keypoints", "instances") if points else ("instances",)
    own = [path for kind in kinds for path in sorted((root / "annotations").glob(f"{kind}_{name}*.json"))]
    others = [root / "annotations" / f"{name}.json", root / f"{name}.json", root / name / "_annotations.coco.json"]
    return next((path for path in (*own, *others) if path.is_file()), None)


def _images(root: Path, annotations: Path, name: str) -> Path:
    """The folder of the images: what the file's own name ends in, as train2017, or one of the usual ones."""
    year = annotations.stem.removeprefix("instances_").removeprefix("person_keypoints_")
    if annotations.name == "_annotations.coco.json":
        return annotations.parent
    places = [root / year, root / "images" / year, root / name / "images", root / "images" / name, root / name]
    return next((place for place in places if place.is_dir() and place != root), root / "images")


def file_stamps(root: Path, *, points: bool = False) -> list[list[object]]:
    """Return the state of the files of annotations and of the folders of images.

    Args:
        root: the folder.
        points: as in :func:`annotated_splits`.
    """
    stamps: list[list[object]] = []
    for files in annotated_splits(root, points=points).values():
        for path in (files.annotations, files.images):
            stat = path.stat() if path.exists() else None
            size = stat.st_size if stat is not None and path.is_file() else 0
            stamps.append([path.relative_to(root).as_posix(), size, stat.st_mtime_ns if stat is not None else 0])
    return stamps
