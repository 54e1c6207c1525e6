"""What ``trainer.fit_on: train+val`` rules out: with no val left, nothing can be chosen by it."""

from __future__ import annotations

from collections.abc import Mapping

from expflow.config.component_specs import schedule_spec
from expflow.config.components import LoadingContext
from expflow.config.schema import Recipe, Sweep
from expflow.config.tree import Node, node_at

KEY = "trainer.fit_on"


def check_fit_on(recipe: Recipe, sweep: Sweep | None, tree: Node, context: LoadingContext) -> None:
    """Note a problem where a config without val metrics would be compared, or watched, by them.

    Args:
        recipe: The base recipe.
        sweep: What is searched, if anything is.
        tree: The merged file, for the places of problems.
        context: Problems are noted here.
    """
    space = {dimension.key: dimension.values for dimension in sweep.space} if sweep is not None else {}
    searched = space.get(KEY)
    if recipe.trainer.fit_on == "train" and not searched:
        return
    node = node_at(tree, ("sweep", "space", KEY)) if searched else node_at(tree, ("trainer", "fit_on"))
    mark, key = (node or tree).mark, f"sweep.space.{KEY}" if searched else KEY
    by_val = sweep is not None and sweep.metric.startswith("val/")
    if space and by_val:
        context.refuse(
            mark,
            key,
            f"a search by {sweep.metric if sweep else ''} needs a val that nobody trains on; give "
            "the config that it selected a file of its own (`extends: runs/NAME/best.yaml`), without a space",
        )
    schedules = recipe.schedule.values() if isinstance(recipe.schedule, Mapping) else [recipe.schedule]
    for schedule in schedules:
        metric = schedule_spec(schedule).watched_metric
        if metric.startswith("val/"):
            context.refuse(mark, key, f"the schedule watches {metric}, and no val is left")
