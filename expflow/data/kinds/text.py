"""Text as the numbers of its tokens, (t,) int64: the end behind the last token, then padding.

Tokens are characters. Which there are stands in the field's description, and so in the manifest: the same texts with
another vocabulary are other data.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from expflow.data.dataspec import FieldSpec
from expflow.data.kinds.base import Codec, FieldKind, SampleDrawing
from expflow.data.shards.statistics import SampleCounts

PAD, START, END = 0, 1, 2
"""Numbers of the tokens that are no characters: behind a text, before it, and at its end."""

SPECIAL = ("<pad>", "<start>", "<end>")
"""The first tokens of every vocabulary."""


def vocabulary_of(texts: Iterable[str]) -> tuple[str, ...]:
    """Return the special tokens and every character of some texts, in the order of Unicode.

    Args:
        texts: the texts.
    """
    return (*SPECIAL, *sorted(set().union(*texts)))


def text_field(vocabulary: tuple[str, ...], longest: int) -> FieldSpec:
    """Return the description of a field of text.

    Args:
        vocabulary: as :func:`vocabulary_of` gives it.
        longest: characters of the longest text.
    """
    return FieldSpec((longest + 1,), "int64", kind="text", vocabulary=vocabulary)


def text_of(tokens: Iterable[int], vocabulary: Sequence[str]) -> str:
    """Return the text of tokens up to the first end.

    Args:
        tokens: numbers of tokens; special ones are left out.
        vocabulary: the tokens.
    """
    characters = []
    for token in tokens:
        if token == END:
            break
        if token >= len(SPECIAL):
            characters.append(vocabulary[token])
    return "".join(characters)


def _encode(text: str) -> bytes:
    return text.encode()


def _decode(content: bytes | memoryview) -> str:
    return bytes(content).decode()


class TextKind(FieldKind):
    """What a sequence model reads or writes."""

    codecs: ClassVar = {name: Codec(_encode, _decode) for name in ("txt", "source.txt", "target.txt")}

    def of_member(self, value: Any, field: FieldSpec) -> NDArray[Any]:
        """Return the numbers of a text's tokens. Raises ValueError where one is unknown, or there are too many."""
        if len(value) >= field.shape[0]:
            raise ValueError(f"a text of {len(value)} characters, and the manifest says {field.shape[0] - 1} at most")
        numbers = {token: number for number, token in enumerate(field.vocabulary)}
        if unknown := sorted(set(value) - numbers.keys()):
            raise ValueError(f"the characters {''.join(unknown)!r} are not in the vocabulary")
        tokens = np.full(field.shape, PAD, field.dtype)
        tokens[: len(value) + 1] = [*(numbers[character] for character in value), END]
        return tokens

    def count(self, counts: SampleCounts, split: str, value: Any) -> None:
        """Count nothing: there are no classes."""

    def draw(self, drawing: SampleDrawing, content: bytes, extension: str, classes: Sequence[str]) -> None:
        """Write the text."""
        drawing.words.append(_decode(content))
