"""Writes Grafana's dashboards as JSON: `python dashboards/make_dashboards.py` (it needs the extra `dev`).

One page shows a sweep, one the whole cluster. Panels are told here once: title, what it shows, its queries, its unit.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from grafana_foundation_sdk.builders import common, prometheus, stat, timeseries
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models

FOLDER = Path(__file__).parent / "grafana"

SOURCE = models.DataSourceRef(type_val="prometheus", uid="expflow-prometheus")


@dataclass(frozen=True)
class PanelText:
    """One panel.

    Attributes:
        title: Its heading.
        about: What it shows and what to do about it; the panel's tooltip.
        queries: Legend -> query.
        unit: Grafana's name of the unit.
        number: Whether it is one number, and no curve.
    """

    title: str
    about: str
    queries: dict[str, str]
    unit: str = "short"
    number: bool = False


SWEEP = (
    PanelText(
        "Trials by state",
        "Waiting trials have no slot yet; paused ones are kept by the scheduler.",
        {"{{state}}": 'expflow_trials{sweep="$sweep"}'},
    ),
    PanelText(
        "Slots and queue",
        "Trials that can run at once, those that do, and those that wait for a slot. Slots that stay free while trials "
        "wait are ranks that cannot start.",
        {
            "slots": 'expflow_slots{sweep="$sweep"}',
            "busy": 'expflow_trials{sweep="$sweep", state="running"}',
            "waiting": 'expflow_trials{sweep="$sweep", state="waiting"}',
        },
    ),
    PanelText(
        "Best so far",
        "Best value of the sweep's metric among the trials that are done.",
        {"{{metric}}": 'expflow_best_value{sweep="$sweep"}'},
        number=True,
    ),
    PanelText(
        "Done",
        "Share of the planned trials that are over.",
        {
            "over": 'sum(expflow_trials{sweep="$sweep", state=~"done|stopped|failed"})'
            ' / sum(expflow_planned_trials{sweep="$sweep"})'
        },
        unit="percentunit",
        number=True,
    ),
    PanelText(
        "Reports per second",
        "Falls to zero where every trial is silent.",
        {"reports": 'rate(expflow_reports_total{sweep="$sweep"}[$__rate_interval])'},
        unit="ops",
    ),
    PanelText(
        "Silence of running trials",
        "Seconds since the last report. A trial far above the others hangs, or validates seldom.",
        {"{{trial}}": 'time() - expflow_trial_last_report_timestamp_seconds{sweep="$sweep"}'},
        unit="s",
    ),
    PanelText(
        "Progress of running trials",
        "Share of each trial's budget that is spent.",
        {"{{trial}}": 'expflow_trial_progress_ratio{sweep="$sweep"}'},
        unit="percentunit",
    ),
    PanelText(
        "Failed attempts by class",
        "worker_lost, node_lost and preempted are tried again; code and diverged are not.",
        {"{{failure}}": 'increase(expflow_attempt_failures_total{sweep="$sweep"}[15m])'},
    ),
    PanelText(
        "Samples per second",
        "Training samples of all ranks of a trial, without validation.",
        {"{{trial}}": 'expflow_trial_samples_per_second{sweep="$sweep"}'},
    ),
    PanelText(
        "Waiting for data",
        "Share of training that waits for its batches. Above a tenth: more data.workers, or shards nearer by.",
        {"{{trial}}": 'expflow_trial_loader_wait_ratio{sweep="$sweep"}'},
        unit="percentunit",
    ),
    PanelText(
        "Processor cores",
        "CPU seconds per second of each trial's first rank.",
        {"{{trial}}": 'expflow_trial_cpu_cores{sweep="$sweep"}'},
    ),
    PanelText(
        "Memory",
        "Resident memory of each trial's first rank.",
        {"{{trial}}": 'expflow_trial_memory_bytes{sweep="$sweep"}'},
        unit="bytes",
    ),
    PanelText(
        "GPU use",
        "Use of each trial's first GPU; empty on machines without one, or without the package nvidia-ml-py.",
        {"{{trial}}": 'expflow_trial_gpu_use_ratio{sweep="$sweep"}'},
        unit="percentunit",
    ),
    PanelText(
        "GPU memory",
        "Memory of each trial's first GPU that torch holds.",
        {"{{trial}}": 'expflow_trial_gpu_memory_bytes{sweep="$sweep"}'},
        unit="bytes",
    ),
    PanelText(
        "Checkpoints",
        "Bytes written a second, and the share of a second that training stands still for them, all trials together.",
        {
            "bytes/s": 'rate(expflow_checkpoint_bytes_total{sweep="$sweep"}[$__rate_interval])',
            "s/s": 'rate(expflow_checkpoint_seconds_total{sweep="$sweep"}[$__rate_interval])',
        },
    ),
    PanelText(
        "MLflow is behind by",
        "Bytes of the ledger that MLflow has not seen. Nothing is lost: it catches up when it answers again.",
        {"behind": 'expflow_tracking_lag_bytes{sweep="$sweep"}'},
        unit="bytes",
    ),
)

CLUSTER = (
    PanelText("Sweeps that run", "Drivers that answer.", {"sweeps": 'count(up{job="expflow"} == 1)'}, number=True),
    PanelText(
        "Drivers that do not answer",
        "A driver that was killed leaves its discovery file behind. The same command as before goes on.",
        {"drivers": 'count(up{job="expflow"} == 0) or vector(0)'},
        number=True,
    ),
    PanelText(
        "Running trials by sweep",
        "Who uses the slots.",
        {"{{sweep}}": 'sum by (sweep) (expflow_trials{state="running"})'},
    ),
    PanelText(
        "Waiting trials by sweep", "The queue.", {"{{sweep}}": 'sum by (sweep) (expflow_trials{state="waiting"})'}
    ),
    PanelText(
        "Slot use by sweep",
        "Share of a sweep's slots that run a trial.",
        {"{{sweep}}": 'sum by (sweep) (expflow_trials{state="running"}) / sum by (sweep) (expflow_slots)'},
        unit="percentunit",
    ),
    PanelText(
        "Reports per second by sweep",
        "All trials of a sweep together.",
        {"{{sweep}}": "sum by (sweep) (rate(expflow_reports_total[$__rate_interval]))"},
        unit="ops",
    ),
    PanelText(
        "Failed attempts by sweep",
        "In a quarter of an hour.",
        {"{{sweep}}": "sum by (sweep) (increase(expflow_attempt_failures_total[15m]))"},
    ),
    PanelText(
        "Free storage",
        "Share of the file system under each sweep's results that is free.",
        {"{{sweep}}": "expflow_storage_free_bytes / expflow_storage_size_bytes"},
        unit="percentunit",
    ),
    PanelText(
        "Longest silence by sweep",
        "Seconds since the last report of the most silent running trial.",
        {"{{sweep}}": "max by (sweep) (time() - expflow_trial_last_report_timestamp_seconds)"},
        unit="s",
    ),
)

PAGES = {
    # file -> (uid, title, panels, whether one sweep is chosen)
    "sweep.json": ("expflow-sweep", "expflow: one sweep", SWEEP, True),
    "cluster.json": ("expflow-cluster", "expflow: the cluster", CLUSTER, False),
}


def panel(text: PanelText, number: int) -> timeseries.Panel | stat.Panel:
    """Grafana's panel.

    Args:
        text: What it shows.
        number: Its place on the page, from 0; there are two in a row.
    """
    place = models.GridPos(h=8, w=12, x=12 * (number % 2), y=8 * (number // 2))
    built = stat.Panel() if text.number else timeseries.Panel()
    built.title(text.title).description(text.about).unit(text.unit).datasource(SOURCE).grid_pos(place)
    for index, (legend, query) in enumerate(text.queries.items()):
        built.with_target(prometheus.Dataquery().expr(query).legend_format(legend).ref_id(chr(ord("A") + index)))
    if isinstance(built, timeseries.Panel):
        legend_options = common.VizLegendOptions()
        legend_options.display_mode(common_models.LegendDisplayMode.LIST).show_legend(True)
        legend_options.placement(common_models.LegendPlacement.BOTTOM)
        built.legend(legend_options).min(0)
    return built


def page(uid: str, title: str, panels: Sequence[PanelText], *, choose_sweep: bool) -> str:
    """A dashboard as Grafana's JSON.

    Args:
        uid: Its id in addresses.
        title: Its title.
        panels: Its panels, in their order.
        choose_sweep: Whether a list at the top chooses the sweep that it shows.
    """
    built = builders.Dashboard(title).uid(uid).tags(["expflow"]).refresh("30s").time("now-3h", "now").readonly()
    if choose_sweep:
        sweeps = builders.QueryVariable("sweep").datasource(SOURCE).label("sweep")
        built.with_variable(sweeps.query("label_values(expflow_trials, sweep)").refresh(models.VariableRefresh(2)))
    for number, text in enumerate(panels):
        built.with_panel(panel(text, number))
    return json.dumps(built.build(), cls=JSONEncoder, indent=1, sort_keys=True) + "\n"


def pages() -> dict[str, str]:
    """Every dashboard's file -> its text."""
    return {name: page(uid, title, panels, choose_sweep=choose) for name, (uid, title, panels, choose) in PAGES.items()}


if __name__ == "__main__":
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
