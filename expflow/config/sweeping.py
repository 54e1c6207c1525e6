"""The sections ``sweep`` and ``report``: searcher, seeds, metric, and claims about what is searched."""

from __future__ import annotations

from typing import Any

from expflow.config.components import Scope, resolve_component
from expflow.config.merge import as_component
from expflow.config.schema import Confirm, Dimension, ReportPlan, Sweep
from expflow.config.searched import Keys, lookup
from expflow.config.space import GRID_LIMIT, contains, grid_size, listed, metric_mode, same
from expflow.config.spaceforms import not_among, not_searched, read_space, with_value
from expflow.config.tree import Node, from_plain, plain, shown
from expflow.config.wording import check_model, unknown
from expflow.errors import UserError, nearest
from expflow.registry import SCHEDULERS, SEARCHERS

MAX_SEEDS = 10_000


def read_sweep(node: Node, tree: Node, scope: Scope) -> Sweep | None:
    """The section ``sweep`` over the recipe in ``tree``; None, and problems noted, where it is wrong."""
    before = len(scope.problems)
    if not node.is_mapping:
        scope.refuse(node.mark, "sweep", f"expected a mapping, found {shown(plain(node))}")
        return None
    if (given := node.child("confirm")) is not None:
        keys = [each for each in Sweep.model_fields if each not in Sweep.derived]
        scope.refuse(given.key_mark or given.mark, "sweep.confirm", unknown("confirm", keys))
    ready: dict[str, Any] = {}
    space_node, seeds_node = node.child("space"), node.child("seeds")
    searcher = as_component(node.child("searcher") or Node("grid", node.mark))
    ready["searcher"] = resolve_component(SEARCHERS, searcher, ("sweep", "searcher"), scope)
    points = searcher.child("points")
    if ready["searcher"] is not None and ready["searcher"].name == "points" and points is not None:
        ready["space"] = _points(points, space_node, tree, scope)
    elif space_node is not None:
        ready["space"] = read_space(space_node, tree, scope)
    if seeds_node is not None and seeds_node.is_mapping:
        ready |= _screening(seeds_node, scope)
    elif seeds_node is not None:
        ready["seeds"] = _seeds(seeds_node, scope)
    scheduler = node.child("scheduler")
    if scheduler is not None:
        ready["scheduler"] = resolve_component(SCHEDULERS, scheduler, ("sweep", "scheduler"), scope)
    if ready["searcher"] is None:  # noted above; any other lets the rest be checked, too
        ready["searcher"] = SEARCHERS.spec("grid")(name="grid")
    found = check_model(Sweep, node, ("sweep",), scope.problems, ready)
    if found is not None:
        _check_metric(found, node, scope)
        _check_together(found, node, scope)
    if found is not None and len(scope.problems) == before:
        _check_grid(found, space_node, scope)
    return found if len(scope.problems) == before else None


def _points(node: Node, space: Node | None, tree: Node, scope: Scope) -> tuple[Dimension, ...]:
    """What listed configs search: each of their keys, with the values that it takes in them."""
    if space is not None:
        scope.refuse(space.key_mark or space.mark, "sweep.space", "the searcher points lists the configs; remove this")
    values: dict[str, list[Any]] = {}
    for point in node.value:
        for key, child in point.items.items():
            values.setdefault(key, []).append(plain(child))
    keys = Keys(tree, {key: from_plain(each, node.mark) for key, each in values.items()}, scope)
    for index, point in enumerate(node.value):
        for key, child in point.items.items():
            if complaint := keys.complaint(key):
                scope.refuse(child.key_mark or child.mark, f"sweep.searcher.points.{index}.{key}", complaint)
    return tuple(Dimension(key=key, kind="choice", values=tuple(each)) for key, each in values.items())


def _screening(node: Node, scope: Scope) -> dict[str, Any]:
    """Seeds 0 to screen-1 for every config; the next ``confirm`` ones for the ``top`` configs alone."""
    wanted, found = ("screen", "confirm", "top"), {}
    for key, child in node.items.items():
        if key not in wanted:
            scope.refuse(child.key_mark or child.mark, f"sweep.seeds.{key}", unknown(key, wanted))
    for key in wanted:
        given = node.child(key)
        if given is not None and _is_whole(given.value) and 1 <= given.value <= MAX_SEEDS:
            found[key] = int(given.value)
            continue
        what = f"found {shown(plain(given))}" if given is not None else "it is missing"
        scope.refuse((given or node).mark, f"sweep.seeds.{key}", f"expected a count from 1 to {MAX_SEEDS}; {what}")
    if len(found) < len(wanted):
        return {}
    first, more = found["screen"], found["confirm"]
    confirm = Confirm(seeds=tuple(range(first, first + more)), top=found["top"])
    return {"seeds": tuple(range(first)), "confirm": confirm}


