"""From a file to an experiment: read, ``extends``, ``--set``, resolve, validate."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expflow.config.component_specs import searcher_spec, task_spec
from expflow.config.components import LoadingContext, resolve_recipe
from expflow.config.config_builder import ConfigBuilder
from expflow.config.fit_on import check_fit_on
from expflow.config.identity import safe_name, value_text
from expflow.config.inheritance import Inheritance
from expflow.config.merge import merge, split_key, tree_with
from expflow.config.report_parser import read_report
from expflow.config.report_settings import ReportSettings
from expflow.config.resources import Resources
from expflow.config.schema import About, Experiment, Recipe, Sweep, Tracking
from expflow.config.space import grid, probe_configs
from expflow.config.sweep_parser import read_sweep
from expflow.config.tree import Mark, Node, describe_value, from_plain, node_at, plain, problem_at, relocated, walk
from expflow.config.validation import check_model, unknown_key
from expflow.config.yaml_reader import MAX_DEPTH, parse_value, read
from expflow.errors import ExperimentInvalid, Problem
from expflow.redaction import redacted_tree, remember_address, remember_secrets
from expflow.registry import SLOTS

if TYPE_CHECKING:
    from expflow.config.site import Site

ROOT_KEYS = ("extends", *(key for key in Experiment.model_fields if key != "file"))
"""Keys at the top of a file."""


@dataclass(frozen=True)
class LoadedExperiment:
    """An experiment, and what is needed to make its configs and to say where each value was written.

    Attributes:
        experiment: What the file says.
        text: The file as it was read, before ``extends`` and ``--set``.
        sets: The ``key=value`` of ``--set``.
        tree: The merged file.
    """

    experiment: Experiment
    text: str
    sets: tuple[str, ...]
    tree: Node = field(repr=False)
    _configs: ConfigBuilder = field(repr=False)

    @property
    def name(self) -> str:
        """The name of the results: the experiment's, with ``+key=value`` for each recipe key that ``--set`` changed."""
        return self.experiment.name

    def configure(self, values: Mapping[str, Any]) -> Recipe:
        """The recipe with searched values in it, validated like a hand-written one.

        Args:
            values: Dotted key to value.

        Raises:
            ExperimentInvalid: It is not valid; the problems lie where the values stand in the file, or say in which
                config they are.
        """
        return self._configs.make(values)

    def grid(self) -> list[dict[str, Any]]:
        """The searched values of every config of the grid, in the order of the file; no config twice.

        Raises:
            ExperimentInvalid: Some are not valid; it holds everything that is wrong in any of them.
            UserError: The space is continuous.
        """
        sweep = self.experiment.sweep
        configs, problems = self._configs.survey(grid(sweep.space) if sweep is not None else [{}])
        if problems:
            raise ExperimentInvalid(problems)
        return configs

    def check(self) -> None:
        """Validate the configs of the sweep: all of a grid; of other searches the ends and choices of the space.

        Raises:
            ExperimentInvalid: Some are not valid; it holds all problems, each place once.
        """
        if problems := self._configs.survey(_shown_configs(self.experiment.sweep))[1]:
            raise ExperimentInvalid(problems)

    def location(self, key: str, values: Mapping[str, Any] | None = None) -> Mark:
        """Where a config says a key, or the nearest key around it that is written.

        Args:
            key: A dotted key.
            values: The config's searched values; by default the base recipe's.
        """
        path, values = split_key(key), values or {}
        for end in range(len(path), 0, -1):
            above = ".".join(path[:end])
            if above in values:
                return self.location_of_value(above, values[above], *path[end : end + 1])
            if (node := node_at(self.tree, path[:end])) is not None:
                return node.mark
        return self.tree.mark

    def location_of_value(self, key: str, value: Any, part: str = "") -> Mark:
        """Where the sweep says a value.

        Args:
            key: The searched key.
            value: One of its values.
            part: A key in the value, where that is a mapping.
        """
        node = self._configs.written(key, value)
        return (node.child(part) or node).mark

    def user_component_names(self) -> set[str]:
        """All ``package.module:Name`` in the recipe and in searched values."""
        sweep = self.tree.child("sweep")
        space = sweep.child("space") if sweep is not None else None
        roots = [child for key, child in self.tree.items.items() if _is_recipe(key)]
        nodes = [node for root in (*roots, *([space] if space is not None else [])) for node in walk(root)]
        return {node.value for node in nodes if isinstance(node.value, str) and names_code(node.value)}


