"""Pictures as modules hand them to loggers, as the arrays that artifacts are written from."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from expflow.errors import UserError


def as_image(image: Any, formats: str = "") -> bytes | NDArray[np.uint8]:
    """A picture as an :class:`~expflow.training.artifacts.ArtifactWriter` takes it.

    Args:
        image: An array or tensor of uint8 or of numbers from 0 to 1, a PIL image, a figure of matplotlib, or a PNG.
        formats: Order of the axes: HW, CHW, HWC, NHW, NCHW or NHWC; "" where the shape tells.

    Raises:
        UserError: It is none of these.
    """
    if isinstance(image, bytes | bytearray):
        return bytes(image)
    if hasattr(image, "savefig"):
        file = io.BytesIO()
        image.savefig(file, format="png")
        return file.getvalue()
    pixels = as_array(image)
    formats = formats or _axes_of(pixels)
    if len(formats) != pixels.ndim:
        raise UserError(f"a picture of shape {pixels.shape} was given as {formats or 'no known order of axes'}")
    if "N" in formats:
        order = [formats.index(axis) for axis in "NHWC" if axis in formats]
        pixels = _side_by_side(pixels.transpose(order))
    elif formats == "CHW":
        pixels = pixels.transpose(1, 2, 0)
    if pixels.dtype != np.uint8:
        scaled = pixels * 255.0 if pixels.dtype.kind in "fb" else pixels
        pixels = np.nan_to_num(scaled).clip(0, 255).round().astype(np.uint8)
    return np.ascontiguousarray(pixels[..., 0] if pixels.ndim == 3 and pixels.shape[-1] == 1 else pixels)


def as_it_is_now(image: Any) -> Any:
    """What a picture shows when it is logged, whatever becomes of it; on a GPU nothing waits for it.

    Args:
        image: As in :func:`as_image`.
    """
    if isinstance(image, Tensor):
        return image.detach().clone()
    return as_image(image) if hasattr(image, "savefig") else np.array(image) if isinstance(image, np.ndarray) else image


def _axes_of(pixels: NDArray[Any]) -> str:
    if pixels.ndim == 2:
        return "HW"
    if pixels.ndim == 3:
        return "CHW" if pixels.shape[0] in (1, 3, 4) and pixels.shape[2] not in (1, 3, 4) else "HWC"
    return "NCHW" if pixels.ndim == 4 and pixels.shape[1] in (1, 3, 4) else "NHWC"[: pixels.ndim]


def _side_by_side(pictures: NDArray[Any]) -> NDArray[Any]:
    """(n, h, w, …) -> about as many rows as columns of pictures, in one picture."""
    columns = int(np.ceil(np.sqrt(len(pictures))))
    rows = -(-len(pictures) // columns)
    padding = np.zeros((rows * columns - len(pictures), *pictures.shape[1:]), pictures.dtype)
    grid = np.concatenate([pictures, padding]).reshape(rows, columns, *pictures.shape[1:])
    joined = grid.swapaxes(1, 2)
    return joined.reshape(rows * pictures.shape[1], columns * pictures.shape[2], *pictures.shape[3:])


def as_array(values: Any) -> NDArray[Any]:
    """Numbers as an array of the host.

    Args:
        values: A tensor of any device, an array, a PIL image, or nested lists.

    Raises:
        UserError: They are no numbers.
    """
    if isinstance(values, Tensor):
        values = values.detach()
        values = (values.float() if values.dtype in (torch.bfloat16, torch.float16) else values).cpu().numpy()
    array: NDArray[Any] = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise UserError(f"self.logger was given {type(values).__name__} where pixels or numbers belong")
    return array
