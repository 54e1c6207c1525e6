"""The searcher of a proof: what a search chose, beside what it has to beat, each child trained by one recipe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from expflow.config.identity import canonical_json
from expflow.config.schema import Dimension
from expflow.errors import UserError
from expflow.search.choices import with_canonical_children
from expflow.search.specs import ArmsSpec, ResolvedArmsSpec
from expflow.sweep.searchers import Learned, SearchAlgorithm, Values


class ArmSearch(SearchAlgorithm):
    """Proposes the children of all arms, those that a network is in common to once.

    Args:
        spec: The arguments, with the children that they led to.
        space: The searched dimensions; unused.
        mode: Whether more or less of the metric is better; unused.
    """

    def __init__(self, spec: ArmsSpec, space: tuple[Dimension, ...], mode: Literal["max", "min"]) -> None:
        children = spec.children if isinstance(spec, ResolvedArmsSpec) else ()
        self._arm_of = {network_of(child["values"]): str(child["arm"]) for child in reversed(children)}
        once = {network_of(child["values"]): dict(child["values"]) for child in reversed(children)}
        self._left = list(reversed(once.values()))[::-1]

    def suggest(self, recorded: Values | None = None) -> Values | None:
        """The next child."""
        return self._left.pop() if self._left else None

    def complete(self, values: Values, learned: Learned) -> None:
        """An arm learns nothing; a child that may not be trained is an error, because its arm would be empty.

        Raises:
            UserError: It is refused, by a limit for example.
        """
        if learned.refused:
            arm = self._arm_of.get(network_of(values), "")
            raise UserError(f"sweep.searcher: the child of the arm {arm} cannot be trained here: {learned.refused}")


def network_of(values: Mapping[str, Any]) -> str:
    """One text for all descriptions of a child.

    Args:
        values: Searched key -> value.
    """
    return canonical_json(with_canonical_children(values))
