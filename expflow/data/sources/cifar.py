"""CIFAR-10 and CIFAR-100 from the pickled batches as they are published; nothing of the pickles is executed."""

from __future__ import annotations

import io
import pickle
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from expflow.data.source_spec import Origin
from expflow.data.sources import checksums
from expflow.data.sources.base import SampleRef, SampleSource, draw_splits, image_fields, local_folder
from expflow.data.specs import CIFAR10Spec, CIFAR100Spec
from expflow.errors import DataInvalid, DataMissing
from expflow.files import read_bounded

_LARGEST = 256 * 2**20
"""Bytes of a file that are read; the largest of these sets has 155 million."""

SIDE = 32


@dataclass(frozen=True)
class CifarFiles:
    """One set's archive, the folder in it, and its files with their md5.

    Attributes:
        address: URL of the archive.
        archive: name of the archive.
        md5: hash of the archive.
        folder: the folder in it.
        train: name and md5 of each batch of train.
        test: name and md5 of each batch of test.
        names: name and md5 of the file with the classes' names.
        labels: key of the labels in a batch.
        class_names: key of the classes' names in their file.
    """

    address: str
    archive: str
    md5: str
    folder: str
    train: tuple[tuple[str, str], ...]
    test: tuple[tuple[str, str], ...]
    names: tuple[str, str]
    labels: bytes
    class_names: str

    @property
    def files(self) -> dict[str, str]:
        """Maps each file's name to its md5."""
        return dict((*self.train, *self.test, self.names))


def published_files(name: str) -> CifarFiles:
    """Return what torchvision knows about a set's files.

    Args:
        name: ``cifar10`` or ``cifar100``.
    """
    from torchvision import datasets

    dataset = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]
    return CifarFiles(
        address=dataset.url,
        archive=dataset.filename,
        md5=dataset.tgz_md5,
        folder=dataset.base_folder,
        train=tuple((file, md5) for file, md5 in dataset.train_list),
        test=tuple((file, md5) for file, md5 in dataset.test_list),
        names=(dataset.meta["filename"], dataset.meta["md5"]),
        labels=b"labels" if name == "cifar10" else b"fine_labels",
        class_names=dataset.meta["key"],
    )


def open_cifar10(spec: CIFAR10Spec, origin: Origin) -> SampleSource:
    """Open CIFAR-10 as :func:`open_cifar` does.

    Args:
        spec: the recipe's source.
        origin: folder of its files.
    """
    return open_cifar(spec, origin)


def open_cifar100(spec: CIFAR100Spec, origin: Origin) -> SampleSource:
    """Open CIFAR-100 with its hundred fine labels, as :func:`open_cifar` does.

    Args:
        spec: the recipe's source.
        origin: folder of its files.
    """
    return open_cifar(spec, origin)


def open_cifar(spec: CIFAR10Spec | CIFAR100Spec, origin: Origin) -> SampleSource:
    """Read the batches, packed or not; val is drawn from train, and test is the official one.

    Args:
        spec: the recipe's source.
        origin: folder of the batches or of their archive.

    Raises:
        DataMissing: one is not there.
        DataInvalid: one is not what was published.
    """
    root = local_folder(origin, spec.name, spec.where)
    known = published_files(spec.name)
    contents = _contents(root, known, spec.name)
    images: list[NDArray[np.uint8]] = []
    items: dict[str, list[SampleRef]] = {"train": [], "test": []}
    for split, files in (("train", known.train), ("test", known.test)):
        for file, _ in files:
            pixels_nhwc, labels = _batch(root, file, contents[file], known)
            before = sum(map(len, images))
            items[split] += [SampleRef(str(before + number), label) for number, label in enumerate(labels)]
            images.append(pixels_nhwc)
    names = _unpickled(root, known.names[0], contents[known.names[0]]).get(known.class_names.encode(), [])
    return _source(spec, np.concatenate(images), items, tuple(map(_text, names)))


def _source(
    spec: CIFAR10Spec | CIFAR100Spec,
    images_nhwc: NDArray[np.uint8],
    items: Mapping[str, list[SampleRef]],
    classes: tuple[str, ...],
) -> SampleSource:
    def read(item: SampleRef) -> Mapping[str, Any]:
        return {"image": images_nhwc[int(item.name)], "label": item.label}

    drawn = draw_splits(items["train"], {"val": spec.val_fraction}, spec.split_seed, {"test": items["test"]})
    return SampleSource(classes=classes, splits=drawn, read=read, **image_fields(3, SIDE, SIDE))