def _shown_configs(sweep: Sweep | None) -> Iterable[Mapping[str, Any]]:
    if sweep is None:
        return ()
    if (configs := searcher_spec(sweep.searcher).listed_configs) is not None:
        return configs
    return grid(sweep.space) if sweep.searcher.name == "grid" else probe_configs(sweep.space)


def names_code(text: str) -> bool:
    """Whether a text has the form ``package.module:Name``.

    Args:
        text: A value of a recipe.
    """
    module, _, name = text.partition(":")
    return all(part.isidentifier() for part in (*module.split("."), *name.split(".")))


def _is_recipe(key: str) -> bool:
    return key in Recipe.model_fields


def load(path: Path | str, sets: Sequence[str] = (), site: Site | None = None) -> LoadedExperiment:
    """Read an experiment. Searched values are not validated here: :meth:`LoadedExperiment.check` does that.

    Args:
        path: The experiment file.
        sets: Changes of it, ``key=value`` each.
        site: This machine's settings; they give defaults for ``resources``.

    Raises:
        ExperimentInvalid: Something in it is wrong; it holds all problems.
    """
    path = Path(path)
    text, root = read(path)
    tree = Inheritance().extended(path, root)
    problems: list[Problem] = []
    for setting in sets:
        tree = merge(tree, _setting(setting, problems))
    if problems:
        raise ExperimentInvalid(problems)
    if site is not None and site.resources is not None:
        resources = from_plain(site.resources.model_dump(exclude_unset=True), Mark("expflow.site.yaml"))
        tree = merge(Node({"resources": resources}, tree.mark), tree)
    _remember_secrets(tree)
    context = LoadingContext(path.resolve().parent)
    experiment = _experiment(path, tree, sets, context)
    return LoadedExperiment(experiment, text, tuple(sets), tree, ConfigBuilder(tree, context))


def _remember_secrets(tree: Node) -> None:
    """What is secret in the file is kept out of all that this process records or prints."""
    remember_secrets(plain(tree))
    for node in walk(tree.child("data") or Node({}, tree.mark)):
        if isinstance(node.value, str):
            remember_address(node.value)


def _setting(text: str, problems: list[Problem]) -> Node:
    """The tree of one ``--set key=value``; the value is YAML."""
    mark = Mark(f"--set {text}")
    key, equals, value = text.partition("=")
    path = tuple(part.strip() for part in split_key(key.strip()))
    if not equals or not all(path):
        problems.append(problem_at(mark, "", "expected key=value, with dots between the parts of the key"))
    elif len(path) > MAX_DEPTH:
        problems.append(problem_at(mark, "", f"a key of {len(path)} parts; expected at most {MAX_DEPTH}"))
    elif path[0] not in ROOT_KEYS or path[0] == "extends":
        known = [root_key for root_key in ROOT_KEYS if root_key != "extends"]
        problems.append(problem_at(mark, key, unknown_key(path[0], known)))
    else:
        try:
            return tree_with(path, relocated(parse_value(value, mark.file), mark))
        except ExperimentInvalid as error:
            problems.extend(problem_at(mark, key, problem.message) for problem in error.problems)
    return Node({}, mark)


