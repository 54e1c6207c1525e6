"""From a file to an experiment: read, ``extends``, ``--set``, resolve, validate (design section 4.1)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expflow.config.components import Scope, resolve_recipe
from expflow.config.configs import Configs
from expflow.config.fitted import check_fit_on
from expflow.config.identity import safe_name, value_words
from expflow.config.merge import merge, split_key, under
from expflow.config.reading import parse_value, read
from expflow.config.schema import About, Experiment, Recipe, ReportPlan, Resources, Sweep
from expflow.config.space import grid, probes
from expflow.config.sweeping import read_report, read_sweep
from expflow.config.tree import Mark, Node, at, from_plain, moved, plain, problem, shown, walk
from expflow.config.wording import check_model, unknown
from expflow.errors import ExperimentInvalid, Problem
from expflow.registry import SLOTS

if TYPE_CHECKING:
    from expflow.config.site import Site

OWN_KEYS = ("about", "sweep", "report", "name")
"""Keys that a file does not hand on to those that extend it."""

ROOT_KEYS = ("extends", *(key for key in Experiment.model_fields if key != "file"))
"""Keys at the top of a file."""


@dataclass(frozen=True)
class Loaded:
    """An experiment, and what is needed to make its configs and to say where each value was written."""

    experiment: Experiment
    text: str
    """The file as it was read, before ``extends`` and ``--set``."""
    sets: tuple[str, ...]
    tree: Node = field(repr=False)
    _configs: Configs = field(repr=False)

    @property
    def name(self) -> str:
        """The name of the results: the experiment's, with ``+key=value`` for each recipe key that ``--set`` changed."""
        return self.experiment.name

    @property
    def recipe_tree(self) -> dict[str, Any]:
        """The base recipe as merged from the files and ``--set``, before names are looked up."""
        tree: dict[str, Any] = plain(self.tree)
        return {key: value for key, value in tree.items() if _is_recipe(key)}

    def configure(self, values: Mapping[str, Any]) -> Recipe:
        """The recipe with the searched ``values`` (dotted key -> value) in it, validated like a hand-written one.

        Raises ExperimentInvalid; its problems lie where the values stand in the file, or say in which config they are.
        """
        return self._configs.make(values)

    def grid(self) -> list[dict[str, Any]]:
        """The searched values of every config of the grid, in the order of the file; no config twice.

        Raises ExperimentInvalid with everything that is wrong in any of them, and UserError for a continuous space.
        """
        sweep = self.experiment.sweep
        found, problems = self._configs.survey(grid(sweep.space) if sweep is not None else [{}])
        if problems:
            raise ExperimentInvalid(problems)
        return found

    def check(self) -> None:
        """Validate the configs of the sweep: all of a grid; of other searches the ends and choices of the space.

        Raises ExperimentInvalid with all problems, each place once.
        """
        if problems := self._configs.survey(_shown_configs(self.experiment.sweep))[1]:
            raise ExperimentInvalid(problems)

    def place(self, key: str, values: Mapping[str, Any] | None = None) -> Mark:
        """Where the config of the searched ``values`` says ``key``, or the nearest key around it that is written."""
        path, values = split_key(key), values or {}
        for end in range(len(path), 0, -1):
            above = ".".join(path[:end])
            if above in values:
                return self.place_of(above, values[above], *path[end : end + 1])
            if (found := at(self.tree, path[:end])) is not None:
                return found.mark
        return self.tree.mark

    def place_of(self, key: str, value: Any, part: str = "") -> Mark:
        """Where the sweep says ``value`` for the searched ``key``, or ``part`` of it where it is a mapping."""
        node = self._configs.written(key, value)
        return (node.child(part) or node).mark

    def foreign_names(self) -> set[str]:
        """All ``package.module:Name`` in the recipe and in searched values."""
        sweep = self.tree.child("sweep")
        space = sweep.child("space") if sweep is not None else None
        roots = [child for key, child in self.tree.items.items() if _is_recipe(key)]
        nodes = [node for root in (*roots, *([space] if space is not None else [])) for node in walk(root)]
        return {node.value for node in nodes if isinstance(node.value, str) and _names_code(node.value)}


def _shown_configs(sweep: Sweep | None) -> Iterable[dict[str, Any]]:
    if sweep is None:
        return ()
    if sweep.searcher.name == "points":
        return getattr(sweep.searcher, "points", ())
    return grid(sweep.space) if sweep.searcher.name == "grid" else probes(sweep.space)


def _names_code(text: str) -> bool:
    module, _, name = text.partition(":")
    return all(part.isidentifier() for part in (*module.split("."), *name.split(".")))


def _is_recipe(key: str) -> bool:
    return key in Recipe.model_fields


def load(path: Path | str, sets: Sequence[str] = (), site: Site | None = None) -> Loaded:
    """The experiment in the file ``path``, changed by ``sets`` (``key=value`` each).

    ``site`` gives defaults for ``resources``. Searched values are not validated here: :meth:`Loaded.check` does that.
    Raises ExperimentInvalid with everything that is wrong.
    """
    path = Path(path)
    text, root = read(path)
    tree = _extended(path, root, ())
    problems: list[Problem] = []
    for each in sets:
        tree = merge(tree, _setting(each, problems))
    if problems:
        raise ExperimentInvalid(problems)
    if site is not None and site.resources is not None:
        resources = from_plain(site.resources.model_dump(exclude_unset=True), Mark("expflow.site.yaml"))
        tree = merge(Node({"resources": resources}, tree.mark), tree)
    scope = Scope(path.resolve().parent)
    experiment = _experiment(path, tree, sets, scope)
    return Loaded(experiment, text, tuple(sets), tree, Configs(tree, scope))


