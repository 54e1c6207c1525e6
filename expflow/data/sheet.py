"""A picture of some samples with their classes, to see what a model is given before it is trained."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from expflow.data.codecs import decode
from expflow.data.manifest import Manifest
from expflow.data.order import permutation
from expflow.data.sources.pillow import FORMATS
from expflow.data.stores import ShardCache
from expflow.data.streaming.reading import Shards

CELL, LINE, GAP, COLUMNS = 128, 16, 8, 8
FEW_SHARDS = 4
"""Shards that samples are taken from: one that lies elsewhere has to come here whole."""


def contact_sheet(
    root: Path, manifest: Manifest, split: str, *, samples: int = 48, seed: int = 0, cache: Path | None = None
) -> Image.Image:
    """``samples`` samples of ``split``, drawn by ``seed``, in their proportions, each above its class.

    Images smaller than a cell are magnified without smoothing. Raises DataMissing without that split, ShardCorrupt.
    """
    shards = Shards(root, manifest, split, manifest.samples(split), ShardCache(cache or root.parent))
    chosen = sorted(permutation(len(shards.shards), seed)[:FEW_SHARDS].tolist())
    each = -(-samples // len(chosen))
    cells = []
    for number in chosen:
        with shards.opened(number) as opened:
            for row in sorted(permutation(shards.sizes[number], seed, number)[:each].tolist()):
                values = opened.values(row)
                cells.append((_image(bytes(values["image"])), _label(manifest, bytes(values["label"]))))
    return _arranged(cells[:samples])


def _image(content: bytes) -> Image.Image:
    with Image.open(io.BytesIO(content), formats=FORMATS) as opened:
        image = opened.convert("RGB")
    scale = CELL / max(image.size)
    size = (max(round(image.width * scale), 1), max(round(image.height * scale), 1))
    return image.resize(size, Image.Resampling.NEAREST if scale >= 2 else Image.Resampling.LANCZOS)


def _label(manifest: Manifest, content: bytes) -> str:
    number = int(np.asarray(decode(manifest.fields["label"], content)))
    classes = manifest.spec.classes
    return classes[number] if number < len(classes) else str(number)


def _arranged(cells: list[tuple[Image.Image, str]]) -> Image.Image:
    columns = min(COLUMNS, len(cells))
    rows = -(-len(cells) // columns)
    size = (columns * (CELL + GAP) + GAP, rows * (CELL + LINE + GAP) + GAP)
    sheet = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for number, (image, label) in enumerate(cells):
        left = GAP + number % columns * (CELL + GAP)
        top = GAP + number // columns * (CELL + LINE + GAP)
        sheet.paste(image, (left + (CELL - image.width) // 2, top + (CELL - image.height) // 2))
        draw.text((left, top + CELL + 2), _short(draw, label, font), fill="black", font=font)
    return sheet


def _short(draw: ImageDraw.ImageDraw, label: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont) -> str:
    """``label`` cut to what a cell holds."""
    shown = label
    while shown and draw.textlength(shown, font) > CELL:
        shown = shown[:-2] + "…" if shown.endswith("…") else shown[:-1] + "…"
    return shown
