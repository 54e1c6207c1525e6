"""What ``trainer.fit_on: train+val`` rules out: with no val left, nothing can be chosen by it."""

from __future__ import annotations

from collections.abc import Mapping

from expflow.config.components import Scope
from expflow.config.schema import Recipe, Sweep
from expflow.config.tree import Node, at

KEY = "trainer.fit_on"


def check_fit_on(recipe: Recipe, sweep: Sweep | None, tree: Node, scope: Scope) -> None:
    """Note a problem where a config without val metrics would be compared, or watched, by them."""
    space = {each.key: each.values for each in sweep.space} if sweep is not None else {}
    searched = space.get(KEY)
    if recipe.trainer.fit_on == "train" and not searched:
        return
    node = at(tree, ("sweep", "space", KEY)) if searched else at(tree, ("trainer", "fit_on"))
    mark, key = (node or tree).mark, f"sweep.space.{KEY}" if searched else KEY
    by_val = sweep is not None and sweep.metric.startswith("val/")
    if space and by_val:
        scope.refuse(
            mark,
            key,
            f"a search by {sweep.metric if sweep else ''} needs a val that nobody trains on; give "
            "the config that it selected a file of its own (`extends: runs/NAME/best.yaml`), without a space",
        )
    schedules = recipe.schedule.values() if isinstance(recipe.schedule, Mapping) else [recipe.schedule]
    for each in schedules:
        metric = str(getattr(each, "metric", ""))
        if metric.startswith("val/"):
            scope.refuse(mark, key, f"the schedule watches {metric}, and no val is left")