def changed_resources(resources: Resources, sets: Sequence[str]) -> Resources:
    """What a trial runs on, changed by ``--set``, where nothing but that may change.

    Args:
        resources: What it runs on without them.
        sets: The ``--set`` arguments.

    Raises:
        ExperimentInvalid: One of them is wrong, or is about something else.
    """
    problems: list[Problem] = []
    tree = from_plain(resources.model_dump(mode="json", exclude_none=True), Mark("resources"))
    for text in sets:
        setting = _setting(text, problems)
        for key, child in setting.items.items():
            if key == "resources":
                tree = merge(tree, child, ("resources",))
            else:
                problems.append(problem_at(Mark(f"--set {text}"), key, "a recorded trial changes its resources alone"))
    changed = check_model(Resources, tree, ("resources",), problems)
    if changed is None or problems:
        raise ExperimentInvalid(problems)
    return changed


def _experiment(path: Path, tree: Node, sets: Sequence[str], context: LoadingContext) -> Experiment:
    """Everything in the tree, typed. Raises ExperimentInvalid with all problems."""
    for key, child in tree.items.items():
        if key not in ROOT_KEYS:
            context.refuse(child.key_mark or child.mark, key, unknown_key(key, ROOT_KEYS))
    recipe = resolve_recipe(tree, context)
    sections: dict[str, Any] = {
        key: check_model(cls, node, (key,), context.problems)
        for key, cls in (("about", About), ("resources", Resources), ("tracking", Tracking))
        if (node := tree.child(key)) is not None
    }
    sweep_node, report_node = tree.child("sweep"), tree.child("report")
    sweep = read_sweep(sweep_node, tree, context) if sweep_node is not None else None
    if sweep is not None and recipe is not None and "metric" not in sweep.model_fields_set:
        sweep = sweep.model_copy(update={"metric": task_spec(recipe.task).judged_by})
    if report_node is not None and sweep is None and sweep_node is not None:  # what is searched is not known
        check_model(ReportSettings, report_node, ("report",), context.problems)
    elif report_node is not None:
        sections["report"] = read_report(report_node, sweep, tree, context)
    if recipe is not None:
        check_fit_on(recipe, sweep, tree, context)
    name, storage = _name(path, tree, sets, context), _text("storage", tree, context)
    if recipe is None or context.problems:
        if recipe is not None:  # the configs can be looked at: all errors at once
            context.problems += ConfigBuilder(tree, context).survey(_shown_configs(sweep))[1]
        raise ExperimentInvalid(_sorted(context.problems))
    slots = {key: getattr(recipe, key) for key in Recipe.model_fields}
    for key in SLOTS:
        if (node := tree.child(key)) is not None:
            context.known[key] = (node, slots[key])
    return Experiment(**slots, **sections, sweep=sweep, storage=storage, name=name, file=path.absolute())


def _sorted(problems: Sequence[Problem]) -> list[Problem]:
    """In the order of the files, each once."""
    files = list(dict.fromkeys(problem.file for problem in problems))
    return sorted(
        dict.fromkeys(problems), key=lambda problem: (files.index(problem.file), problem.line, problem.column)
    )


def _text(key: str, tree: Node, context: LoadingContext) -> str | None:
    node = tree.child(key)
    if node is None or isinstance(node.value, str):
        return None if node is None else node.value
    context.refuse(node.mark, key, f"expected text, found {describe_value(plain(node))}")
    return None


def _name(path: Path, tree: Node, sets: Sequence[str], context: LoadingContext) -> str:
    """The experiment's name: as given, else the file's stem, and the recipe keys that ``--set`` changed. It names the
    folder of the results, so it holds no secrets."""
    given = _text("name", tree, context)
    if given is not None and (given != safe_name(given) or "+" in given or "=" in given):
        context.refuse(
            tree.items["name"].mark, "name", f"expected letters, digits, dots, dashes and underscores, found {given!r}"
        )
    changed: dict[str, str] = {}
    for setting in sets:
        written, _, value = setting.partition("=")
        key = ".".join(part.strip() for part in split_key(written.strip()))
        if _is_recipe(split_key(key)[0]):
            named = redacted_tree(plain(parse_value(value, "")), split_key(key)[-1])
            changed[key] = value_text(named)
    words = "".join(f"+{key}={value}" for key, value in sorted(changed.items()))
    return safe_name((given or path.stem) + words)
