"""A search space: counting, expanding and sampling it. Pure functions of its dimensions.

``when`` names other dimensions of the same space (the loader rewrites conditions on the recipe); a dimension is active
where all its conditions hold, and an inactive one leaves no key, so that it makes no second config.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Literal

from expflow.config.identity import canonical
from expflow.config.schema import Dimension
from expflow.config.spec import FieldError
from expflow.errors import UserError, nearest

GRID_LIMIT = 10_000
"""Most configs of a grid."""

_METRICS_UP = frozenset({"top1", "top5", "accuracy", "precision", "recall", "f1", "auc", "auroc", "map", "iou", "miou"})
_METRICS_DOWN = frozenset({"loss", "error", "seconds", "params", "macs"})
_SPLITS = ("train", "fit", "val", "test", "cost")


def metric_mode(name: str, mode: Literal["max", "min"] | None = None) -> Literal["max", "min"]:
    """Whether more or less of a metric is better; ``mode`` says it of a metric of the user's own.

    Raises UserError for an unknown metric without a mode.
    """
    if mode is not None:
        return mode
    split, _, kind = name.rpartition("/")
    if split == "cost" or (split in _SPLITS and kind in _METRICS_DOWN):
        return "min"
    if split in _SPLITS and kind in _METRICS_UP:
        return "max"
    known = [f"{each}/{metric}" for each in ("fit", "val", "test") for metric in ("loss", "top1", "top5")]
    close = nearest(name, known)
    hint = f", or name a known metric; nearest: {close}" if close else ""
    raise UserError(f"whether more of {name!r} is better is not known; add `mode: max` or `mode: min`{hint}")


def check_direction(metric: str, mode: Literal["max", "min"] | None) -> None:
    """Raise FieldError at the key ``metric`` where :func:`metric_mode` does not know whether more of it is better."""
    try:
        metric_mode(metric, mode)
    except UserError as error:
        raise FieldError("metric", str(error)) from error


def same(one: Any, other: Any) -> bool:
    """Whether two values of a file are the same: 1 and 1.0 are, 1 and true are not."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, int | float) and isinstance(other, int | float):
        return one == other
    return type(one) is type(other) and canonical(one) == canonical(other)


def contains(dimension: Dimension, value: Any) -> bool:
    """Whether ``value`` is one that the dimension can take."""
    if dimension.kind == "choice":
        return any(same(value, each) for each in dimension.values)
    low, high = _ends(dimension)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        return False
    return dimension.kind != "int" or (value == int(value) and (int(value) - int(low)) % dimension.step == 0)


def _ends(dimension: Dimension) -> tuple[float, float]:
    low, high = dimension.low, dimension.high
    if low is None or high is None:
        raise ValueError(f"{dimension.key}: {dimension.kind} needs low and high")
    return low, high


def _integers(dimension: Dimension) -> range:
    low, high = _ends(dimension)
    return range(int(low), int(high) + 1, dimension.step)


def listed(dimension: Dimension) -> Sequence[Any]:
    """All values of a finite dimension, each once, in order. Raises UserError for a continuous one."""
    if dimension.kind == "int":
        return _integers(dimension)
    if dimension.kind != "choice":
        raise UserError(
            f"{dimension.key}: {dimension.kind} is continuous, and a grid needs values to go through; "
            "list them, or choose the searcher random"
        )
    first: dict[str, Any] = {}
    for value in dimension.values:
        first.setdefault(_token(value), value)
    return list(first.values())


def _token(value: Any) -> str:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return canonical(float(value) if number and abs(value) < 2**53 else value)


def ordered(space: Sequence[Dimension], *, soon: bool = False) -> list[Dimension]:
    """The dimensions with each one after those that its conditions name, else in the order of the file.

    ``soon`` puts a conditional dimension as close behind its conditions as possible.
    Raises UserError where conditions go round in a circle.
    """
    waiting, done, placed = list(space), [], set()
    keys = {each.key for each in space}
    while waiting:
        able = [each for each in waiting if all(key in placed or key not in keys for key in each.when)]
        if not able:
            circle = ", ".join(each.key for each in waiting)
            raise UserError(f"conditions (`when`) go round in a circle: {circle}")
        ready = next((each for each in able if each.when and soon), able[0])
        waiting.remove(ready)
        done.append(ready)
        placed.add(ready.key)
    return done


def is_active(dimension: Dimension, chosen: Mapping[str, Any]) -> bool:
    """Whether all conditions hold. A condition on a key that is itself inactive does not."""
    return all(
        key in chosen and any(same(chosen[key], value) for value in values) for key, values in dimension.when.items()
    )


