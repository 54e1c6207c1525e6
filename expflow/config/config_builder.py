"""Making configs: the base recipe with searched values in it, validated like a hand-written one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from expflow.config.child_space import collapsed_key
from expflow.config.components import LoadingContext, resolve_recipe
from expflow.config.identity import config_id, config_text
from expflow.config.merge import merge, tree_of_values
from expflow.config.schema import Recipe
from expflow.config.space import same_value
from expflow.config.tree import Mark, Node, from_plain, node_at, plain, walk
from expflow.errors import ExperimentInvalid, Problem


@dataclass(frozen=True)
class ConfigBuilder:
    """Makes the configs of one experiment.

    Attributes:
        tree: The merged file.
        context: Where it lies, and the slots of the base recipe.
    """

    tree: Node
    context: LoadingContext

    def make(self, values: Mapping[str, Any]) -> Recipe:
        """The config that has searched values.

        Args:
            values: Searched key to value.

        Raises:
            ExperimentInvalid: The values make no valid recipe; its problems lie where they stand in the file.
        """
        nodes = {key: self.written(key, value) for key, value in values.items()}
        context = LoadingContext(self.context.folder, known=self.context.known)
        recipe = resolve_recipe(merge(self.tree, tree_of_values(nodes, self.tree.mark)), context)
        if recipe is None or context.problems:
            own = {node.mark for root in nodes.values() for node in walk(root)}
            raise ExperimentInvalid(_in_config(problem, values, own) for problem in context.problems)
        return recipe

    def survey(self, configs: Iterable[Mapping[str, Any]]) -> tuple[list[dict[str, Any]], list[Problem]]:
        """Validate configs.

        Args:
            configs: The searched values of each.

        Returns:
            The valid ones, each config once, and the problems of the others, each place once.
        """
        valid: dict[str, dict[str, Any]] = {}
        problems: dict[tuple[str, int, int, str], Problem] = {}
        for values in configs:
            try:
                valid.setdefault(config_id(self.make(values)), dict(values))
            except ExperimentInvalid as error:
                for problem in error.problems:
                    problems.setdefault((problem.file, problem.line, problem.column, problem.key), problem)
        return list(valid.values()), list(problems.values())

    def written(self, key: str, value: Any) -> Node:
        """A searched value as it stands in the file, or at its dimension's place where it was drawn.

        Args:
            key: The searched key.
            value: One of its values.
        """
        written = collapsed_key(key) or key
        dimension = node_at(self.tree, ("sweep", "space", key)) or node_at(self.tree, ("sweep", "space", written))
        if dimension is None:
            return self._listed(key, value)
        listed = dimension if dimension.is_list else dimension.child("choice")
        for choice in listed.value if listed is not None and listed.is_list else ():
            if same_value(plain(choice), value):
                return Node(choice.value, choice.mark, choice.mark)
        return from_plain(value, dimension.mark)

    def _listed(self, key: str, value: Any) -> Node:
        """The value as one of the listed configs has it."""
        points = node_at(self.tree, ("sweep", "searcher", "points"))
        for point in points.value if points is not None and points.is_list else ():
            node = point.child(key) if point.is_mapping else None
            if node is not None and same_value(plain(node), value):
                return Node(node.value, node.mark, node.mark)
        return from_plain(value, Mark("searched value"))


def _in_config(problem: Problem, values: Mapping[str, Any], own: set[Mark]) -> Problem:
    """The problem, saying in which config it arises where it does not lie on a searched value itself."""
    if Mark(problem.file, problem.line, problem.column) in own or not values:
        return problem
    return replace(problem, message=f"{problem.message} (in the config {config_text(values)})")
