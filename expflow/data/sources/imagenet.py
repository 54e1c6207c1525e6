"""ImageNet as people have it: folders or tars per synset, flat or sorted validation images, or the original archives.

Nothing is unpacked: an archive's headers are read once, and then each image by its place in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from expflow.data.read import mapped
from expflow.data.sources.base import Item, Origin, Source, draw_splits, file_fields, here, printable
from expflow.data.sources.devkit import official_labels, synset_names
from expflow.data.sources.encoded import FileReader
from expflow.data.sources.layout import SYNSET, WHOLE, Found, find_train, find_val
from expflow.data.sources.listing import IMAGES
from expflow.data.specs import ImageNet, ImageNet22k
from expflow.data.tar import members
from expflow.errors import DataInvalid, DataMissing

Files = dict[str, list[Item]]
"""The images of each synset; of "" where their synsets are not known yet. Labels are not set."""


def open_imagenet(spec: ImageNet, origin: Origin) -> Source:
    """ILSVRC-2012: the official validation set is test and val is drawn from train, unless ``val: official``.

    Raises DataMissing where a part is not there, DataInvalid where it is not what it should be.
    """
    root = here(origin, spec.name, spec.where)
    train, val = find_train(root), find_val(root)
    if train is None:
        raise DataMissing(f"no training images in {root}: expected train/ or ILSVRC2012_img_train.tar; {spec.where}")
    if val is None:
        raise DataMissing(f"no validation images in {root}: expected val/ or ILSVRC2012_img_val.tar; {spec.where}")
    files = files_of(root, train)
    synsets = tuple(sorted(files))
    official = _labelled(_sorted_val(root, val, synsets), synsets)
    fractions = {} if spec.val == "official" else {"val": spec.val_fraction}
    given = {"val" if spec.val == "official" else "test": official}
    return _source(spec, root, synsets, draw_splits(_labelled(files, synsets), fractions, spec.split_seed, given))


def open_imagenet22k(spec: ImageNet22k, origin: Origin) -> Source:
    """ImageNet-22k: val and test are drawn. Raises DataMissing and DataInvalid as :func:`open_imagenet`."""
    root = here(origin, spec.name, spec.where)
    found = find_train(root, WHOLE)
    if found is None:
        raise DataMissing(f"no images in {root}: expected a folder or a tar per synset; {spec.where}")
    files = files_of(root, found)
    synsets = tuple(sorted(files))
    fractions = {"val": spec.val_fraction, "test": spec.test_fraction}
    return _source(spec, root, synsets, draw_splits(_labelled(files, synsets), fractions, spec.split_seed))


def _source(
    spec: ImageNet | ImageNet22k, root: Path, synsets: tuple[str, ...], splits: Mapping[str, Sequence[Item]]
) -> Source:
    return Source(
        classes=synset_names(root, synsets),
        synsets=synsets,
        splits=splits,
        read=FileReader(root, 3, spec.max_side, spec.quality, restarts=spec.restart_markers),
        portable=True,
        **file_fields(3),
    )


def _labelled(files: Files, synsets: Sequence[str]) -> list[Item]:
    """The images in the order of their synsets, each with its class."""
    number = {synset: position for position, synset in enumerate(synsets)}
    return [
        Item(each.name, number[synset], each.size, each.mtime_ns, each.archive, each.offset)
        for synset in synsets
        for each in files.get(synset, ())
    ]


def _sorted_val(root: Path, val: Found, synsets: Sequence[str]) -> Files:
    """The validation images by synset. Raises DataInvalid where they or their labels are not those of ``synsets``."""
    files = files_of(root, val)
    if "" in files:
        images = files[""]
        labels = official_labels(root, [Path(each.name).name for each in images])
        files = {}
        for each, synset in zip(images, labels, strict=True):
            files.setdefault(synset, []).append(each)
    if strangers := sorted(set(files) - set(synsets)):
        raise DataInvalid(
            f"{root / val.path}: {len(strangers)} synsets that are not in train, such as {', '.join(strangers[:3])}"
        )
    return files


def files_of(root: Path, found: Found) -> Files:
    """The images of a split, each synset's in the order of their names. Raises DataInvalid at one without images."""
    if found.kind == "folders":
        files = {each: _in_folder(root, f"{found.path}/{each}".lstrip("/")) for each in found.synsets}
    elif found.kind == "tars":
        files = {each: _in_tar(root, f"{found.path}/{each}.tar".lstrip("/")) for each in found.synsets}
    elif found.kind == "archive":
        files = _in_archive(root, found.path)
    else:
        flat = _in_folder(root, found.path) if found.kind == "flat" else _in_tar(root, found.path)
        files = {"": sorted(flat, key=lambda each: Path(each.name).name)}
    if empty := sorted(each for each, images in files.items() if not images):
        places = ", ".join(f"{found.path}/{each}".strip("/") for each in empty[:5])
        raise DataInvalid(f"{root}: no images in {places}; put them there, or remove it")
    return files


def _in_folder(root: Path, folder: str) -> list[Item]:
    found = []
    for path in (root / folder).iterdir():
        if path.suffix.lower() in IMAGES and not path.name.startswith("."):
            stat = path.stat()
            found.append(Item(f"{folder}/{path.name}", 0, stat.st_size, stat.st_mtime_ns))
    return sorted(found, key=lambda each: each.name)


def _in_tar(root: Path, archive: str) -> list[Item]:
    with _archive(root / archive) as content:
        return sorted(_images(root, archive, content, 0, len(content)), key=lambda each: each.name)


def _in_archive(root: Path, archive: str) -> Files:
    """The images in a tar of one tar per synset."""
    files: Files = {}
    with _archive(root / archive) as content:
        for name, offset, size in members(content):
            synset = Path(name).stem
            if not (SYNSET.fullmatch(synset) and name.endswith(".tar")):
                raise DataInvalid(f"{root / archive}: member {printable(name)!r} is no tar of a synset")
            files[synset] = sorted(_images(root, archive, content, offset, offset + size), key=lambda each: each.name)
    if not files:
        raise DataInvalid(f"{root / archive}: no tars of synsets in it")
    return files


def _images(root: Path, archive: str, content: memoryview, first: int, end: int) -> Iterator[Item]:
    mtime = (root / archive).stat().st_mtime_ns
    for name, offset, size in members(content[:end], start=first):
        if ".." in name.split("/") or name.startswith("/"):
            raise DataInvalid(f"{root / archive}: member {printable(name)!r} leads out of the archive; it is refused")
        if Path(name).suffix.lower() in IMAGES:
            yield Item(name, 0, size, mtime, archive, offset)


@contextmanager
def _archive(path: Path) -> Iterator[memoryview]:
    """An archive's content. Raises DataInvalid where it, or what is read from it, is damaged."""
    try:
        with mapped(path) as content:
            yield content
    except ValueError as error:
        raise DataInvalid(f"{path}: damaged ({error}); get it again") from error
