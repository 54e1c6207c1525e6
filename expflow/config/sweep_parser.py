"""The section ``sweep``: searcher, scheduler, seeds, metric."""

from __future__ import annotations

from typing import Any

from expflow.config.component_specs import scheduler_spec, searcher_spec
from expflow.config.components import LoadingContext, resolve_component
from expflow.config.merge import as_component
from expflow.config.objectives_parser import check_several_objectives, read_objectives
from expflow.config.schema import Confirm, Dimension, Proxies, Sweep
from expflow.config.searchable_keys import SearchableKeys
from expflow.config.space import GRID_LIMIT, finite_values, grid_size
from expflow.config.space_parser import read_space
from expflow.config.tree import Node, describe_value, from_plain, node_at, plain
from expflow.config.validation import check_model, unknown_key
from expflow.errors import UserError
from expflow.metrics import metric_mode
from expflow.redaction import redacted_tree
from expflow.registry import SCHEDULERS, SEARCHERS

MAX_SEEDS = 10_000
MAX_OPTIONS = 1000
"""Most values of a key for a searcher that chooses among listed ones."""


def read_sweep(node: Node, tree: Node, context: LoadingContext) -> Sweep | None:
    """The section ``sweep``.

    Args:
        node: The section as written.
        tree: The merged file.
        context: Problems are noted here.

    Returns:
        The section; None where something is wrong.
    """
    before = len(context.problems)
    if not node.is_mapping:
        context.refuse(node.mark, "sweep", f"expected a mapping, found {describe_value(plain(node))}")
        return None
    for key in Sweep.filled_in:
        if (given := node.child(key)) is not None:
            keys = [field for field in Sweep.model_fields if field not in Sweep.filled_in]
            context.refuse(given.key_mark or given.mark, f"sweep.{key}", unknown_key(key, keys))
            return None
    ready = _resolved_parts(node, tree, context)
    sweep = check_model(Sweep, node, ("sweep",), context.problems, ready)
    if sweep is not None:
        _check_metric(sweep, node, context)
        _check_secrets(sweep, node, context)
        _check_together(sweep, node, context)
    if sweep is not None and len(context.problems) == before:
        _check_grid(sweep, node.child("space"), context)
    return sweep if len(context.problems) == before else None


def _resolved_parts(node: Node, tree: Node, context: LoadingContext) -> dict[str, Any]:
    """Field to value of the parts that pydantic does not read: searcher, scheduler, space and seeds."""
    ready: dict[str, Any] = {}
    space_node, seeds_node = node.child("space"), node.child("seeds")
    searcher = as_component(node.child("searcher") or Node("grid", node.mark))
    ready["searcher"] = resolve_component(SEARCHERS, searcher, ("sweep", "searcher"), context)
    points = searcher.child("points")
    if ready["searcher"] is not None and ready["searcher"].name == "points" and points is not None:
        ready["space"] = _points(points, space_node, tree, context)
    elif space_node is not None:
        ready["space"] = read_space(space_node, tree, context)
    if seeds_node is not None and seeds_node.is_mapping:
        ready |= _screening(seeds_node, context)
    elif seeds_node is not None:
        ready["seeds"] = _seeds(seeds_node, context)
    ready |= read_objectives(node, context)
    if (proxies := node.child("proxies")) is not None:
        ready["proxies"] = check_model(Proxies, proxies, ("sweep", "proxies"), context.problems) or Proxies()
    scheduler = node.child("scheduler")
    if scheduler is not None:
        ready["scheduler"] = resolve_component(SCHEDULERS, scheduler, ("sweep", "scheduler"), context)
    if ready["searcher"] is None:  # noted above; any other lets the rest be checked, too
        ready["searcher"] = SEARCHERS.spec("grid")(name="grid")
    return ready


def _points(node: Node, space: Node | None, tree: Node, context: LoadingContext) -> tuple[Dimension, ...]:
    """What listed configs search: each of their keys, with the values that it takes in them."""
    if space is not None:
        context.refuse(
            space.key_mark or space.mark, "sweep.space", "the searcher points lists the configs; remove this"
        )
    values: dict[str, list[Any]] = {}
    for point in node.value:
        for key, child in point.items.items():
            values.setdefault(key, []).append(plain(child))
    keys = SearchableKeys(tree, {key: from_plain(choices, node.mark) for key, choices in values.items()}, context)
    for index, point in enumerate(node.value):
        for key, child in point.items.items():
            if reason := keys.why_not(key):
                context.refuse(child.key_mark or child.mark, f"sweep.searcher.points.{index}.{key}", reason)
    return tuple(Dimension(key=key, kind="choice", values=tuple(choices)) for key, choices in values.items())


