"""A space as choices: what the searchers of this package draw, change and compare."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from expflow.architectures.specs.child_cells import canonical_cell, parse_cell
from expflow.architectures.specs.child_layers import canonical_layers
from expflow.config.child_space import collapsed_key
from expflow.config.identity import canonical_json
from expflow.config.schema import Dimension
from expflow.config.space import finite_values, grid_size, in_condition_order, is_active, value_key
from expflow.sweep.searchers import Values

_MOST_TRIES = 100


class ChoiceSpace:
    """The choices of a space, each among values that can be listed.

    Args:
        space: The searched dimensions.
    """

    def __init__(self, space: Sequence[Dimension]) -> None:
        self._file_order = [dimension.key for dimension in space]
        self.decisions: tuple[Dimension, ...] = tuple(in_condition_order(space))
        """The dimensions, each after those that its conditions name."""
        self.options: tuple[Sequence[Any], ...] = tuple(finite_values(dimension) for dimension in self.decisions)
        """The values of each decision."""
        self._places = [{value_key(value): place for place, value in enumerate(options)} for options in self.options]

    @property
    def size(self) -> int:
        """Number of configs; descriptions of one network count each."""
        return grid_size(self.decisions)

    def sample(self, rng: random.Random) -> Values:
        """A config in which every active choice is drawn uniformly.

        Args:
            rng: Where the randomness comes from.
        """
        return self._completed({}, rng)

    def mutate(self, values: Mapping[str, Any], rng: random.Random) -> Values:
        """A config with one choice changed, and what that makes active drawn anew.

        Args:
            values: A config of this space.
            rng: Where the randomness comes from.
        """
        open_ = [
            place
            for place, dimension in enumerate(self.decisions)
            if dimension.key in values and len(self.options[place]) > 1
        ]
        if not open_:
            return dict(values)
        place = rng.choice(open_)
        key = self.decisions[place].key
        others = [option for option in self.options[place] if value_key(option) != value_key(values[key])]
        return self._completed({**values, key: rng.choice(others)}, rng)

    def cross_over(self, one: Mapping[str, Any], other: Mapping[str, Any], rng: random.Random) -> Values:
        """A config that takes each choice from one of two, and draws what neither has.

        Args:
            one: A config of this space.
            other: Another.
            rng: Where the randomness comes from.
        """
        taken = {}
        for dimension in self.decisions:
            parents = [parent for parent in (one, other) if dimension.key in parent]
            if parents:
                taken[dimension.key] = rng.choice(parents)[dimension.key]
        return self._completed(taken, rng)

    def neighbours(self, values: Mapping[str, Any], rng: random.Random) -> list[Values]:
        """All configs that differ in one choice, in random order; each network once, and not the one given.

        Args:
            values: A config of this space.
            rng: Draws the order, and what a change makes active.
        """
        near: dict[str, Values] = {}
        for dimension, options in zip(self.decisions, self.options, strict=True):
            for option in options if dimension.key in values else ():
                changed = self._completed({**values, dimension.key: option}, rng)
                near.setdefault(self.network(changed), changed)
        near.pop(self.network(values), None)
        ordered = list(near.values())
        rng.shuffle(ordered)
        return ordered

    def network(self, values: Mapping[str, Any]) -> str:
        """One text for all descriptions of the same config: a child in its canonical form.

        Args:
            values: A config of this space.
        """
        return canonical_json(with_canonical_children(values))

    def indices(self, values: Mapping[str, Any]) -> list[tuple[int, int]] | None:
        """The active decisions with the place of the chosen value of each; None where it is no config of this space.

        Args:
            values: Searched key -> value.
        """
        chosen = []
        for place, dimension in enumerate(self.decisions):
            if not is_active(dimension, values):
                if dimension.key in values:
                    return None
                continue
            option = self._places[place].get(value_key(values[dimension.key])) if dimension.key in values else None
            if option is None:
                return None
            chosen.append((place, option))
        return chosen if len(chosen) == len(values) else None

    def unseen(self, seen: Mapping[str, Any] | set[str], rng: random.Random) -> Values | None:
        """A uniform draw of a network that is not known; None where a number of draws gives none.

        Args:
            seen: The known ones, as :meth:`network` names them.
            rng: Where the randomness comes from.
        """
        for _ in range(_MOST_TRIES):
            values = self.sample(rng)
            if self.network(values) not in seen:
                return values
        return None

    def ordered(self, chosen: Mapping[str, Any]) -> Values:
        """A config with its keys in the file's order.

        Args:
            chosen: Searched key -> value.
        """
        return {key: chosen[key] for key in self._file_order if key in chosen}

    def _completed(self, fixed: Mapping[str, Any], rng: random.Random) -> Values:
        """``fixed`` without what is inactive, and with what is active and missing drawn."""
        chosen: Values = {}
        for dimension, options in zip(self.decisions, self.options, strict=True):
            if is_active(dimension, chosen):
                chosen[dimension.key] = fixed[dimension.key] if dimension.key in fixed else rng.choice(options)
        return self.ordered(chosen)


def with_canonical_children(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values with the choices of each child replaced by its canonical text.

    Args:
        values: Searched key -> value.
    """
    whole = {key: value for key, value in values.items() if collapsed_key(key) is None}
    for key, choices in _children(values).items():
        canonical = canonical_layers if key.endswith(".layers") else canonical_cell
        whole[key] = canonical(choices)
    return whole


def _children(values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The choices of each child as the mapping that its spec takes."""
    children: dict[str, dict[str, Any]] = {}
    for key, value in values.items():
        child = collapsed_key(key)
        if child is None:
            continue
        number, _, part = key.removeprefix(f"{child}.").partition(".")
        if part:
            children.setdefault(child, {}).setdefault(number, {})[part] = value
        else:
            children.setdefault(child, {})[number] = value
    return children


def features(values: Mapping[str, Any]) -> frozenset[str]:
    """The path encoding of a config: what of it a predictor sees, as names of binary features.

    A cell has a feature for each way from one of its inputs to its output, named by the operations on it; any other
    key, and each choice of a layer, has one for its value.

    Args:
        values: Searched key -> value.

    Source:
        White et al. 2021, "BANANAS: Bayesian Optimization with Neural Architectures for Neural Architecture Search",
        section 3.1.
    """
    names = {f"{key}={canonical_json(value)}" for key, value in values.items() if not _is_of_cell(key)}
    for key, choices in _children(values).items():
        if not key.endswith(".layers"):
            names |= {f"{key}: {path}" for path in _paths(canonical_cell(choices))}
    return frozenset(names)


def _is_of_cell(key: str) -> bool:
    child = collapsed_key(key)
    return child is not None and not child.endswith(".layers")


def _paths(text: str) -> Iterator[str]:
    cell = parse_cell(text)
    to: dict[int, set[str]] = {0: {"0"}, 1: {"1"}}
    for number, node in enumerate(cell.nodes, start=2):
        to[number] = {f"{path} {operation}" for operation, source in node.edges for path in to[source]}
    for output in cell.outputs:
        yield from to[output]
