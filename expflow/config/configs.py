"""Making configs: the base recipe with searched values in it, validated like a hand-written one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from expflow.config.components import Scope, resolve_recipe
from expflow.config.identity import config_id, readable
from expflow.config.merge import merge, nest
from expflow.config.schema import Recipe
from expflow.config.space import same
from expflow.config.tree import Mark, Node, at, from_plain, plain, walk
from expflow.errors import ExperimentInvalid, Problem


@dataclass(frozen=True)
class Configs:
    """All configs of one experiment, whose merged tree is ``tree``."""

    tree: Node
    scope: Scope

    def make(self, values: Mapping[str, Any]) -> Recipe:
        """The config with the searched ``values``. Raises ExperimentInvalid."""
        nodes = {key: self.written(key, value) for key, value in values.items()}
        scope = Scope(self.scope.folder, known=self.scope.known)
        recipe = resolve_recipe(merge(self.tree, nest(nodes, self.tree.mark)), scope)
        if recipe is None or scope.problems:
            own = {node.mark for each in nodes.values() for node in walk(each)}
            raise ExperimentInvalid(_in_config(each, values, own) for each in scope.problems)
        return recipe

    def survey(self, configs: Iterable[Mapping[str, Any]]) -> tuple[list[dict[str, Any]], list[Problem]]:
        """The valid ones of ``configs``, each config once, and the problems of the others, each place once."""
        found: dict[str, dict[str, Any]] = {}
        problems: dict[tuple[str, int, int, str], Problem] = {}
        for values in configs:
            try:
                found.setdefault(config_id(self.make(values)), dict(values))
            except ExperimentInvalid as error:
                for each in error.problems:
                    problems.setdefault((each.file, each.line, each.column, each.key), each)
        return list(found.values()), list(problems.values())

    def written(self, key: str, value: Any) -> Node:
        """A searched value as it stands in the file, or at its dimension's place where it was drawn."""
        dimension = at(self.tree, ("sweep", "space", key))
        if dimension is None:
            return self._listed(key, value)
        listed = dimension if dimension.is_list else dimension.child("choice")
        for each in listed.value if listed is not None and listed.is_list else ():
            if same(plain(each), value):
                return Node(each.value, each.mark, each.mark)
        return from_plain(value, dimension.mark)

    def _listed(self, key: str, value: Any) -> Node:
        """The value as one of the listed configs has it."""
        points = at(self.tree, ("sweep", "searcher", "points"))
        for point in points.value if points is not None and points.is_list else ():
            node = point.child(key) if point.is_mapping else None
            if node is not None and same(plain(node), value):
                return Node(node.value, node.mark, node.mark)
        return from_plain(value, Mark("searched value"))


def _in_config(each: Problem, values: Mapping[str, Any], own: set[Mark]) -> Problem:
    """The problem, saying in which config it arises where it does not lie on a searched value itself."""
    if Mark(each.file, each.line, each.column) in own or not values:
        return each
    return Problem(each.file, each.line, each.column, each.key, f"{each.message} (in the config {readable(values)})")
