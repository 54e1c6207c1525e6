"""The view of a sweep's configs that MLflow's pages open: which charts come first, and what they show.

MLflow keeps the views that its users save as tags of the experiment. This one is written in the same form, so that it
stands in the page's list of views and can be opened by a link. The form is MLflow's own and documented nowhere; a test
in a browser sees that it is still understood (tests/tracking/test_browser.py).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from expflow.ledger import Header
from expflow.tracking.config_runs import final_metric
from expflow.tracking.naming import safe_key
from expflow.tracking.pending_updates import Role

VIEW_PREFIX = "mlflow.sharedViewState."
"""Beginning of the tags that MLflow takes for saved views."""

LONGEST_VALUE = 5000
"""Characters of an experiment's tag, by MLflow's limit."""

_FIRST, _CURVES, _COSTS = "What was asked", "Learning curves", "What it costs"


def view_id(sweep: str) -> str:
    """The id of a sweep's view, as it stands in a link to it.

    Args:
        sweep: What distinguishes the sweep in the store.
    """
    return f"expflow-{sweep[:8]}"  # longer values of a query are taken for secrets where links are printed


def compared_role(header: Header) -> Role:
    """Which runs are compared: configs where there are several seeds, trials otherwise.

    Args:
        header: The newest driver's header.
    """
    return "config" if len(header.seeds) > 1 else "trial"


def order_of(header: Header, role: Role) -> tuple[str, bool]:
    """The metric that runs are ordered by, as MLflow's pages name it, and whether the smallest comes first.

    Args:
        header: The newest driver's header.
        role: Which runs are compared.
    """
    return f"metrics.`{_judged_by(header, role)}`", header.mode == "min"


def saved_view(header: Header, sweep: str, created_at: float) -> str:
    """The view of a sweep's configs as MLflow keeps it.

    Args:
        header: The newest driver's header.
        sweep: What distinguishes the sweep in the store.
        created_at: When the sweep began (unix seconds).
    """
    role = compared_role(header)
    by, ascending = order_of(header, role)
    charts, sections = _charts(header, role, sweep), dict[str, str]()
    for chart in charts:
        sections.setdefault(chart["metricSectionId"], chart.pop("section"))
    state = {
        "searchFilter": f"tags.`expflow.role` = '{role}' and tags.`expflow.sweep` = '{sweep}'",
        "orderByKey": by,
        "orderByAsc": ascending,
        "runsHiddenMode": "FIRST_20_RUNS",
        "compareRunCharts": charts,
        "compareRunSections": [
            {"uuid": uuid, "name": name, "display": True, "isReordered": True} for uuid, name in sections.items()
        ],
        "isAccordionReordered": True,
    }
    view = {"name": f"expflow: {role}s of {header.name}"[:100], "createdAt": round(created_at * 1000)}
    while (
        len(text := json.dumps(view | {"state": json.dumps(state, separators=(",", ":"))})) > LONGEST_VALUE and charts
    ):
        charts.pop()  # the last ones matter least
    return text


def _charts(header: Header, role: Role, sweep: str) -> list[dict[str, Any]]:
    """The charts, those that matter most first."""
    judged, metric = _judged_by(header, role), safe_key(header.metric)
    searched = [safe_key(str(dimension.get("key", ""))) for dimension in header.space]
    curves = list(dict.fromkeys([metric, f"{metric.partition('/')[0]}/loss", "train/loss"]))

    def chart(section: str, kind: str, what: str, **fields: Any) -> dict[str, Any]:
        identity = hashlib.sha256(f"{sweep}|{kind}|{what}".encode()).hexdigest()[:8]
        place = hashlib.sha256(f"{sweep}|{section}".encode()).hexdigest()[:8]
        return {"section": section, "type": kind, "uuid": identity, "metricSectionId": place, **fields}

    charts = [chart(_FIRST, "BAR", judged, metricKey=judged)]
    if searched:
        charts.append(chart(_FIRST, "PARALLEL", judged, selectedParams=searched[:6], selectedMetrics=[judged]))
    charts += [chart(_CURVES, "LINE", name, metricKey=name, selectedMetricKeys=[name]) for name in curves]
    axis = {"key": judged, "type": "METRIC"}
    charts += [
        chart(_COSTS, "SCATTER", name, xaxis={"key": name, "type": "METRIC"}, yaxis=axis, runsCountToCompare=20)
        for name in ("cost/params", "cost/seconds")
    ]
    return charts


def _judged_by(header: Header, role: Role) -> str:
    return safe_key(final_metric(header.metric) if role == "config" else header.metric)


def view_tag(tags: Mapping[str, str], sweep: str) -> str | None:
    """The saved view of a sweep among an experiment's tags; None where there is none.

    Args:
        tags: The experiment's tags.
        sweep: What distinguishes the sweep in the store.
    """
    return tags.get(VIEW_PREFIX + view_id(sweep))
