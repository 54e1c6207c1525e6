"""Pictures, tables and texts that a trial writes beside its metrics.

Every Trainer of a trial has an :class:`ArtifactWriter` as ``artifacts``. A LightningModule writes with
``self.trainer.artifacts.write_image("filters", array, step=self.global_step)``, a callback with ``trainer.artifacts``.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from expflow.errors import StorageUnwritable, UserError
from expflow.events import ArtifactKind
from expflow.files import PNG_SIGNATURE, write_atomically
from expflow.ledger.lock import check_epoch
from expflow.redaction import redacted
from expflow.text import encodable
from expflow.training.contract import Artifact, Attempt, World, ignore_notice

ARTIFACTS_FOLDER = "artifacts"
"""Where a trial's artifacts lie in its folder."""

PNG_LEVEL = 4
"""Photographs take the same room as at Pillow's 6, drawings a tenth more, and both half of the time or less."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


class ArtifactWriter:
    """Writes artifacts into a trial's folder, and tells the driver of each.

    A file is there whole or not at all. Rank 0 writes; on other ranks, and where the trial keeps nothing, calls do
    nothing, so user code needs no condition of its own.

    Args:
        attempt: Whose folder and fence are used; None discards everything.
        world: This rank among those of its trial.
        notify: Called with each artifact after it has been written.
    """

    def __init__(
        self,
        attempt: Attempt | None = None,
        world: World | None = None,
        notify: Callable[[Artifact], None] = ignore_notice,
    ) -> None:
        folder = attempt.folder if attempt is not None and (world is None or world.rank == 0) else None
        self._folder = folder / ARTIFACTS_FOLDER if folder is not None else None
        self._fence = attempt.fence if attempt is not None else None
        self._notify = notify

    def write_image(self, name: str, image: Any, step: int) -> Path | None:
        """Write a picture as PNG.

        Args:
            name: What it is called: letters, digits, ``_``, ``.`` and ``-``. The same name at another step is a later
                state of the same picture.
            image: The bytes of a PNG file, or an array (h, w), (h, w, 3) or (h, w, 4) of uint8.
            step: The optimizer step that it shows, from 0.

        Returns:
            The file; None where nothing is kept.

        Raises:
            UserError: ``name``, ``image`` or ``step`` is none of these.
            StorageUnwritable: The file cannot be written.
            StaleDriver: A newer driver has taken over.
        """
        return self._write(name, "image", "png", lambda: _png(name, image), step)

    def write_table(self, name: str, csv: str, step: int) -> Path | None:
        """Write a table.

        Args:
            name: As in :meth:`write_image`.
            csv: Its rows as comma-separated values, the first one with the names of the columns; secrets are left out.
            step: The optimizer step that it shows.

        Returns:
            The file; None where nothing is kept.

        Raises:
            UserError: ``name`` cannot be a file's name, ``csv`` is no string, or ``step`` no step.
            StorageUnwritable: The file cannot be written.
            StaleDriver: A newer driver has taken over.
        """
        return self._write(name, "table", "csv", lambda: _utf8(name, "table", csv), step)

    def write_text(self, name: str, text: str, step: int) -> Path | None:
        """Write a text.

        Args:
            name: As in :meth:`write_image`.
            text: What the file holds, in UTF-8; secrets are left out.
            step: The optimizer step that it shows.

        Returns:
            The file; None where nothing is kept.

        Raises:
            UserError: ``name`` cannot be a file's name, ``text`` is no string, or ``step`` no step.
            StorageUnwritable: The file cannot be written.
            StaleDriver: A newer driver has taken over.
        """
        return self._write(name, "text", "txt", lambda: _utf8(name, "text", text), step)

    def _write(
        self, name: str, kind: ArtifactKind, suffix: str, content: Callable[[], bytes], step: int
    ) -> Path | None:
        if not _NAME.fullmatch(name):
            raise UserError(f"an artifact cannot be called {name!r}: use letters, digits, _, . and -")
        number = _step_number(name, step)
        if self._folder is None:
            return None
        data = content()
        if self._fence is not None:
            check_epoch(self._fence.folder, self._fence.epoch)
        path = self._folder / name / f"step-{number:09d}.{suffix}"
        try:
            write_atomically(path, data, durable=True)
        except OSError as error:
            raise StorageUnwritable(f"the artifact {path} cannot be written: {error.strerror or error}") from error
        self._notify(Artifact(number, name, path, kind, hashlib.sha256(data).hexdigest(), len(data)))
        return path


def _step_number(name: str, step: Any) -> int:
    """The step as a whole number; tensors and numpy's numbers are taken."""
    try:
        number = int(step)
        if number == step and number >= 0:
            return number
    except (TypeError, ValueError, OverflowError):
        pass
    raise UserError(f"the artifact {name}: a step is a whole number from 0, found {step!r}")


def _utf8(name: str, kind: ArtifactKind, text: Any) -> bytes:
    if not isinstance(text, str):
        raise UserError(f"the artifact {name}: a {kind} is a string, found {type(text).__name__}")
    return encodable(redacted(text)).encode()


def _png(name: str, image: Any) -> bytes:
    """The file's bytes. Arrays of other numbers than uint8 are refused, because their scale would be a guess."""
    if isinstance(image, bytes | bytearray):
        if not image.startswith(PNG_SIGNATURE):
            raise UserError(f"the artifact {name}: these bytes are no PNG file")
        return bytes(image)
    from PIL import Image

    pixels = np.asarray(image)
    if pixels.dtype != np.uint8 or not (pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (3, 4))):
        raise UserError(
            f"the artifact {name}: an image is an array (h, w), (h, w, 3) or (h, w, 4) of uint8, found {pixels.shape}"
            f" of {pixels.dtype}"
        )
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=PNG_LEVEL)
    return file.getvalue()
