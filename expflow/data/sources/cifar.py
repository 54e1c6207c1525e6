"""CIFAR-10 and CIFAR-100 from the pickled batches as they are published, of which nothing is executed."""

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

from expflow.data.sources import checked
from expflow.data.sources.base import Item, Origin, Source, draw_splits, here, image_fields
from expflow.data.specs import CIFAR10, CIFAR100
from expflow.errors import DataInvalid, DataMissing

SIDE = 32


@dataclass(frozen=True)
class Published:
    """One set's archive, the folder in it, and its files with their md5."""

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
        """All files with their md5."""
        return dict((*self.train, *self.test, self.names))


def published(name: str) -> Published:
    """What torchvision knows about the set ``name``."""
    from torchvision import datasets

    found = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]
    return Published(
        address=found.url,
        archive=found.filename,
        md5=found.tgz_md5,
        folder=found.base_folder,
        train=tuple((file, md5) for file, md5 in found.train_list),
        test=tuple((file, md5) for file, md5 in found.test_list),
        names=(found.meta["filename"], found.meta["md5"]),
        labels=b"labels" if name == "cifar10" else b"fine_labels",
        class_names=found.meta["key"],
    )


def open_cifar10(spec: CIFAR10, origin: Origin) -> Source:
    """CIFAR-10. Raises DataMissing and DataInvalid as :func:`open_cifar`."""
    return open_cifar(spec, origin)


def open_cifar100(spec: CIFAR100, origin: Origin) -> Source:
    """CIFAR-100 with its hundred fine labels. Raises as :func:`open_cifar`."""
    return open_cifar(spec, origin)


def open_cifar(spec: CIFAR10 | CIFAR100, origin: Origin) -> Source:
    """The batches below ``origin``, packed or not; val is drawn from train, and test is the official one.

    Raises DataMissing where one is not there, DataInvalid where one is not what was published.
    """
    root = here(origin, spec.name, spec.where)
    known = published(spec.name)
    contents = _contents(root, known, spec.name)
    images: list[NDArray[np.uint8]] = []
    items: dict[str, list[Item]] = {"train": [], "test": []}
    for split, files in (("train", known.train), ("test", known.test)):
        for file, _ in files:
            pixels_nhwc, labels = _batch(root, file, contents[file], known)
            before = sum(map(len, images))
            items[split] += [Item(str(before + number), label) for number, label in enumerate(labels)]
            images.append(pixels_nhwc)
    names = _unpickled(root, known.names[0], contents[known.names[0]]).get(known.class_names.encode(), [])
    return _source(spec, np.concatenate(images), items, tuple(map(_text, names)))


def _source(
    spec: CIFAR10 | CIFAR100, images_nhwc: NDArray[np.uint8], items: Mapping[str, list[Item]], classes: tuple[str, ...]
) -> Source:
    def read(item: Item) -> Mapping[str, Any]:
        return {"image": images_nhwc[int(item.name)], "label": item.label}

    drawn = draw_splits(items["train"], {"val": spec.val_fraction}, spec.split_seed, {"test": items["test"]})
    return Source(classes=classes, splits=drawn, read=read, **image_fields(3, SIDE, SIDE))


def _contents(root: Path, known: Published, name: str) -> dict[str, bytes]:
    """The files by name, each checked."""
    files = known.files
    folders = ("", known.folder)
    if all(checked.find(root, folders, file) for file in files):
        paths = {file: checked.find(root, folders, file) or root for file in files}
        return {file: checked.check(path, path.read_bytes(), files[file]) for file, path in paths.items()}
    archive = root / known.archive
    if not archive.is_file():
        raise DataMissing(
            f"neither {known.folder}/ nor {known.archive} in {root}; run `expflow data build {name}` without --from to"
            " fetch it"
        )
    return _unpacked(archive, files)


def _unpacked(archive: Path, files: Mapping[str, str]) -> dict[str, bytes]:
    contents = {}
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                name = Path(member.name).name
                if name in files and member.isreg() and (file := tar.extractfile(member)) is not None:
                    contents[name] = checked.check(archive / name, file.read(), files[name])
    except (tarfile.TarError, OSError, EOFError) as error:
        raise DataInvalid(f"{archive}: damaged ({error}); get the file again") from error
    if missing := sorted(set(files) - set(contents)):
        raise DataInvalid(f"{archive}: it lacks {', '.join(missing)}; get the file again")
    return contents


def _batch(root: Path, file: str, content: bytes, known: Published) -> tuple[NDArray[np.uint8], list[int]]:
    """Images (batch, height, width, channels) and labels of one file."""
    batch = _unpickled(root, file, content)
    rows, labels = np.asarray(batch.get(b"data")), batch.get(known.labels) or []
    if rows.dtype != np.uint8 or rows.shape[1:] != (3 * SIDE * SIDE,) or not _fit(labels, len(rows)):
        raise DataInvalid(f"{root}: {file} holds no batch of images with {known.labels.decode()}; get it again")
    return rows.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1), labels


def _fit(labels: object, count: int) -> bool:
    return isinstance(labels, list) and len(labels) == count and all(type(label) is int for label in labels)


class _Plain(pickle.Unpickler):
    """Reads numpy arrays, and Python's lists, dictionaries, bytes and numbers. Any other name is refused."""

    def find_class(self, module: str, name: str) -> Any:
        """What an array's pickle refers to, and nothing else."""
        if (module, name) == ("_codecs", "encode"):
            return _encode
        if name == "_reconstruct" and module in ("numpy.core.multiarray", "numpy._core.multiarray"):
            return _reconstruct
        if module == "numpy" and name in ("ndarray", "dtype"):
            return getattr(np, name)
        raise pickle.UnpicklingError(f"it refers to {module}.{name}, which no batch of images needs")


def _encode(text: str, encoding: str) -> bytes:
    """How protocol 2 writes bytes."""
    return text.encode("latin1")


def _reconstruct(kind: type, shape: tuple[int, ...], dtype: bytes) -> NDArray[Any]:
    """An empty array, which its state then fills; an array of objects could hold anything."""
    return np.ndarray(shape, np.dtype(dtype.decode("ascii")))


def _unpickled(root: Path, file: str, content: bytes) -> dict[bytes, Any]:
    """The mapping that one file holds. Raises DataInvalid, without running anything, where it wants more than data."""
    try:
        found = _Plain(io.BytesIO(content), encoding="bytes").load()
    except Exception as error:  # a pickle of broken bytes raises anything
        raise DataInvalid(f"{root}: {file} is refused: {error}") from error
    if not isinstance(found, dict):
        raise DataInvalid(f"{root}: {file} holds a {type(found).__name__}, expected a mapping; get it again")
    return {key.encode() if isinstance(key, str) else key: value for key, value in found.items()}


def _text(name: object) -> str:
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)


def fetch(name: str, folder: Path) -> Path:
    """Download the archive of the set ``name`` into ``folder``. Raises DataMissing."""
    known = published(name)
    checked.fetch([known.address], folder, known.archive, known.md5)
    return folder
