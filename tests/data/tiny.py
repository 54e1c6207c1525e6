"""Shards made in an instant: sample number i is a grey image of 2x2 pixels of the value i % 256, with the label i."""

import hashlib
import io
import tarfile
from pathlib import Path

from PIL import Image

from expflow.data.dataspec import DataSpec, FieldSpec
from expflow.data.shards.manifest import ShardEntry, ShardManifest, write_manifest


def png(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (2, 2), value).save(buffer, "PNG")
    return buffer.getvalue()


PNGS = [png(value) for value in range(256)]


def tar_of(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def tiny_shards(root: Path, sizes: list[int], bad: tuple[int, ...] = (), labels: list[int] | None = None) -> Path:
    """A folder of one split, ``train``, with ``sizes`` samples in its shards; those of ``bad`` hold no images.

    ``labels`` are the samples' classes; by default each one's own number.
    """
    root.mkdir(parents=True)
    shards, first = [], 0
    for number, size in enumerate(sizes):
        members = {}
        for i in range(first, first + size):
            members |= {
                f"{i:06d}.png": b"no image" if i in bad else PNGS[i % 256],
                f"{i:06d}.cls": str(labels[i] if labels else i).encode(),
            }
        content = tar_of(members)
        name = f"train-{number:06d}.tar"
        (root / name).write_bytes(content)
        shards.append(ShardEntry(name, size, len(content), hashlib.sha256(content).hexdigest()))
        first += size
    spec = DataSpec(
        {"image": FieldSpec((1, 2, 2), "uint8"), "label": FieldSpec((), "int64")},
        classes=("a",),
        samples={"train": first},
        mean=(0.5,),
        std=(0.2,),
    )
    fields = {"image": "png", "label": "cls"}
    write_manifest(
        root, ShardManifest("tiny", {}, fields, {"train": tuple(shards)}, spec, f"{sizes}{bad}{labels or ''}")
    )
    return root
