"""Reading image files for shards: they are copied byte for byte unless something has to change."""

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

from expflow.data.sources.base import BadSample, SampleRef, StoredImage
from expflow.data.sources.pillow import FORMATS, error_reason, to_eight_bits
from expflow.data.sources.restart_markers import add_restart_markers, check_program
from expflow.files import read_bounded

LARGEST_IMAGE = 512 * 2**20
"""Bytes of an image's file that are read."""

COPIED = {"JPEG": frozenset({"L", "RGB", "CMYK", "YCbCr"}), "PNG": frozenset({"L", "RGB"})}
"""Formats and modes that decoders of shards read alike. Everything else becomes a PNG of the same pixels."""


@dataclass(frozen=True)
class ImageFileReader:
    """Reads image files for shards of original images; it can be sent to other processes.

    Attributes:
        origin: the source's folder.
        channels: 3 for colour, 1 for grey.
        max_side: images with a longer side, in pixels, are shrunk and become JPEGs; None: none are.
        quality: JPEG quality of images that are encoded anew.
        upright: whether images whose EXIF says that they are to be turned are turned, and encoded anew. Those of
            ImageNet are not, because everybody else reads them as they are.
        restarts: whether JPEGs get restart markers, which changes no pixel. PackageMissing is raised where that is not
            possible.
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

    def __call__(self, item: SampleRef) -> Mapping[str, Any]:
        """Read the fields of one sample. Raises BadSample."""
        try:
            content = _read_content(self.origin, item)
        except OSError as error:
            raise BadSample(f"cannot be read ({error.strerror or error})") from error
        return {"image": self.encoded(content), "label": item.label}

    def encoded(self, content: bytes) -> StoredImage:
        """Return the image that a file holds, decoded once to know that it is whole.

        Args:
            content: the bytes of the file.

        Raises:
            BadSample: it is no image that is read here, or is damaged.
        """
        try:
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                image.load()
                return self._stored(content, image)
        except BadSample:
            raise
        except Exception as error:  # Pillow's decoders raise whatever broken bytes lead them to
            raise BadSample(error_reason(error)) from error

    def _stored(self, content: bytes, image: Image.Image) -> StoredImage:
        kind = f"{image.format} {image.mode}"
        turned = ImageOps.exif_transpose(image) if self.upright and image.getexif().get(0x0112, 1) != 1 else None
        large = self.max_side is not None and max(image.size) > self.max_side
        if turned is None and not large and image.mode in COPIED.get(image.format or "", ()):
            same = add_restart_markers(content) if self.restarts and image.format == "JPEG" else content
            return self._with_histogram(same, image, kind, anew=False)
        changed = to_eight_bits(turned or image, image.format).convert("L" if self.channels == 1 else "RGB")
        if large and self.max_side is not None:
            changed.thumbnail((self.max_side, self.max_side), Image.Resampling.LANCZOS, reducing_gap=None)
        lossy = large or image.format == "JPEG"
        encoded = _encode_image(changed, self.quality if lossy else None)
        if self.restarts and lossy:
            encoded = add_restart_markers(encoded)
        return self._with_histogram(encoded, changed, kind, anew=True)

    def _with_histogram(self, content: bytes, image: Image.Image, kind: str, *, anew: bool) -> StoredImage:
        plain = image.convert("L" if self.channels == 1 else "RGB")
        histogram = np.asarray(plain.histogram(), dtype=np.int64).reshape(self.channels, 256)
        return StoredImage(content, histogram, image.width, image.height, kind, anew)


def _encode_image(image: Image.Image, quality: int | None) -> bytes:
    """``image`` as a baseline JPEG, or as a PNG where no quality is given."""
    buffer = io.BytesIO()
    if quality is None:
        image.save(buffer, "PNG")
    else:
        image.save(buffer, "JPEG", quality=quality, subsampling="4:2:0", optimize=True)
    return buffer.getvalue()


def _read_content(origin: Path, item: SampleRef) -> bytes:
    if not item.archive:
        return read_bounded(origin / item.name, LARGEST_IMAGE)
    content = os.pread(_open_archive(str(origin / item.archive)).fileno(), item.size, item.offset)
    if len(content) != item.size:
        raise OSError(f"{item.archive} ends inside of it")
    return content


@lru_cache(maxsize=32)
def _open_archive(archive: str) -> _FileDescriptor:
    return _FileDescriptor(archive)


class _FileDescriptor:
    """A file descriptor that is closed when the object is deleted."""

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._descriptor

    def __del__(self) -> None:
        os.close(self._descriptor)
