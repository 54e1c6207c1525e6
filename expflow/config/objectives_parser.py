"""``sweep.metric`` as a list: several objectives, each with its direction."""

from __future__ import annotations

from typing import Any

from expflow.config.component_specs import searcher_spec
from expflow.config.components import LoadingContext
from expflow.config.schema import FurtherObjective, Sweep
from expflow.config.tree import Node, describe_value, plain
from expflow.errors import UserError
from expflow.metrics import metric_mode

MAX_OBJECTIVES = 4
"""Of more objectives hardly a config is dominated, so a front says nothing."""


def read_objectives(node: Node, context: LoadingContext) -> dict[str, Any]:
    """The fields ``metric``, ``mode`` and ``further`` where ``metric`` is a list; none where it is a text.

    Args:
        node: The section ``sweep`` as written.
        context: Problems are noted here.
    """
    metric, mode = node.child("metric"), node.child("mode")
    if metric is None or not metric.is_list:
        return {}
    names, modes = plain(metric), plain(mode) if mode is not None else None
    if problem := _list_problem(names):
        context.refuse(metric.mark, "sweep.metric", problem)
        return {"metric": "val/loss", "mode": None}
    if modes is None:
        modes = [None] * len(names)
    if not isinstance(modes, list) or len(modes) != len(names) or not all(one in ("max", "min", None) for one in modes):
        message = f"expected a list of {len(names)}, one of max, min and null for each metric"
        context.refuse((mode or metric).mark, "sweep.mode", f"{message}; found {describe_value(modes)}")
        return {"metric": names[0], "mode": "max"}
    further = []
    for name, direction in zip(names[1:], modes[1:], strict=True):
        try:
            further.append(FurtherObjective(metric=name, mode=metric_mode(name, direction)))
        except UserError as error:
            context.refuse(metric.mark, "sweep.metric", str(error).replace("`mode: max` or `mode: min`", "its `mode`"))
    return {"metric": names[0], "mode": modes[0], "further": tuple(further)}


def _list_problem(names: list[Any]) -> str:
    """What is wrong with a list of metrics; empty where nothing is."""
    if not 1 <= len(names) <= MAX_OBJECTIVES or not all(isinstance(name, str) and name for name in names):
        return f"expected a metric or a list of 1 to {MAX_OBJECTIVES} of them, found {describe_value(names)}"
    if len(set(names)) < len(names):
        return "the same metric is listed twice"
    return ""


def check_several_objectives(sweep: Sweep, node: Node, context: LoadingContext) -> None:
    """Refuse what judges by one metric alone beside a list of them.

    Args:
        sweep: The section, with several objectives.
        node: The section as written.
        context: Problems are noted here.
    """
    spec = searcher_spec(sweep.searcher)
    if spec.learns and not spec.several_objectives:
        message = f"{sweep.searcher.name} learns from one metric, and sweep.metric lists {1 + len(sweep.further)}"
        mark = (node.child("searcher") or node).mark
        context.refuse(mark, "sweep.searcher", f"{message}: choose nsga2, or random, or one metric and sweep.limits")
    if sweep.scheduler is not None and sweep.scheduler.name != "none":
        message = "a scheduler judges by the first metric, and would stop cheap configs that belong to the front"
        context.refuse(node.items["scheduler"].mark, "sweep.scheduler", f"{message}; remove it, or list one metric")
