"""ImageNet in the layouts in which people keep it (:mod:`.imagenet_layout`).

Nothing is unpacked: an archive's headers are read once, and then each image by its place in it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from operator import attrgetter
from pathlib import Path

from expflow.data.shards.files import memory_mapped
from expflow.data.shards.passed_over import PassedOver
from expflow.data.shards.tar import members
from expflow.data.source_spec import Origin
from expflow.data.sources.base import SampleRef, SampleSource, draw_splits, file_fields, local_folder, printable
from expflow.data.sources.image_files import ImageFileReader
from expflow.data.sources.imagenet_devkit import official_labels, synset_names
from expflow.data.sources.imagenet_layout import SYNSET, WHOLE, SplitLocation, find_train, find_val
from expflow.data.sources.listing import IMAGES, litter_reason
from expflow.data.specs import ImageNet22kSpec, ImageNetSpec
from expflow.errors import DataInvalid, DataMissing

Files = dict[str, list[SampleRef]]
"""Maps each synset to its images; "" to those whose synsets are not known yet. Labels are not set."""


def open_imagenet(spec: ImageNetSpec, origin: Origin) -> SampleSource:
    """Open ILSVRC-2012: the official validation set is test and val is drawn from train, unless ``val: official``.

    Args:
        spec: the recipe's source.
        origin: folder of its files.

    Raises:
        DataMissing: the images of train or of the validation set are not there.
        DataInvalid: they are not what they should be.
    """
    root = local_folder(origin, spec.name, spec.where)
    train, val = find_train(root), find_val(root)
    if train is None:
        raise DataMissing(f"no training images in {root}: expected train/ or ILSVRC2012_img_train.tar; {spec.where}")
    if val is None:
        raise DataMissing(f"no validation images in {root}: expected val/ or ILSVRC2012_img_val.tar; {spec.where}")
    passed_over = PassedOver()
    files = list_split(root, train, passed_over)
    synsets = tuple(sorted(files))
    official = _labelled(_sorted_val(root, val, synsets, passed_over), synsets)
    fractions = {} if spec.val == "official" else {"val": spec.val_fraction}
    given = {"val" if spec.val == "official" else "test": official}
    splits = draw_splits(_labelled(files, synsets), fractions, spec.split_seed, given)
    return _source(spec, root, synsets, splits, passed_over)


def open_imagenet22k(spec: ImageNet22kSpec, origin: Origin) -> SampleSource:
    """Open ImageNet-22k, of which val and test are drawn.

    Args:
        spec: the recipe's source.
        origin: folder of its files.

    Raises:
        DataMissing: the images are not there.
        DataInvalid: they are not what they should be.
    """
    root = local_folder(origin, spec.name, spec.where)
    location = find_train(root, WHOLE)
    if location is None:
        raise DataMissing(f"no images in {root}: expected a folder or a tar per synset; {spec.where}")
    passed_over = PassedOver()
    files = list_split(root, location, passed_over)
    synsets = tuple(sorted(files))
    fractions = {"val": spec.val_fraction, "test": spec.test_fraction}
    splits = draw_splits(_labelled(files, synsets), fractions, spec.split_seed)
    return _source(spec, root, synsets, splits, passed_over)


def _source(
    spec: ImageNetSpec | ImageNet22kSpec,
    root: Path,
    synsets: tuple[str, ...],
    splits: Mapping[str, Sequence[SampleRef]],
    passed_over: PassedOver,
) -> SampleSource:
    return SampleSource(
        classes=synset_names(root, synsets),
        synsets=synsets,
        splits=splits,
        read=ImageFileReader(root, 3, spec.max_side, spec.quality, restarts=spec.restart_markers),
        portable=True,
        passed_over=passed_over,
        **file_fields(3),
    )


def _labelled(files: Files, synsets: Sequence[str]) -> list[SampleRef]:
    """The images in the order of their synsets, each with its class."""
    number = {synset: position for position, synset in enumerate(synsets)}
    return [replace(image, label=number[synset]) for synset in synsets for image in files.get(synset, ())]


def _sorted_val(root: Path, val: SplitLocation, synsets: Sequence[str], passed_over: PassedOver) -> Files:
    """The validation images by synset. Raises DataInvalid where they or their labels are not those of ``synsets``."""
    files = list_split(root, val, passed_over)
    if "" in files:
        images = files[""]
        labels = official_labels(root, [Path(image.name).name for image in images])
        files = {}
        for image, synset in zip(images, labels, strict=True):
            files.setdefault(synset, []).append(image)
    if unknown := sorted(set(files) - set(synsets)):
        raise DataInvalid(
            f"{root / val.path}: {len(unknown)} synsets that are not in train, such as {', '.join(unknown[:3])}"
        )
    return files


def list_split(root: Path, location: SplitLocation, passed_over: PassedOver) -> Files:
    """List the images of a split, each synset's in the order of their names.

    Args:
        root: the source's folder.
        location: where the split's images lie.
        passed_over: what lies among them and is not read is added to it.

    Raises:
        DataInvalid: an archive is damaged, or a synset has no images.
    """
    path = location.path
    if location.kind == "folders":
        files = {synset: _in_folder(root, f"{path}/{synset}".lstrip("/"), passed_over) for synset in location.synsets}
        _pass_over_beside(root, location, passed_over)
    elif location.kind == "tars":
        files = {synset: _in_tar(root, f"{path}/{synset}.tar".lstrip("/"), passed_over) for synset in location.synsets}
        _pass_over_beside(root, location, passed_over)
    elif location.kind == "archive":
        files = _in_archive(root, path, passed_over)
    else:
        flat = _in_folder(root, path, passed_over) if location.kind == "flat" else _in_tar(root, path, passed_over)
        files = {"": sorted(flat, key=lambda image: Path(image.name).name)}
    if empty := sorted(synset for synset, images in files.items() if not images):
        places = ", ".join(f"{path}/{synset}".strip("/") for synset in empty[:5])
        raise DataInvalid(f"{root}: no images in {places}; put them there, or remove it")
    return files


def _in_folder(root: Path, folder: str, passed_over: PassedOver) -> list[SampleRef]:
    images, others = [], []
    for path in (root / folder).iterdir():
        if path.suffix.lower() in IMAGES and not litter_reason(path):
            stat = path.stat()
            images.append(SampleRef(f"{folder}/{path.name}", 0, stat.st_size, stat.st_mtime_ns))
        else:
            others.append(path)
    for path in sorted(others):
        _pass_over(root, path, litter_reason(path) or "files that are no images by their names", passed_over)
    return sorted(images, key=attrgetter("name"))


def _pass_over_beside(root: Path, location: SplitLocation, passed_over: PassedOver) -> None:
    """Count what lies beside the folders or tars of synsets; at the root of the source other things may lie as well."""
    suffix = ".tar" if location.kind == "tars" else ""
    read = {f"{synset}{suffix}" for synset in location.synsets}
    for path in sorted((root / location.path).iterdir()) if location.path else ():
        if path.name not in read:
            _pass_over(root, path, litter_reason(path) or "files that lie in no synset's folder", passed_over)


def _pass_over(root: Path, path: Path, reason: str, passed_over: PassedOver) -> None:
    """Count a file, or all that a folder holds."""
    name = path.relative_to(root).as_posix()
    if not path.is_dir():
        passed_over.add(reason, name)
    elif count := sum(len(files) for _, _, files in os.walk(path)):
        passed_over.add(reason, f"{name}/", count)


def _in_tar(root: Path, archive: str, passed_over: PassedOver) -> list[SampleRef]:
    with _archive(root / archive) as content:
        return sorted(_images(root, archive, content, 0, len(content), passed_over), key=attrgetter("name"))


def _in_archive(root: Path, archive: str, passed_over: PassedOver) -> Files:
    """The images in a tar of one tar per synset."""
    files: Files = {}
    with _archive(root / archive) as content:
        for name, offset, size in members(content):
            synset = Path(name).stem
            if not (SYNSET.fullmatch(synset) and name.endswith(".tar")):
                raise DataInvalid(f"{root / archive}: member {printable(name)!r} is no tar of a synset")
            images = _images(root, archive, content, offset, offset + size, passed_over)
            files[synset] = sorted(images, key=attrgetter("name"))
    if not files:
        raise DataInvalid(f"{root / archive}: no tars of synsets in it")
    return files


def _images(
    root: Path, archive: str, content: memoryview, first: int, end: int, passed_over: PassedOver
) -> Iterator[SampleRef]:
    mtime = (root / archive).stat().st_mtime_ns
    for name, offset, size in members(content[:end], start=first):
        if ".." in name.split("/") or name.startswith("/"):
            raise DataInvalid(f"{root / archive}: member {printable(name)!r} leads out of the archive; it is refused")
        if Path(name).suffix.lower() in IMAGES:
            yield SampleRef(name, 0, size, mtime, archive, offset)
        else:
            passed_over.add("members that are no images by their names", f"{archive}: {name}")


@contextmanager
def _archive(path: Path) -> Iterator[memoryview]:
    """Give an archive's content. Raises DataInvalid where it, or what is read from it, is damaged."""
    try:
        with memory_mapped(path) as content:
            yield content
    except ValueError as error:
        raise DataInvalid(f"{path}: damaged ({error}); get it again") from error
