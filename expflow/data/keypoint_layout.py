"""Which points an object has: their names, how they are joined, and what a mirror makes of them. Torch-free."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

PERSON = (
    "nose",
    "left_eye",
    "right_eye",
    "left_ear",
    "right_ear",
    "left_shoulder",
    "right_shoulder",
    "left_elbow",
    "right_elbow",
    "left_wrist",
    "right_wrist",
    "left_hip",
    "right_hip",
    "left_knee",
    "right_knee",
    "left_ankle",
    "right_ankle",
)
"""COCO's 17 points of a person, in its order."""

_SIDES = {"left": "right", "Left": "Right", "LEFT": "RIGHT", "l": "r", "L": "R"}
_OTHER = _SIDES | {right: left for left, right in _SIDES.items()}
_SIDE = re.compile(
    r"(?<![A-Za-z])(?:left|right|Left|Right|LEFT|RIGHT)|(?:Left|Right)(?![a-z])|(?<![A-Za-z0-9])[lrLR](?![A-Za-z0-9])"
)


@dataclass(frozen=True)
class KeypointLayout:
    """The points that each object of a data set has, in their order.

    Attributes:
        names: of the points.
        skeleton: pairs of points, from 0, that drawings join by a line.
        mirrored: of each point the one that it is in a mirrored image: itself, or the one of the other side.
    """

    names: tuple[str, ...]
    skeleton: tuple[tuple[int, int], ...] = ()
    mirrored: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.mirrored:
            object.__setattr__(self, "mirrored", tuple(range(len(self.names))))

    @property
    def one_sided(self) -> tuple[str, ...]:
        """Names that say left or right, of points that have no partner on the other side."""
        return tuple(
            name for place, name in enumerate(self.names) if _SIDE.search(name) and self.mirrored[place] == place
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain data that :meth:`from_json` reads back."""
        return {
            "names": list(self.names),
            "skeleton": [list(pair) for pair in self.skeleton],
            "mirrored": list(self.mirrored),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> KeypointLayout:
        """Rebuild what :meth:`to_json` described.

        Args:
            data: the plain data.
        """
        skeleton = tuple((int(first), int(second)) for first, second in data["skeleton"])
        return cls(tuple(data["names"]), skeleton, tuple(data["mirrored"]))


def mirrored_points(names: Sequence[str], pairs: Iterable[tuple[str, str]] = ()) -> tuple[int, ...]:
    """Return of each point the one that it is in a mirrored image.

    Points are partners whose names differ in ``left`` and ``right`` (``left_eye`` and ``right_eye``, ``eyeLeft`` and
    ``eyeRight``, ``l_eye`` and ``r_eye``), and those of ``pairs``; any other keeps its place.

    Args:
        names: of the points.
        pairs: names of further partners.

    Raises:
        ValueError: there is no point of a name, or one has two partners.
    """
    places = {name: place for place, name in enumerate(names)}
    partners = list(range(len(names)))
    for first, second in pairs:
        for name in (first, second):
            if name not in places:
                raise ValueError(f"there is no point {name!r}; the points are {', '.join(names)}")
            if partners[places[name]] != places[name]:
                raise ValueError(f"the point {name!r} has two partners; expected each point in one pair at most")
        partners[places[first]], partners[places[second]] = places[second], places[first]
    for name, place in places.items():
        other = places.get(_SIDE.sub(lambda side: _OTHER[side.group()], name), place)
        if partners[place] == place and partners[other] == other:
            partners[place], partners[other] = other, place
    return tuple(partners)
