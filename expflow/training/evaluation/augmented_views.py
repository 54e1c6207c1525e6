"""Which views of an image an evaluation averages over: what ``--augment`` says. Torch-free."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from expflow.errors import UserError

FORMS = "flip, scales=0.75,1,1.25 or windows=64"
MOST_SCALES = 20
SMALLEST_SCALE, LARGEST_SCALE = 0.1, 10.0


@dataclass(frozen=True)
class AugmentedViews:
    """Views of an image whose probabilities are averaged.

    Attributes:
        flip: Whether each view is seen mirrored, too.
        scales: Factors of the image's height and width.
        window: Height and width in pixels of windows that are slid over each scaled image, by half of that; None: each
            is seen whole.
    """

    flip: bool = False
    scales: tuple[float, ...] = (1.0,)
    window: int | None = None

    @property
    def text(self) -> str:
        """The views in words, as they were asked for."""
        scales = [f"scales={','.join(f'{scale:g}' for scale in self.scales)}"] if self.scales != (1.0,) else []
        windows = [f"windows={self.window}"] if self.window is not None else []
        return " ".join([*(["flip"] if self.flip else []), *scales, *windows])


def parse_views(words: Sequence[str]) -> AugmentedViews | None:
    """The views that ``--augment`` asks for; None for none.

    Args:
        words: What was said, each ``flip``, ``scales=A,B,…`` or ``windows=SIZE``.

    Raises:
        UserError: A word is none of these, or stands twice.
    """
    if not words:
        return None
    asked: dict[str, str] = {}
    for word in words:
        name, _, value = word.partition("=")
        if name in asked:
            raise UserError(f"--augment {word}: {name} is given twice; give it once")
        asked[name] = value
    flip, scales, windows = asked.pop("flip", None), asked.pop("scales", None), asked.pop("windows", None)
    if flip or asked:
        wrong = f"flip={flip}" if flip else next(word for word in words if word.partition("=")[0] in asked)
        raise UserError(f"--augment {wrong}: expected {FORMS}; it may be given several times")
    return AugmentedViews(flip is not None, (1.0,) if scales is None else _scales(scales), _window(windows))


def _scales(text: str) -> tuple[float, ...]:
    try:
        scales = tuple(float(part) for part in text.split(","))
    except ValueError:
        scales = ()
    fit = all(math.isfinite(scale) and SMALLEST_SCALE <= scale <= LARGEST_SCALE for scale in scales)
    if not scales or not fit or len(set(scales)) < len(scales) or len(scales) > MOST_SCALES:
        raise UserError(
            f"--augment scales={text}: expected up to {MOST_SCALES} different factors of the image's size, from"
            f" {SMALLEST_SCALE:g} to {LARGEST_SCALE:g}, such as 0.75,1,1.25"
        )
    return scales


def _window(text: str | None) -> int | None:
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()) or not 2 <= int(text) <= 65_536:
        raise UserError(f"--augment windows={text}: expected the height and width of a window in pixels, such as 64")
    return int(text)
