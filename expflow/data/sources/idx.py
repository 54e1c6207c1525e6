"""MNIST and Fashion-MNIST: the IDX files that LeCun defined, packed as they are published."""

from __future__ import annotations

import gzip
import hashlib
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from expflow.data.source_spec import Origin
from expflow.data.sources import checksums
from expflow.data.sources.base import SampleRef, SampleSource, draw_splits, image_fields, local_folder
from expflow.data.specs import FashionMNISTSpec, MNISTSpec
from expflow.errors import DataInvalid, DataMissing
from expflow.files import open_regular, read_bounded

_LARGEST = 256 * 2**20
"""Bytes of a file that are read, packed or not; the largest of these sets has 47 million."""

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist puts its files, which it packed anew."""

FOLDERS = ("", "raw", "MNIST/raw", "FashionMNIST/raw")
"""Where the files lie below a source's folder, as they are downloaded or as torchvision keeps them."""

PARTS = {"train": "train", "test": "t10k"}
IMAGES, LABELS = "{}-images-idx3-ubyte.gz", "{}-labels-idx1-ubyte.gz"
CLASSES = {
    "mnist": tuple("0123456789"),
    "fashion_mnist": (
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
}
SHA256 = {
    "mnist": {},
    "fashion_mnist": {
        "t10k-images-idx3-ubyte.gz": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "t10k-labels-idx1-ubyte.gz": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        "train-images-idx3-ubyte.gz": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "train-labels-idx1-ubyte.gz": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    },
}
"""Hashes of the unpacked content, for files that were packed by others than their publisher."""


@dataclass(frozen=True)
class IdxFiles:
    """Where a set's files are fetched from.

    Attributes:
        addresses: URLs of the folders that have them.
        md5: maps each file's name to its hash, as it is packed there.
    """

    addresses: tuple[str, ...]
    md5: Mapping[str, str]


def published_files(name: str) -> IdxFiles:
    """Return what torchvision knows about a set's files.

    Args:
        name: ``mnist`` or ``fashion_mnist``.
    """
    from torchvision import datasets

    dataset = {"mnist": datasets.MNIST, "fashion_mnist": datasets.FashionMNIST}[name]
    return IdxFiles(tuple(dataset.mirrors), dict(dataset.resources))


def open_mnist(spec: MNISTSpec, origin: Origin) -> SampleSource:
    """Open MNIST as :func:`open_idx` does.

    Args:
        spec: the recipe's source.
        origin: folder of its files.
    """
    return open_idx(spec, origin)


def open_fashion_mnist(spec: FashionMNISTSpec, origin: Origin) -> SampleSource:
    """Open Fashion-MNIST as :func:`open_idx` does.

    Args:
        spec: the recipe's source.
        origin: folder of its files; None takes those of Debian's package, where it is installed.
    """
    return open_idx(spec, DEBIAN if origin is None and DEBIAN.is_dir() else origin)


def open_idx(spec: MNISTSpec | FashionMNISTSpec, origin: Origin) -> SampleSource:
    """Read the four files; val is drawn from train, and test is the official one.

    Args:
        spec: the recipe's source.
        origin: folder of the files.

    Raises:
        DataMissing: one is not there.
        DataInvalid: one is not what was published.
    """
    root = local_folder(origin, spec.name, spec.where)
    known = published_files(spec.name)
    images: list[NDArray[np.uint8]] = []
    items: dict[str, list[SampleRef]] = {}
    for split, part in PARTS.items():
        pixels_nhw = _read(spec.name, root, IMAGES.format(part), known, 3)
        labels = _read(spec.name, root, LABELS.format(part), known, 1)
        if len(labels) != len(pixels_nhw):
            raise DataInvalid(f"{root}: {len(pixels_nhw)} images and {len(labels)} labels of {part}")
        before = sum(map(len, images))
        items[split] = [SampleRef(str(before + number), int(label)) for number, label in enumerate(labels)]
        images.append(pixels_nhw)
    return _source(spec, np.concatenate(images), items)


def _source(
    spec: MNISTSpec | FashionMNISTSpec, images_nhw: NDArray[np.uint8], items: Mapping[str, list[SampleRef]]
) -> SampleSource:
    def read(item: SampleRef) -> Mapping[str, Any]:
        return {"image": images_nhw[int(item.name), :, :, None], "label": item.label}

    return SampleSource(
        classes=CLASSES[spec.name],
        splits=draw_splits(items["train"], {"val": spec.val_fraction}, spec.split_seed, {"test": items["test"]}),
        read=read,
        **image_fields(1, *images_nhw.shape[1:]),
    )


def _read(name: str, root: Path, file: str, known: IdxFiles, axes: int) -> NDArray[np.uint8]:
    path = checksums.find_file(root, FOLDERS, file)
    if path is None:
        raise DataMissing(f"no {file} in {root}; run `expflow data build {name}` without --from to fetch it")
    try:
        with open_regular(path) as packed, gzip.open(packed) as unpacked:
            content = unpacked.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise OSError(f"more than {_LARGEST} bytes come out of it")
    except (OSError, EOFError, zlib.error) as error:
        raise DataInvalid(f"{path}: damaged ({error}); get the file again") from error
    if hashlib.sha256(content).hexdigest() != SHA256[name].get(file):
        checksums.check_md5(path, read_bounded(path, _LARGEST), known.md5[file])
    return parse_idx(path, content, axes)


def parse_idx(path: Path, content: bytes, axes: int) -> NDArray[np.uint8]:
    """Parse an IDX file that holds an array of bytes.

    Args:
        path: the file, for messages.
        content: its bytes, unpacked.
        axes: number of axes that the array must have.

    Raises:
        DataInvalid: it is no such file.
    """
    head = struct.calcsize(f">4B{axes}I")
    if len(content) >= head:
        *magic, sizes = *struct.unpack_from(">4B", content), struct.unpack_from(f">{axes}I", content, 4)
        if magic == [0, 0, 8, axes] and len(content) == head + int(np.prod(sizes)):
            return np.frombuffer(content, dtype=np.uint8, offset=head).reshape(sizes)
    raise DataInvalid(f"{path}: no IDX file of {axes} axes of bytes; get the file again")


def fetch(name: str, folder: Path) -> Path:
    """Download the four files of a set, unless they came with the system's packages.

    Args:
        name: ``mnist`` or ``fashion_mnist``.
        folder: where they are put.

    Returns:
        The folder in which they are.

    Raises:
        DataMissing: one cannot be fetched.
    """
    if name == "fashion_mnist" and DEBIAN.is_dir():
        return DEBIAN
    known = published_files(name)
    for file, md5 in known.md5.items():
        checksums.download([f"{address}{file}" for address in known.addresses], folder, file, md5)
    return folder