def _extended(path: Path, root: Node, chain: tuple[Path, ...]) -> Node:
    """The file's tree over those that it extends, each of which may extend others."""
    chain = (*chain, path.resolve())
    extends = root.child("extends")
    own = Node({key: child for key, child in root.items.items() if key != "extends"}, root.mark)
    base: Node | None = None
    for each in _listed(extends):
        if not isinstance(each.value, str):
            found = shown(plain(each))
            raise ExperimentInvalid(
                [problem(each.mark, "extends", f"expected a path or a list of paths, found {found}")]
            )
        other = path.parent / each.value
        if other.resolve() in chain:
            round_ = " -> ".join(file.name for file in (*chain, other))
            raise ExperimentInvalid([problem(each.mark, "extends", f"files extend each other in a circle: {round_}")])
        shown_path = os.path.normpath(other)
        inherited = _extended(other, read(other, shown_path, each.mark)[1], chain)
        handed_on = {key: child for key, child in inherited.items.items() if key not in OWN_KEYS}
        base = merge(base, Node(handed_on, inherited.mark))
    return merge(base, own)


def _listed(node: Node | None) -> tuple[Node, ...]:
    if node is None:
        return ()
    return node.value if node.is_list else (node,)


def _setting(text: str, problems: list[Problem]) -> Node:
    """The tree of one ``--set key=value``; the value is YAML."""
    mark = Mark(f"--set {text}")
    key, equals, value = text.partition("=")
    path = split_key(key)
    if not equals or not all(path):
        problems.append(problem(mark, "", "expected key=value, with dots between the parts of the key"))
    elif path[0] not in ROOT_KEYS or path[0] == "extends":
        known = [each for each in ROOT_KEYS if each != "extends"]
        problems.append(problem(mark, key, unknown(path[0], known)))
    else:
        try:
            return under(path, moved(parse_value(value, mark.file), mark))
        except ExperimentInvalid as error:
            problems.extend(problem(mark, key, each.message) for each in error.problems)
    return Node({}, mark)


def _experiment(path: Path, tree: Node, sets: Sequence[str], scope: Scope) -> Experiment:
    """Everything in the tree, typed. Raises ExperimentInvalid with all problems."""
    for key, child in tree.items.items():
        if key not in ROOT_KEYS:
            scope.refuse(child.key_mark or child.mark, key, unknown(key, ROOT_KEYS))
    recipe = resolve_recipe(tree, scope)
    sections: dict[str, Any] = {
        key: check_model(cls, node, (key,), scope.problems)
        for key, cls in (("about", About), ("resources", Resources))
        if (node := tree.child(key)) is not None
    }
    sweep_node, report_node = tree.child("sweep"), tree.child("report")
    sweep = read_sweep(sweep_node, tree, scope) if sweep_node is not None else None
    if report_node is not None and sweep is None and sweep_node is not None:  # what is searched is not known
        check_model(ReportPlan, report_node, ("report",), scope.problems)
    elif report_node is not None:
        sections["report"] = read_report(report_node, sweep, tree, scope)
    if recipe is not None:
        check_fit_on(recipe, sweep, tree, scope)
    name, storage = _name(path, tree, sets, scope), _text("storage", tree, scope)
    if recipe is None or scope.problems:
        if recipe is not None:  # the configs can be looked at: all errors at once
            scope.problems += Configs(tree, scope).survey(_shown_configs(sweep))[1]
        raise ExperimentInvalid(_sorted(scope.problems))
    slots = {key: getattr(recipe, key) for key in Recipe.model_fields}
    for key in SLOTS:
        if (node := tree.child(key)) is not None:
            scope.known[key] = (node, slots[key])
    return Experiment(**slots, **sections, sweep=sweep, storage=storage, name=name, file=path.absolute())


def _sorted(problems: Sequence[Problem]) -> list[Problem]:
    """In the order of the files, each once."""
    files = list(dict.fromkeys(each.file for each in problems))
    return sorted(dict.fromkeys(problems), key=lambda each: (files.index(each.file), each.line, each.column))


def _text(key: str, tree: Node, scope: Scope) -> str | None:
    node = tree.child(key)
    if node is None or isinstance(node.value, str):
        return None if node is None else node.value
    scope.refuse(node.mark, key, f"expected text, found {shown(plain(node))}")
    return None


def _name(path: Path, tree: Node, sets: Sequence[str], scope: Scope) -> str:
    """The experiment's name: as given, else the file's stem, and the recipe keys that ``--set`` changed."""
    given = _text("name", tree, scope)
    if given is not None and (given != safe_name(given) or "+" in given or "=" in given):
        scope.refuse(
            tree.items["name"].mark, "name", f"expected letters, digits, dots, dashes and underscores, found {given!r}"
        )
    changed: dict[str, str] = {}
    for each in sets:
        key, _, value = each.partition("=")
        if _is_recipe(split_key(key)[0]):
            changed[key] = value_words(plain(parse_value(value, "")))
    words = "".join(f"+{key}={value}" for key, value in sorted(changed.items()))
    return safe_name((given or path.stem) + words)
