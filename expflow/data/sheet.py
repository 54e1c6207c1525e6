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

CELL, LINE, GAP, COLUMNS = 128, 18, 10, 8
PAPER = (236, 236, 236)
"""Light grey: white and black images both have an edge on it."""
FEW_SHARDS = 4
"""Shards that samples are taken from: one that lies elsewhere has to come here whole."""


def contact_sheet(
    root: Path, manifest: Manifest, split: str, *, samples: int = 48, seed: int = 0, cache: Path | None = None
) -> Image.Image:
    """``samples`` samples of ``split``, drawn by ``seed``, in their proportions, each above its class.

    Small images are magnified without smoothing. Raises DataMissing without that split, ShardCorrupt.
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
    """Shrunk to a cell, or magnified by a whole number: pixels of several sizes would look like a pattern."""
    with Image.open(io.BytesIO(content), formats=FORMATS) as opened:
        image = opened.convert("RGB")
    if 2 * max(image.size) <= CELL:
        times = CELL // max(image.size)
        return image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)
    scale = CELL / max(image.size)
    size = (max(round(image.width * scale), 1), max(round(image.height * scale), 1))
    return image.resize(size, Image.Resampling.LANCZOS)


def _label(manifest: Manifest, content: bytes) -> str:
    number = int(np.asarray(decode(manifest.fields["label"], content)))
    classes = manifest.spec.classes
    return classes[number] if number < len(classes) else str(number)


def _arranged(cells: list[tuple[Image.Image, str]]) -> Image.Image:
    """A grid as wide and high as its largest image needs; each stands on its label, also where others are higher."""
    columns = min(COLUMNS, len(cells))
    rows = -(-len(cells) // columns)
    wide, high = (max(image.size[axis] for image, _ in cells) for axis in (0, 1))
    sheet = Image.new("RGB", (columns * (wide + GAP) + GAP, rows * (high + LINE + GAP) + GAP), PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for number, (image, label) in enumerate(cells):
        left = GAP + number % columns * (wide + GAP)
        top = GAP + number // columns * (high + LINE + GAP)
        at = left + (wide - image.width) // 2
        sheet.paste(image, (at, top + high - image.height))
        beside = at if draw.textlength(label, font) <= left + wide - at else left
        draw.text((beside, top + high + 2), _short(draw, label, font, wide), fill="black", font=font)
    return sheet


def _short(draw: ImageDraw.ImageDraw, label: str, font: ImageFont.ImageFont | ImageFont.FreeTypeFont, wide: int) -> str:
    """``label`` cut to ``wide`` pixels."""
    shown = label
    while shown and draw.textlength(shown, font) > wide:
        shown = shown[:-2] + "…" if shown.endswith("…") else shown[:-1] + "…"
    return shown
