"""Image files as shards hold them: copied byte for byte unless something has to change."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from expflow.data.sources.base import BadSample, Encoded, Item
from expflow.data.sources.pillow import FORMATS, eight_bits, reason
from expflow.data.sources.restarts import check_program, with_restarts

COPIED = {"JPEG": frozenset({"L", "RGB", "CMYK", "YCbCr"}), "PNG": frozenset({"L", "RGB"})}
"""Formats and modes that decoders of shards read alike. Everything else becomes a PNG of the same pixels."""


@dataclass(frozen=True)
class FileReader:
    """Reads the files below ``origin`` for shards of original images; it can be sent to other processes.

    Images with a side over ``max_side`` are shrunk and become JPEGs of ``quality``. ``upright``: those whose EXIF says
    that they are to be turned are turned, and encoded anew. ImageNet is not, because everybody else reads it as it is.
    ``restarts``: JPEGs get restart markers, which changes no pixel. Raises PackageMissing where that is not possible.
    """

    origin: Path
    channels: int
    max_side: int | None = None
    quality: int = 90
    upright: bool = False
    restarts: bool = False

    def __post_init__(self) -> None:
        if self.restarts:
            check_program()

    def __call__(self, item: Item) -> Mapping[str, Any]:
        """The fields of one sample. Raises BadSample."""
        try:
            content = _content(self.origin, item)
        except OSError as error:
            raise BadSample(f"cannot be read ({error.strerror or error})") from error
        return {"image": self.encoded(content), "label": item.label}

    def encoded(self, content: bytes) -> Encoded:
        """The image that a file's ``content`` holds, decoded once to know that it is whole. Raises BadSample."""
        try:
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                image.load()
                return self._stored(content, image)
        except BadSample:
            raise
        except Exception as error:  # Pillow's decoders raise whatever broken bytes lead them to
            raise BadSample(reason(error)) from error

    def _stored(self, content: bytes, image: Image.Image) -> Encoded:
        kind = f"{image.format} {image.mode}"
        turned = ImageOps.exif_transpose(image) if self.upright and image.getexif().get(0x0112, 1) != 1 else None
        large = self.max_side is not None and max(image.size) > self.max_side
        if turned is None and not large and image.mode in COPIED.get(image.format or "", ()):
            same = with_restarts(content) if self.restarts and image.format == "JPEG" else content
            return self._seen(same, image, kind, anew=False)
        changed = eight_bits(turned or image).convert("L" if self.channels == 1 else "RGB")
        if large and self.max_side is not None:
            changed.thumbnail((self.max_side, self.max_side), Image.Resampling.LANCZOS, reducing_gap=None)
        lossy = large or image.format == "JPEG"
        made = _bytes_of(changed, self.quality if lossy else None)
        return self._seen(with_restarts(made) if self.restarts and lossy else made, changed, kind, anew=True)

    def _seen(self, content: bytes, image: Image.Image, kind: str, *, anew: bool) -> Encoded:
        plain = image.convert("L" if self.channels == 1 else "RGB")
        histogram = np.asarray(plain.histogram(), dtype=np.int64).reshape(self.channels, 256)
        return Encoded(content, histogram, image.width, image.height, kind, anew)


def _bytes_of(image: Image.Image, quality: int | None) -> bytes:
    """``image`` as a baseline JPEG, or as a PNG where no quality is given."""
    buffer = io.BytesIO()
    if quality is None:
        image.save(buffer, "PNG")
    else:
        image.save(buffer, "JPEG", quality=quality, subsampling="4:2:0", optimize=True)
    return buffer.getvalue()


def _content(origin: Path, item: Item) -> bytes:
    if not item.archive:
        return (origin / item.name).read_bytes()
    content = os.pread(_opened(str(origin / item.archive)).fileno(), item.size, item.offset)
    if len(content) != item.size:
        raise OSError(f"{item.archive} ends inside of it")
    return content


@lru_cache(maxsize=32)
def _opened(archive: str) -> _Handle:
    return _Handle(archive)


class _Handle:
    """A descriptor that is closed when nobody holds it any more."""

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def fileno(self) -> int:
        """The descriptor."""
        return self._descriptor

    def __del__(self) -> None:
        os.close(self._descriptor)
