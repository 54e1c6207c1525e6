"""Arguments of sources with texts beside images, and of pairs of texts. Torch-free."""

from __future__ import annotations

from typing import ClassVar

from expflow.config.spec import identity
from expflow.data.dataspec import DataSpec, FieldSpec
from expflow.data.labelled_specs import StampFilesSpec
from expflow.data.source_spec import DrawnSplitsSpec, LocatedFilesSpec

EMOJI_CATEGORIES = (
    "Activities",
    "Animals & Nature",
    "Flags",
    "Food & Drink",
    "Objects",
    "People & Body",
    "Smileys & Emotion",
    "Symbols",
    "Travel & Places",
)
"""The classes of emoji; what has the category Component, parts of other emoji, is left out."""

EMOJI_CHARACTERS = " &()*,-.0123456789:abcdefghijklmnopqrstuvwxyzãåçéíôü\u2019"
"""What their names are written with, in the order of Unicode."""

LONGEST_EMOJI_NAME, EMOJI_SIDE = 78, 32
"""Characters of the longest name; height and width of the images, which are shrunk from 64 pixels."""

NAME_FIELD = FieldSpec(
    (LONGEST_EMOJI_NAME + 1,), "int64", kind="text", vocabulary=("<pad>", "<start>", "<end>", *EMOJI_CHARACTERS)
)


class StampCaptionsSpec(StampFilesSpec):
    """Tux Paint's stamps on white with their captions: 785 drawings and cut-out photographs, by theme.

    They are those of Debian's package tuxpaint-stamps-default, where it is installed, or from its .deb file or its
    unpacked files. Stamps of one motif (frog, frog-1) are one group, which no split cuts.
    """

    build: ClassVar[str] = "expflow.data.sources.stamp_captions:open_stamp_captions"
    described: ClassVar[frozenset[str]] = DrawnSplitsSpec.described | {"side"}
    endings: ClassVar[tuple[str, ...]] = (".png", ".txt")

    side: int = identity(32, description="Height and width of an image.", ge=8, le=256)


class CaptionPairsSpec(StampFilesSpec):
    """Captions of Tux Paint's stamps in German and in English, for translation: about 800 short sentences.

    Captions with the same English words are one group, which no split cuts.
    """

    build: ClassVar[str] = "expflow.data.sources.stamp_captions:open_caption_pairs"
    described: ClassVar[frozenset[str]] = DrawnSplitsSpec.described | {"longest"}
    endings: ClassVar[tuple[str, ...]] = (".txt",)

    longest: int = identity(80, description="Longer captions, in characters, are left out.", ge=1, le=1000)


class EmojiSpec(LocatedFilesSpec, DrawnSplitsSpec):
    """Noto's emoji with their names (`clock face three-thirty`): 1,906 pictures in nine categories.

    They come with the npm package emoji-datasource-google, out of whose archive they are read; nothing is installed.
    Each emoji is there once, in its usual skin tone.
    """

    build: ClassVar[str] = "expflow.data.sources.emoji:open_emoji"
    fetched: ClassVar[str] = "expflow.data.sources.emoji:fetch"
    published: ClassVar[DataSpec | None] = DataSpec(
        {"image": FieldSpec((3, EMOJI_SIDE, EMOJI_SIDE), "uint8"), "label": FieldSpec((), "int64"), "text": NAME_FIELD},
        EMOJI_CATEGORIES,
    )
    where: ClassVar[str] = (
        "`expflow data build emoji` gets them with npm, or put emoji-datasource-google-16.0.0.tgz into a folder"
    )
