"""A search space: counting, expanding and sampling it. Pure functions of its dimensions.

``when`` names other dimensions of the same space (the loader rewrites conditions on the recipe); a dimension is active
where all its conditions hold, and an inactive one leaves no key, so that it makes no second config.
"""

from __future__ import annotations

import math
import random
from collections.abc import Hashable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from expflow.config.identity import canonical_json
from expflow.config.schema import Dimension
from expflow.errors import UserError

GRID_LIMIT = 10_000
"""Most configs of a grid."""


def same_value(one: Any, other: Any) -> bool:
    """Whether two values of a file are the same: 1 and 1.0 are, 1 and true are not.

    Args:
        one: Plain data.
        other: Plain data.
    """
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, int | float) and isinstance(other, int | float):
        return one == other
    return type(one) is type(other) and canonical_json(one) == canonical_json(other)


def value_key(value: Any) -> Hashable:
    """What two values of a file have in common where they are the same, as :func:`same_value` says.

    Args:
        value: Plain data.
    """
    if isinstance(value, bool):
        return bool, value
    if isinstance(value, int | float):
        return float, value
    return type(value), canonical_json(value)


def contains(dimension: Dimension, value: Any) -> bool:
    """Whether a value is one that a dimension can take.

    Args:
        dimension: The dimension.
        value: Plain data.
    """
    if dimension.kind == "choice":
        return any(same_value(value, choice) for choice in dimension.values)
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


def finite_values(dimension: Dimension) -> Sequence[Any]:
    """All values of a finite dimension, each once, in order.

    Args:
        dimension: The dimension.

    Raises:
        UserError: It is continuous.
    """
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
    return canonical_json(float(value) if number and abs(value) < 2**53 else value)


def in_condition_order(space: Sequence[Dimension], *, soon: bool = False) -> list[Dimension]:
    """The dimensions with each one after those that its conditions name, else in the order of the file.

    Args:
        space: The dimensions.
        soon: Whether a conditional dimension stands as close behind its conditions as possible.

    Raises:
        UserError: Conditions go round in a circle.
    """
    waiting, done, placed = list(space), [], set()
    keys = {dimension.key for dimension in space}
    while waiting:
        able = [dimension for dimension in waiting if all(key in placed or key not in keys for key in dimension.when)]
        if not able:
            circle = ", ".join(dimension.key for dimension in waiting)
            raise UserError(f"conditions (`when`) go round in a circle: {circle}")
        ready = next((dimension for dimension in able if dimension.when and soon), able[0])
        waiting.remove(ready)
        done.append(ready)
        placed.add(ready.key)
    return done


def is_active(dimension: Dimension, chosen: Mapping[str, Any]) -> bool:
    """Whether all conditions of a dimension hold. A condition on a key that is itself inactive does not.

    Args:
        dimension: The dimension.
        chosen: Key to value of the dimensions before it; an inactive one is absent.
    """
    return all(
        key in chosen and any(same_value(chosen[key], value) for value in values)
        for key, values in dimension.when.items()
    )


def grid(space: Sequence[Dimension]) -> Iterator[dict[str, Any]]:
    """Every config of a finite space, the last key of the file running fastest.

    Passes on the UserErrors of :func:`finite_values` and :func:`in_condition_order`.

    Args:
        space: The dimensions.
    """
    dimensions = in_condition_order(space)
    values = [finite_values(dimension) for dimension in dimensions]
    order = [dimension.key for dimension in space]

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
    """Number of trials of a grid, counted without expanding it. Passes on errors as :func:`grid` does.

    Args:
        space: The dimensions.
        seeds: The seeds of each config.
    """
    dimensions = in_condition_order(space, soon=True)  # few conditions are open at any place, so few states are counted
    place = {dimension.key: index for index, dimension in enumerate(dimensions)}
    classes = [_classes(dimension, dimensions) for dimension in dimensions]

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
    return frozenset(other.key for other in space if dimension.key in other.when)


def _classes(dimension: Dimension, space: Sequence[Dimension]) -> dict[frozenset[str], int]:
    """How many values of a dimension switch the same other dimensions off."""
    conditions = {other.key: other.when[dimension.key] for other in space if dimension.key in other.when}
    special = {_token(value): value for wanted in conditions.values() for value in wanted if contains(dimension, value)}
    sizes = {frozenset(conditions): len(finite_values(dimension)) - len(special)}
    for value in special.values():
        killed = frozenset(
            key for key, wanted in conditions.items() if not any(same_value(value, active) for active in wanted)
        )
        sizes[killed] = sizes.get(killed, 0) + 1
    return sizes


def sample(space: Sequence[Dimension], rng: random.Random) -> dict[str, Any]:
    """One config drawn at random; both ends of an interval included.

    Args:
        space: The dimensions.
        rng: Where the randomness comes from.
    """
    chosen: dict[str, Any] = {}
    for dimension in in_condition_order(space):
        if is_active(dimension, chosen):
            chosen[dimension.key] = _draw(dimension, rng)
    return {dimension.key: chosen[dimension.key] for dimension in space if dimension.key in chosen}


def range_notes(space: Sequence[Dimension]) -> Iterator[str]:
    """A sentence for each range of whole numbers whose upper end its step never reaches.

    Args:
        space: The dimensions.
    """
    for dimension in space:
        if dimension.kind == "int" and (last := _integers(dimension)[-1]) != int(_ends(dimension)[1]):
            low, high = map(int, _ends(dimension))
            steps = f"steps of {dimension.step} from {low} end at {last}"
            yield f"sweep.space.{dimension.key}: {high} is never taken: {steps}"


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


def probe_configs(space: Sequence[Dimension], most: int = 1000) -> list[dict[str, Any]]:
    """Configs that show what a space holds: intervals by their ends, and every choice, if possible.

    Args:
        space: The dimensions.
        most: So many configs are drawn where there are more.
    """
    finite = [
        dimension
        if dimension.kind == "choice"
        else dimension.model_copy(update={"kind": "choice", "values": _probe_values(dimension, space)})
        for dimension in space
    ]
    if grid_size(finite) <= most:
        return list(grid(finite))
    rng = random.Random(0)  # noqa: S311 - no secret; the same probes every time
    return [sample(finite, rng) for _ in range(most)]


def _probe_values(dimension: Dimension, space: Sequence[Dimension]) -> tuple[Any, ...]:
    """Both ends of an interval, and the values at which other dimensions become active."""
    ends = (_integers(dimension)[0], _integers(dimension)[-1]) if dimension.kind == "int" else _ends(dimension)
    switching = [value for other in space for value in other.when.get(dimension.key, ())]
    return (*ends, *switching)
