"""MNIST, Fashion-MNIST and CIFAR in small: files of a few random images, in the formats that are published."""

import dataclasses
import gzip
import hashlib
import pickle
import struct
import tarfile
from pathlib import Path

import numpy as np

from expflow.data.sources import cifar, idx


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def idx_file(array: np.ndarray) -> bytes:
    return struct.pack(f">4B{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def idx_files() -> dict[str, bytes]:
    files, random = {}, np.random.default_rng(0)
    for part, count in (("train", 40), ("t10k", 10)):
        files[f"{part}-images-idx3-ubyte.gz"] = idx_file(random.integers(0, 256, (count, 28, 28), dtype=np.uint8))
        files[f"{part}-labels-idx1-ubyte.gz"] = idx_file((np.arange(count) % 10).astype(np.uint8))
    return {name: gzip.compress(content, mtime=0) for name, content in files.items()}


def write_idx(folder: Path, monkeypatch) -> None:
    """Write small files into ``folder``, and have them taken for the published ones."""
    folder.mkdir()
    files = idx_files()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    known = idx.IdxFiles(("http://127.0.0.1:9/",), {name: md5(content) for name, content in files.items()})
    monkeypatch.setattr(idx, "published_files", lambda name: known)


def cifar_batch(count: int, first: int, labels: str) -> dict:
    rows = np.random.default_rng(first).integers(0, 256, (count, 3072), dtype=np.uint8)
    classes = [(first + number) % 10 for number in range(count)]
    return {"batch_label": "x", "data": rows, labels: classes, "filenames": ["a"]}


def cifar_files(name: str) -> dict[str, bytes]:
    labels = "labels" if name == "cifar10" else "fine_labels"
    parts = cifar.published_files(name)
    files = {
        file: pickle.dumps(cifar_batch(20, 20 * number, labels), protocol=2)
        for number, (file, _) in enumerate((*parts.train, *parts.test))
    }
    return {**files, parts.names[0]: pickle.dumps({parts.class_names: list("abcdefghij")}, protocol=2)}


def with_checksums_of(known: cifar.CifarFiles, files: dict[str, bytes]) -> cifar.CifarFiles:
    """``known`` with the checksums of ``files``."""

    def checksums(pairs):
        return tuple((file, md5(files[file])) for file, _ in pairs)

    names = (known.names[0], md5(files[known.names[0]]))
    return dataclasses.replace(known, train=checksums(known.train), test=checksums(known.test), names=names)


def write_cifar(folder: Path, name: str, monkeypatch, **changed: bytes) -> cifar.CifarFiles:
    """Write small batches into ``folder``, packed and not, and have them taken for the published ones."""
    files = {**cifar_files(name), **changed}
    known = with_checksums_of(cifar.published_files(name), files)
    for file, content in files.items():
        path = folder / known.folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    with tarfile.open(folder / known.archive, "w:gz") as tar:
        tar.add(folder / known.folder, known.folder)
    monkeypatch.setattr(cifar, "published_files", lambda name: known)
    return known
