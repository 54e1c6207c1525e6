"""Which variables of the environment expflow reads, besides other programs' own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from expflow.config.resources import Resources
from expflow.config.site import NESTED_KEYS, VARIABLE_PREFIX, MetricsExport, Site
from expflow.errors import nearest

OTHER_VARIABLES = {
    "EXPFLOW_DEBUG": "`1`: every error is shown with its traceback.",
    "EXPFLOW_HOOKS": "`off`: short names that installed packages bring along (entry points) are left alone.",
    "EXPFLOW_CONTINUE": "Set in a cluster job by `expflow submit`: what its user types to continue it.",
    "EXPFLOW_RANK": "Set by expflow in a rank: a mark by which what a trial leaves behind is found and ended.",
    "EXPFLOW_TEMPLATE": "`off`: each rank starts as a process of its own, and is not forked from a warm one.",
    "EXPFLOW_NODES": "Set in a cluster job: how many nodes the sweep waits for before it counts slots.",
    "EXPFLOW_VERSIONS": "Set in a cluster job by `expflow submit`: the versions that the project is locked to.",
    "EXPFLOW_GIT_COMMIT, EXPFLOW_GIT_DIRTY": "Set in a cluster job by `expflow submit`: the project's state in git.",
    "MLFLOW_TRACKING_URI": "The MLflow server or store; it goes before the key `mlflow`.",
    "RAY_API_SERVER_ADDRESS": "The Ray head's dashboard; it goes before the key `ray`, `--address` before both.",
    "RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH, RAY_AUTH_MODE": "Ray's own: a cluster's token, the file that holds it, and"
    " whether one is used.",
    "XDG_CONFIG_HOME, XDG_CACHE_HOME": "Where the user's configuration and the cache lie by default.",
}
"""What each variable says that is no key of the site file."""


def unknown_variables(env: Mapping[str, str]) -> Iterator[str]:
    """A line for each variable that is named like expflow's and that it does not read.

    Args:
        env: The environment.
    """
    known = sorted(_known())
    for variable in sorted(env.keys() - known):
        if variable.startswith(VARIABLE_PREFIX) and not variable.startswith(f"{VARIABLE_PREFIX}DATA_"):
            close = nearest(
                variable.removeprefix(VARIABLE_PREFIX), [name.removeprefix(VARIABLE_PREFIX) for name in known]
            )
            hint = (
                f"; did you mean {VARIABLE_PREFIX}{close}?"
                if close
                else "; docs/reference/site.md has those that it reads"
            )
            yield f"warning: the environment sets {variable}, which expflow does not read{hint}"


def _known() -> Iterator[str]:
    for name in Site.model_fields:
        if name not in NESTED_KEYS:
            yield f"{VARIABLE_PREFIX}{name.upper()}"
    for group, keys in (("RESOURCES", Resources.model_fields), ("METRICS", MetricsExport.model_fields)):
        yield from (f"{VARIABLE_PREFIX}{group}_{key.upper()}" for key in keys)
    for names in OTHER_VARIABLES:
        yield from names.split(", ")