def _contents(root: Path, known: CifarFiles, name: str) -> dict[str, bytes]:
    """The files by name, each checked."""
    files = known.files
    folders = ("", known.folder)
    if all(checksums.find_file(root, folders, file) for file in files):
        paths = {file: checksums.find_file(root, folders, file) or root for file in files}
        return {file: checksums.check_md5(path, _read(path), files[file]) for file, path in paths.items()}
    archive = root / known.archive
    if not archive.is_file():
        raise DataMissing(
            f"neither {known.folder}/ nor {known.archive} in {root}; run `expflow data build {name}` without --from to"
            " fetch it"
        )
    return _unpacked(archive, files)


def _read(path: Path) -> bytes:
    try:
        return read_bounded(path, _LARGEST)
    except OSError as error:
        raise DataInvalid(f"{path}: cannot be read ({error.strerror}); get the file again") from error


def _bounded(content: bytes) -> bytes:
    if len(content) > _LARGEST:
        raise tarfile.ReadError(f"a file of more than {_LARGEST} bytes")
    return content


def _unpacked(archive: Path, files: Mapping[str, str]) -> dict[str, bytes]:
    contents = {}
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                name = Path(member.name).name
                if name in files and member.isreg() and (file := tar.extractfile(member)) is not None:
                    content = _bounded(file.read(_LARGEST + 1))
                    contents[name] = checksums.check_md5(archive / name, content, files[name])
    except (tarfile.TarError, OSError, EOFError) as error:
        raise DataInvalid(f"{archive}: damaged ({error}); get the file again") from error
    if missing := sorted(set(files) - set(contents)):
        raise DataInvalid(f"{archive}: it lacks {', '.join(missing)}; get the file again")
    return contents


def _batch(root: Path, file: str, content: bytes, known: CifarFiles) -> tuple[NDArray[np.uint8], list[int]]:
    """Images (batch, height, width, channels) and labels of one file."""
    batch = _unpickled(root, file, content)
    rows, labels = np.asarray(batch.get(b"data")), batch.get(known.labels) or []
    if rows.dtype != np.uint8 or rows.shape[1:] != (3 * SIDE * SIDE,) or not _fit(labels, len(rows)):
        raise DataInvalid(f"{root}: {file} holds no batch of images with {known.labels.decode()}; get it again")
    return rows.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1), labels


def _fit(labels: object, count: int) -> bool:
    return isinstance(labels, list) and len(labels) == count and all(type(label) is int for label in labels)


class _ArrayUnpickler(pickle.Unpickler):
    """Unpickles numpy arrays, and Python's lists, dictionaries, bytes and numbers. Any other name is refused."""

    def find_class(self, module: str, name: str) -> Any:
        """Return what an array's pickle refers to, and refuse anything else."""
        if (module, name) == ("_codecs", "encode"):
            return _encode
        if name == "_reconstruct" and module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            return _reconstruct
        if module == "numpy" and name in ("ndarray", "dtype"):
            return getattr(np, name)
        raise pickle.UnpicklingError(f"it refers to {module}.{name}, which no batch of images needs")


def _encode(text: str, encoding: str) -> bytes:
    """What protocol 2 of pickle calls for bytes."""
    return text.encode("latin1")


def _reconstruct(kind: type, shape: tuple[int, ...], dtype: bytes) -> NDArray[Any]:
    """An empty array, which its state then fills; an array of objects could hold anything."""
    return np.ndarray(shape, np.dtype(dtype.decode("ascii")))


def _unpickled(root: Path, file: str, content: bytes) -> dict[bytes, Any]:
    """The mapping that one file holds. Raises DataInvalid, without running anything, where it wants more than data."""
    try:
        loaded = _ArrayUnpickler(io.BytesIO(content), encoding="bytes").load()
    except Exception as error:  # a pickle of broken bytes raises anything
        raise DataInvalid(f"{root}: {file} is refused: {error}") from error
    if not isinstance(loaded, dict):
        raise DataInvalid(f"{root}: {file} holds a {type(loaded).__name__}, expected a mapping; get it again")
    return {key.encode() if isinstance(key, str) else key: value for key, value in loaded.items()}


def _text(name: object) -> str:
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)


def fetch(name: str, folder: Path) -> Path:
    """Download the archive of a set.

    Args:
        name: ``cifar10`` or ``cifar100``.
        folder: where it is put.

    Returns:
        That folder.

    Raises:
        DataMissing: it cannot be fetched.
    """
    known = published_files(name)
    checksums.download([known.address], folder, known.archive, known.md5)
    return folder