def grid(space: Sequence[Dimension]) -> Iterator[dict[str, Any]]:
    """Every config of a finite space, the last key of the file running fastest. Raises UserError as ``listed`` does."""
    dimensions = ordered(space)
    values = [listed(each) for each in dimensions]
    order = [each.key for each in space]

    def expand(index: int, chosen: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if index == len(dimensions):
            yield {key: chosen[key] for key in order if key in chosen}
        elif not is_active(dimensions[index], chosen):
            yield from expand(index + 1, chosen)
        else:
            for value in values[index]:
                yield from expand(index + 1, {**chosen, dimensions[index].key: value})

    return expand(0, {})


def grid_size(space: Sequence[Dimension], seeds: Sequence[int] = (0,)) -> int:
    """Number of trials of a grid, counted without expanding it. Raises UserError as ``listed`` does."""
    dimensions = ordered(space, soon=True)  # few conditions are open at any place, so few states are counted
    place = {each.key: index for index, each in enumerate(dimensions)}
    classes = [_classes(each, dimensions) for each in dimensions]

    @cache
    def count(index: int, dead: frozenset[str]) -> int:
        """Configs of the dimensions from ``index`` on, where ``dead`` ones have a condition that does not hold."""
        if index == len(dimensions):
            return 1
        open_ = frozenset(key for key in dead if place[key] > index)
        if dimensions[index].key in dead:
            return count(index + 1, open_ | _waiting(dimensions[index], dimensions))
        return sum(size * count(index + 1, open_ | killed) for killed, size in classes[index].items())

    return count(0, frozenset()) * len(seeds)


def _waiting(dimension: Dimension, space: Sequence[Dimension]) -> frozenset[str]:
    return frozenset(each.key for each in space if dimension.key in each.when)


def _classes(dimension: Dimension, space: Sequence[Dimension]) -> dict[frozenset[str], int]:
    """How many values of a dimension switch the same other dimensions off."""
    asked = {each.key: each.when[dimension.key] for each in space if dimension.key in each.when}
    special = {_token(value): value for wanted in asked.values() for value in wanted if contains(dimension, value)}
    sizes = {frozenset(asked): len(listed(dimension)) - len(special)}
    for value in special.values():
        killed = frozenset(key for key, wanted in asked.items() if not any(same(value, each) for each in wanted))
        sizes[killed] = sizes.get(killed, 0) + 1
    return sizes


def sample(space: Sequence[Dimension], rng: random.Random) -> dict[str, Any]:
    """One config drawn at random; both ends of an interval included."""
    chosen: dict[str, Any] = {}
    for dimension in ordered(space):
        if is_active(dimension, chosen):
            chosen[dimension.key] = _draw(dimension, rng)
    return {each.key: chosen[each.key] for each in space if each.key in chosen}


def _draw(dimension: Dimension, rng: random.Random) -> Any:
    if dimension.kind == "choice":
        return rng.choice(dimension.values)
    low, high = _ends(dimension)
    if dimension.kind == "uniform":
        return rng.uniform(low, high)
    if dimension.kind == "loguniform":
        return min(max(math.exp(rng.uniform(math.log(low), math.log(high))), low), high)
    if not dimension.log:
        return rng.choice(_integers(dimension))
    # Each integer gets the share of the log scale that rounds to it, so that the ends are not drawn half as often.
    drawn = round(math.exp(rng.uniform(math.log(low - 0.5), math.log(high + 0.5))))
    return min(max(drawn, int(low)), int(high))


def probes(space: Sequence[Dimension], most: int = 1000) -> list[dict[str, Any]]:
    """Configs that show what a space holds: intervals by their ends, every choice where ``most`` allows."""
    finite = [
        each
        if each.kind == "choice"
        else each.model_copy(update={"kind": "choice", "values": _probe_values(each, space)})
        for each in space
    ]
    if grid_size(finite) <= most:
        return list(grid(finite))
    rng = random.Random(0)  # noqa: S311 - no secret; the same probes every time
    return [sample(finite, rng) for _ in range(most)]


def _probe_values(dimension: Dimension, space: Sequence[Dimension]) -> tuple[Any, ...]:
    """Both ends of an interval, and the values at which other dimensions become active."""
    ends = (_integers(dimension)[0], _integers(dimension)[-1]) if dimension.kind == "int" else _ends(dimension)
    asked = [value for each in space for value in each.when.get(dimension.key, ())]
    return (*ends, *asked)