def _seeds(node: Node, scope: Scope) -> tuple[int, ...]:
    """Seeds 0 to n-1 for a count n, or the listed ones."""
    value = node.value
    if _is_whole(value) and 1 <= value <= MAX_SEEDS:
        return tuple(range(value))
    if node.is_list and 0 < len(value) <= MAX_SEEDS:
        listed_seeds = tuple(each.value for each in value)
        if all(_is_whole(each) and 0 <= each < 2**32 for each in listed_seeds):
            if len(set(listed_seeds)) == len(listed_seeds):
                return listed_seeds
            scope.refuse(node.mark, "sweep.seeds", "the same seed is listed twice; it would be the same trial")
            return (0,)
    found = shown(value) if not node.is_list else "something else in the list"
    expected = f"a count from 1 to {MAX_SEEDS} or a list of whole numbers from 0 to 2^32 - 1"
    scope.refuse(node.mark, "sweep.seeds", f"expected {expected}, found {found}")
    return (0,)


def _check_together(sweep: Sweep, node: Node, scope: Scope) -> None:
    """What searcher and scheduler ask of the rest of the sweep."""
    if getattr(sweep.searcher, "learns", False) and not sweep.space:
        place = node.child("searcher") or node
        scope.refuse(place.mark, "sweep.searcher", f"{sweep.searcher.name} needs a space to search: add sweep.space")
    complaints = getattr(sweep.scheduler, "complaints", None)
    if complaints is None:
        return
    scheduler = as_component(node.items["scheduler"])
    for field, message in complaints(tuple(each.key for each in sweep.space), len(sweep.seeds)):
        place = scheduler.child(field) or scheduler
        scope.refuse(place.mark, f"sweep.scheduler.{field}", message)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check_metric(sweep: Sweep, node: Node, scope: Scope) -> None:
    try:
        metric_mode(sweep.metric, sweep.mode)
    except UserError as error:
        scope.refuse((node.child("metric") or node).mark, "sweep.metric", str(error))


def _check_grid(sweep: Sweep, space: Node | None, scope: Scope) -> None:
    """A grid must be finite, and small enough to be run."""
    if sweep.searcher.name != "grid" or space is None:
        return
    for dimension in sweep.space:
        try:
            listed(dimension)
        except UserError as error:
            _, _, reason = str(error).partition(": ")
            scope.refuse(space.items[dimension.key].mark, f"sweep.space.{dimension.key}", reason)
            return
    size = grid_size(sweep.space)
    if size > GRID_LIMIT:
        message = f"a grid of {size:,} configs; at most {GRID_LIMIT:,} are run"
        message += ": list fewer values, or choose the searcher random"
        scope.refuse(space.key_mark or space.mark, "sweep.space", message)


def read_report(node: Node, sweep: Sweep | None, tree: Node, scope: Scope) -> ReportPlan | None:
    """The section ``report``: figures and contrasts can only speak of searched keys and values."""
    found = check_model(ReportPlan, node, ("report",), scope.problems)
    space = {each.key: each for each in sweep.space} if sweep is not None else {}
    for index, figure in enumerate(_children(node, "figures")):
        for part in ("x", "line"):
            child = figure.child(part)
            if child is not None and isinstance(child.value, str) and (message := _unsearched(child.value, space)):
                scope.refuse(child.mark, f"report.figures.{index}.{part}", message)
    for index, contrast in enumerate(_children(node, "contrasts")):
        for side in ("of", "against", "where"):
            values = contrast.child(side)
            for key, child in values.items.items() if values is not None else ():
                _check_value(key, child, space, tree, f"report.contrasts.{index}.{side}.{key}", scope)
    return found


def _children(node: Node, key: str) -> tuple[Node, ...]:
    found = node.child(key)
    return found.value if found is not None and found.is_list else ()


def _source(key: str, space: dict[str, Dimension]) -> Dimension | None:
    """The dimension that decides ``key``: its own, or that of a whole mapping around it."""
    return next((each for name, each in space.items() if key == name or key.startswith(f"{name}.")), None)


def _unsearched(key: str, space: dict[str, Dimension]) -> str:
    if _source(key, space) is not None:
        return ""
    if not space:
        return f"{key} is not searched; this experiment has no sweep.space"
    close = nearest(key, space)
    return f"{key} is not searched; " + (f"nearest: {close}" if close else f"searched are {', '.join(space)}")


def _check_value(key: str, node: Node, space: dict[str, Dimension], tree: Node, place: str, scope: Scope) -> None:
    if message := _unsearched(key, space):
        scope.refuse(node.key_mark or node.mark, place, message)
        return
    dimension = _source(key, space)
    if dimension is None or node.is_mapping or node.is_list:
        return
    if key == dimension.key:
        if not contains(dimension, node.value) and not _is_name_of(node.value, dimension):
            scope.refuse(node.mark, place, not_searched(key, node.value, dimension))
        return
    values = [lookup(with_value(tree, dimension.key, each), key) for each in dimension.values]
    if not any(same(node.value, each) for each in values):
        scope.refuse(node.mark, place, not_among(key, node.value, values))


def _is_name_of(value: Any, dimension: Dimension) -> bool:
    """Whether a bare word names one of the searched whole mappings."""
    return any(isinstance(each, dict) and each.get("name") == value for each in dimension.values)
