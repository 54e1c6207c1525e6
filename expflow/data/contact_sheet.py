"""A picture of some samples with their classes and masks, to check the data before a model is trained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from expflow.data.kinds import SampleDrawing, image_first, kind_of
from expflow.data.permutation import permutation
from expflow.data.shards.manifest import ShardManifest
from expflow.data.stores import ShardCache
from expflow.data.streaming.sample_reader import EncodedSample, SplitShards

CELL, LINE, GAP, COLUMNS = 128, 18, 10, 8
PAPER = (236, 236, 236)
"""Light grey: white and black images both have an edge on it."""
FEW_SHARDS = 4
"""Shards that samples are taken from: one that lies elsewhere has to come here whole."""


def contact_sheet(
    root: Path, manifest: ShardManifest, split: str, *, samples: int = 48, seed: int = 0, cache: Path | None = None
) -> Image.Image:
    """Draw samples of a split, each in its proportions and above its class. Small images are magnified unsmoothed.

    Args:
        root: folder of the manifest.
        manifest: the manifest in it.
        split: the split.
        samples: number of samples.
        seed: of the choice of samples.
        cache: where shards are kept that lie at an address; by default beside ``root``.

    Raises:
        DataMissing: there is no such split.
        ShardCorrupt: a shard is damaged.
    """
    shards = SplitShards(root, manifest, split, manifest.samples(split), ShardCache(cache or root.parent))
    chosen = sorted(permutation(len(shards.shards), seed)[:FEW_SHARDS].tolist())
    per_shard = -(-samples // len(chosen))
    cells = []
    for number in chosen:
        with shards.opened(number) as opened:
            for row in sorted(permutation(shards.sizes[number], seed, number)[:per_shard].tolist()):
                cells.append(_cell(manifest, opened.values(row)))
    return _arranged(cells[:samples])


def titled_sheets(sheets: Mapping[str, Image.Image]) -> Image.Image:
    """Several sheets one below the other, each under its title.

    Args:
        sheets: title to sheet.
    """
    font = ImageFont.load_default(16)
    high = LINE + 2 * GAP
    size = (max(sheet.width for sheet in sheets.values()), sum(sheet.height + high for sheet in sheets.values()))
    whole, top = Image.new("RGB", size, PAPER), 0
    draw = ImageDraw.Draw(whole)
    for title, sheet in sheets.items():
        draw.text((GAP, top + GAP), _short(draw, title, font, size[0] - 2 * GAP), fill="black", font=font)
        whole.paste(sheet, (0, top + high))
        top += high + sheet.height
    return whole


def _cell(manifest: ShardManifest, values: EncodedSample) -> tuple[Image.Image, str]:
    """What all fields of a sample draw, and the words under it."""
    spec = manifest.spec
    drawing = SampleDrawing(points=spec.points)
    for name, extension in image_first(manifest.fields, spec).items():
        kind_of(spec.fields[name]).draw(drawing, bytes(values[name]), extension, spec.classes)
    return _fitted(drawing.picture or Image.new("RGB", (1, 1), PAPER)), " ".join(drawing.words)


def _fitted(image: Image.Image) -> Image.Image:
    """Shrunk to a cell, or magnified by a whole number: pixels of several sizes would look like a pattern."""
    if 2 * max(image.size) <= CELL:
        times = CELL // max(image.size)
        return image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)
    scale = CELL / max(image.size)
    size = (max(round(image.width * scale), 1), max(round(image.height * scale), 1))
    return image.resize(size, Image.Resampling.LANCZOS)


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
