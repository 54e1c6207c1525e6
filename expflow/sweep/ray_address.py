"""Which Ray cluster a sweep runs on, and how the Ray that it starts itself listens. Known before Ray is imported."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from expflow.errors import UserError

NODES_VARIABLE = "EXPFLOW_NODES"
"""Variable that says, in a cluster job, how many nodes the cluster will have."""

WITHOUT_METRICS: Mapping[str, str] = {
    # Ray's agent would serve metrics of the machine to whoever asks.
    "RAY_enable_metrics_collection": "0",
    # Its monitor and its dashboard would, too, and have no switch; on a port that no one can have they do not.
    "AUTOSCALER_METRIC_PORT": "-1",
    "DASHBOARD_METRIC_PORT": "-1",
}
"""Environment of a Ray that serves no metrics, which it would without asking for a token."""

ON_LOOPBACK: Mapping[str, str] = {
    # The switch by which Ray keeps to 127.0.0.1 where its clusters are not supported. Ray reads it when it is imported.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    **WITHOUT_METRICS,
}
"""Environment of a Ray that this process starts for itself: it has one machine, and no one else may reach it."""


def cluster_address(site: str | None) -> str | None:
    """The cluster to connect to: ``RAY_ADDRESS``, which a cluster job finds set for it, else the site's.

    A site's http address is that of a dashboard: where ``submit`` sends jobs, and nothing that Ray can connect to.

    Args:
        site: The site file's address; None where it has none.

    Raises:
        UserError: ``RAY_ADDRESS`` is a dashboard's address.
    """
    if given := os.environ.get("RAY_ADDRESS"):
        if _is_dashboard(given):
            raise UserError(
                f"RAY_ADDRESS is {given}, a dashboard's address: `expflow submit FILE --address {given}` sends an "
                "experiment there; unset RAY_ADDRESS to run it on this machine"
            )
        return given
    return None if site is None or _is_dashboard(site) else site


def expected_nodes() -> int:
    """How many nodes the cluster is to have before a sweep counts its slots; 1 where nobody said.

    Raises:
        UserError: The variable holds no number.
    """
    text = os.environ.get(NODES_VARIABLE, "1")
    if not text.isdigit():
        raise UserError(f"{NODES_VARIABLE} is {text!r}; expected a number of nodes")
    return int(text)


def _is_dashboard(address: str) -> bool:
    return address.startswith(("http://", "https://"))


@contextmanager
def environment_with(extra: Mapping[str, str], *others: str) -> Iterator[None]:
    """In the body the environment has some variables besides; afterwards it is as it was.

    Args:
        extra: The variables.
        others: Names of variables that the body may set, and that are put back too.
    """
    before = {key: os.environ.get(key) for key in (*extra, *others)}
    os.environ.update(extra)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value


def on_loopback() -> dict[str, str]:
    """What of :data:`ON_LOOPBACK` the user's environment does not decide."""
    return {key: value for key, value in ON_LOOPBACK.items() if key not in os.environ}
