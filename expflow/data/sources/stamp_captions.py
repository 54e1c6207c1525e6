"""Tux Paint's stamps with their captions: pictures with what is said of them, and the same in two languages."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from expflow.data.caption_specs import CaptionPairsSpec, StampCaptionsSpec
from expflow.data.kinds.text import text_field, vocabulary_of
from expflow.data.source_spec import Origin
from expflow.data.sources.base import BadSample, SampleRef, SampleSource, draw_splits, image_fields, with_text
from expflow.data.sources.stamp_files import CAPTIONS, IMAGE, read_stamps
from expflow.data.sources.stamps import themed_samples
from expflow.errors import DataInvalid

GERMAN = re.compile(r"^de\.utf8=(.+)$", re.MULTILINE)

PAIRS_NOTE = "captions of one English wording are in one split; several hundred of them name a single thing"


def captions_of(content: bytes) -> tuple[str, str]:
    """Return the English and the German caption in a stamp's file of captions; "" where there is none.

    Args:
        content: the file: English in its first line, then a line ``language.utf8=caption`` for each other language.
    """
    text = content.decode("utf-8", errors="replace")
    german = GERMAN.search(text)
    return _one_line(text.partition("\n")[0]), _one_line(german[1] if german else "")


def _one_line(text: str) -> str:
    return " ".join(text.replace("\ufffd", "").split())


@dataclass(frozen=True)
class StampOnWhite:
    """Puts each stamp on a white square, with its caption.

    Attributes:
        side: height and width in pixels.
        stamps: name to PNG.
        captions: name to caption.
    """

    side: int
    stamps: Mapping[str, bytes]
    captions: Mapping[str, str]

    def __call__(self, item: SampleRef) -> Mapping[str, Any]:
        """Draw one stamp. Raises BadSample."""
        image = on_white(self.stamps[item.name], self.side)
        return {"image": image, "label": item.label, "text": self.captions[item.name]}


def on_white(content: bytes, side: int) -> Any:
    """Return a picture in the middle of a white square, (side, side, 3) uint8.

    Args:
        content: a PNG, which may have transparent pixels.
        side: height and width; the picture is shrunk or enlarged until its longer side has so many pixels.

    Raises:
        BadSample: it cannot be read.
    """
    try:
        with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
            whole = image.convert("RGBA")
    except Exception as error:  # Pillow's decoders raise whatever broken bytes lead them to
        raise BadSample(str(error) or type(error).__name__) from error
    scale = side / max(whole.size)
    size = (max(1, round(whole.width * scale)), max(1, round(whole.height * scale)))
    small = whole.resize(size, Image.Resampling.LANCZOS)
    square = Image.new("RGBA", (side, side), "white")
    square.alpha_composite(small, ((side - small.width) // 2, (side - small.height) // 2))
    return np.asarray(square.convert("RGB"), np.uint8)


def open_stamp_captions(spec: StampCaptionsSpec, origin: Origin) -> SampleSource:
    """Stamps on white with their English captions; those of one motif are in one split.

    Args:
        spec: the recipe's source.
        origin: a folder with the package's file or with its files.

    Raises:
        DataMissing: there are no stamps.
        DataInvalid: the package's file cannot be read, no stamp has a caption, or a split would be empty.
    """
    root = Path(str(origin))
    english = {name: captions_of(content)[0] for name, content in read_stamps(root, CAPTIONS).items()}
    pictures = read_stamps(root, IMAGE)
    beside = {name: str(PurePosixPath(name).with_suffix(CAPTIONS)) for name in pictures}
    captions = {name: english[file] for name, file in beside.items() if english.get(file)}
    if not captions:
        raise DataInvalid(f"{origin}: no stamp in it has a caption")
    themes, items = themed_samples(captions)
    fractions = {"val": spec.val_fraction, "test": spec.test_fraction}
    texts = list(captions.values())
    return SampleSource(
        classes=tuple(themes),
        splits=draw_splits(items, fractions, spec.split_seed),
        read=StampOnWhite(spec.side, {name: pictures[name] for name in captions}, captions),
        **with_text(image_fields(3, spec.side, spec.side), text_field(vocabulary_of(texts), max(map(len, texts)))),
    )


def open_caption_pairs(spec: CaptionPairsSpec, origin: Origin) -> SampleSource:
    """German captions of stamps as sources and English ones as targets, each pair once.

    Args:
        spec: the recipe's source.
        origin: a folder with the package's file or with its files.

    Raises:
        DataMissing: there are no captions.
        DataInvalid: the package's file cannot be read, it has no pairs, or a split would be empty.
    """
    both = (captions_of(content) for content in read_stamps(Path(str(origin)), CAPTIONS).values())
    pairs = sorted({pair for pair in both if all(pair) and max(map(len, pair)) <= spec.longest})
    if not pairs:
        raise DataInvalid(f"{origin}: no stamp in it has a caption in both languages")
    items = [SampleRef(str(number), group=english.lower()) for number, (english, _) in enumerate(pairs)]
    fractions = {"val": spec.val_fraction, "test": spec.test_fraction}
    english, german = ([pair[place] for pair in pairs] for place in (0, 1))
    return SampleSource(
        classes=(),
        fields={"source": "source.txt", "target": "target.txt"},
        shapes={
            "source": text_field(vocabulary_of(german), max(map(len, german))),
            "target": text_field(vocabulary_of(english), max(map(len, english))),
        },
        splits=draw_splits(items, fractions, spec.split_seed),
        read=lambda item: {"source": german[int(item.name)], "target": english[int(item.name)]},
        notes=(PAIRS_NOTE,),
    )