def _screening(node: Node, context: LoadingContext) -> dict[str, Any]:
    """Seeds 0 to screen-1 for every config; the next ``confirm`` ones for the ``top`` configs alone."""
    wanted, counts = ("screen", "confirm", "top"), {}
    for key, child in node.items.items():
        if key not in wanted:
            context.refuse(child.key_mark or child.mark, f"sweep.seeds.{key}", unknown_key(key, wanted))
    for key in wanted:
        given = node.child(key)
        if given is not None and _is_whole(given.value) and 1 <= given.value <= MAX_SEEDS:
            counts[key] = int(given.value)
            continue
        what = f"found {describe_value(plain(given))}" if given is not None else "it is missing"
        context.refuse((given or node).mark, f"sweep.seeds.{key}", f"expected a count from 1 to {MAX_SEEDS}; {what}")
    if len(counts) < len(wanted):
        return {"seeds": (0,)}  # noted above; any other lets the rest be checked, too
    first, more = counts["screen"], counts["confirm"]
    confirm = Confirm(seeds=tuple(range(first, first + more)), top=counts["top"])
    return {"seeds": tuple(range(first)), "confirm": confirm}


def _seeds(node: Node, context: LoadingContext) -> tuple[int, ...]:
    """Seeds 0 to n-1 for a count n, or the listed ones."""
    value = node.value
    if _is_whole(value) and 1 <= value <= MAX_SEEDS:
        return tuple(range(value))
    if node.is_list and 0 < len(value) <= MAX_SEEDS:
        listed_seeds = tuple(item.value for item in value)
        if all(_is_whole(seed) and 0 <= seed < 2**32 for seed in listed_seeds):
            if len(set(listed_seeds)) == len(listed_seeds):
                return listed_seeds
            context.refuse(node.mark, "sweep.seeds", "the same seed is listed twice; it would be the same trial")
            return (0,)
    written = describe_value(value) if not node.is_list else "something else in the list"
    expected = f"a count from 1 to {MAX_SEEDS} or a list of whole numbers from 0 to 2^32 - 1"
    context.refuse(node.mark, "sweep.seeds", f"expected {expected}, found {written}")
    return (0,)


def _check_together(sweep: Sweep, node: Node, context: LoadingContext) -> None:
    """What searcher and scheduler ask of the rest of the sweep."""
    if searcher_spec(sweep.searcher).needs_space and not sweep.space:
        place = node.child("searcher") or node
        context.refuse(place.mark, "sweep.searcher", f"{sweep.searcher.name} needs a space to search: add sweep.space")
    if searcher_spec(sweep.searcher).needs_listed_values:
        _check_listed_values(sweep, node, context)
    if sweep.further:
        check_several_objectives(sweep, node, context)
    if sweep.scheduler is None:
        return
    scheduler = as_component(node.items["scheduler"])
    keys = tuple(dimension.key for dimension in sweep.space)
    for field, message in scheduler_spec(sweep.scheduler).conflicts(keys, len(sweep.seeds)):
        place = scheduler.child(field) or scheduler
        context.refuse(place.mark, f"sweep.scheduler.{field}", message)


def _check_listed_values(sweep: Sweep, node: Node, context: LoadingContext) -> None:
    """A searcher that chooses among values needs values to choose among, and not too many."""
    for dimension in sweep.space:
        continuous = dimension.kind in ("uniform", "loguniform")
        if continuous or len(finite_values(dimension)) > MAX_OPTIONS:
            place = node_at(node, ("space", dimension.key)) or node
            what = "is continuous" if continuous else f"has more than {MAX_OPTIONS} values"
            context.refuse(
                place.mark,
                f"sweep.space.{dimension.key}",
                f"it {what}, and the searcher {sweep.searcher.name} chooses among listed values: list some, or choose"
                " tpe",
            )


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check_metric(sweep: Sweep, node: Node, context: LoadingContext) -> None:
    try:
        metric_mode(sweep.metric, sweep.mode)
    except UserError as error:
        context.refuse((node.child("metric") or node).mark, "sweep.metric", str(error))


def _check_secrets(sweep: Sweep, node: Node, context: LoadingContext) -> None:
    """Searched values are recorded and name folders."""
    for dimension in sweep.space:
        name = dimension.key.rpartition(".")[2]
        if any(redacted_tree(value, name) != value for value in dimension.values):
            place = node_at(node, ("space", dimension.key)) or node.child("searcher") or node
            context.refuse(
                place.mark,
                f"sweep.space.{dimension.key}",
                "a value holds a secret, and searched values are recorded and name folders; write it into ~/.netrc or"
                " an environment variable of the service, or write the key into the recipe and not into the space",
            )


def _check_grid(sweep: Sweep, space: Node | None, context: LoadingContext) -> None:
    """A grid must be finite, and small enough to be run."""
    if sweep.searcher.name != "grid" or space is None:
        return
    for dimension in sweep.space:
        try:
            finite_values(dimension)
        except UserError as error:
            _, _, reason = str(error).partition(": ")
            context.refuse(space.items[dimension.key].mark, f"sweep.space.{dimension.key}", reason)
            return
    size = grid_size(sweep.space)
    if size > GRID_LIMIT:
        message = f"a grid of {size:,} configs; at most {GRID_LIMIT:,} are run"
        message += ": list fewer values, or choose the searcher random"
        context.refuse(space.key_mark or space.mark, "sweep.space", message)
