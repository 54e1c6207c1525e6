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

from expflow.data.sources import checked
from expflow.data.sources.base import Item, Origin, Source, draw_splits, here, image_fields
from expflow.data.specs import MNIST, FashionMNIST
from expflow.errors import DataInvalid, DataMissing

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
"""Of the unpacked content, for files that were packed by others than their publisher."""


@dataclass(frozen=True)
class Published:
    """Where a set's files are fetched from, and each one's md5 as it is packed there."""

    addresses: tuple[str, ...]
    md5: Mapping[str, str]


def published(name: str) -> Published:
    """What torchvision knows about the set ``name``."""
    from torchvision import datasets

    found = {"mnist": datasets.MNIST, "fashion_mnist": datasets.FashionMNIST}[name]
    return Published(tuple(found.mirrors), dict(found.resources))


def open_mnist(spec: MNIST, origin: Origin) -> Source:
    """MNIST. Raises DataMissing and DataInvalid as :func:`open_idx`."""
    return open_idx(spec, origin)


def open_fashion_mnist(spec: FashionMNIST, origin: Origin) -> Source:
    """Fashion-MNIST, from Debian's files where no others are named. Raises as :func:`open_idx`."""
    return open_idx(spec, DEBIAN if origin is None and DEBIAN.is_dir() else origin)


def open_idx(spec: MNIST | FashionMNIST, origin: Origin) -> Source:
    """The four files below ``origin``; val is drawn from train, and test is the official one.

    Raises DataMissing where one is not there, DataInvalid where one is not what was published.
    """
    root = here(origin, spec.name, spec.where)
    known = published(spec.name)
    images: list[NDArray[np.uint8]] = []
    items: dict[str, list[Item]] = {}
    for split, part in PARTS.items():
        pixels_nhw = _read(spec.name, root, IMAGES.format(part), known, 3)
        labels = _read(spec.name, root, LABELS.format(part), known, 1)
        if len(labels) != len(pixels_nhw):
            raise DataInvalid(f"{root}: {len(pixels_nhw)} images and {len(labels)} labels of {part}")
        before = sum(map(len, images))
        items[split] = [Item(str(before + number), int(label)) for number, label in enumerate(labels)]
        images.append(pixels_nhw)
    return _source(spec, np.concatenate(images), items)


def _source(spec: MNIST | FashionMNIST, images_nhw: NDArray[np.uint8], items: Mapping[str, list[Item]]) -> Source:
    def read(item: Item) -> Mapping[str, Any]:
        return {"image": images_nhw[int(item.name), :, :, None], "label": item.label}

    return Source(
        classes=CLASSES[spec.name],
        splits=draw_splits(items["train"], {"val": spec.val_fraction}, spec.split_seed, {"test": items["test"]}),
        read=read,
        **image_fields(1, *images_nhw.shape[1:]),
    )


def _read(name: str, root: Path, file: str, known: Published, axes: int) -> NDArray[np.uint8]:
    path = checked.find(root, FOLDERS, file)
    if path is None:
        raise DataMissing(f"no {file} in {root}; run `expflow data build {name}` without --from to fetch it")
    try:
        content = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise DataInvalid(f"{path}: damaged ({error}); get the file again") from error
    if hashlib.sha256(content).hexdigest() != SHA256[name].get(file):
        checked.check(path, path.read_bytes(), known.md5[file])
    return parse_idx(path, content, axes)


def parse_idx(path: Path, content: bytes, axes: int) -> NDArray[np.uint8]:
    """An IDX file's array of ``axes`` axes of bytes. Raises DataInvalid."""
    head = struct.calcsize(f">4B{axes}I")
    if len(content) >= head:
        *magic, sizes = *struct.unpack_from(">4B", content), struct.unpack_from(f">{axes}I", content, 4)
        if magic == [0, 0, 8, axes] and len(content) == head + int(np.prod(sizes)):
            return np.frombuffer(content, dtype=np.uint8, offset=head).reshape(sizes)
    raise DataInvalid(f"{path}: no IDX file of {axes} axes of bytes; get the file again")


def fetch(name: str, folder: Path) -> Path:
    """Download the four files of the set ``name`` into ``folder``, unless they came with the system's packages.

    Returns where they are. Raises DataMissing.
    """
    if name == "fashion_mnist" and DEBIAN.is_dir():
        return DEBIAN
    known = published(name)
    for file, md5 in known.md5.items():
        checked.fetch([f"{address}{file}" for address in known.addresses], folder, file, md5)
    return folder
