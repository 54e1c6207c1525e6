"""All charts of a report, by the section of the page that they stand in."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

from expflow.ledger.state import SweepState
from expflow.report import trial_results
from expflow.report.charts.chart import Chart
from expflow.report.charts.cost_charts import forecast_chart, trade_off_charts
from expflow.report.charts.curve_charts import curve_charts
from expflow.report.charts.metric_charts import metric_charts
from expflow.report.charts.pareto_charts import pareto_charts
from expflow.report.charts.proof_charts import proof_charts
from expflow.report.charts.search_charts import search_charts
from expflow.report.charts.time_line import time_line
from expflow.report.leaderboard import rank_configs
from expflow.report.parameter_importance import SearchImportance
from expflow.report.view import ReportView


@dataclass(frozen=True)
class ChartSections:
    """The charts of a page.

    Attributes:
        figures: The declared figures, or the usual ones.
        learning: The learning curves.
        search: Importance, parallel coordinates and slices.
        proof: The arms of a proof.
        pareto: Objectives against each other, and the hypervolume over time.
        trade_offs: The metric against what the configs cost.
        time_line: The trials over time.
        forecast: Predicted against actual cost.
    """

    figures: tuple[Chart, ...] = ()
    learning: tuple[Chart, ...] = ()
    search: tuple[Chart, ...] = ()
    proof: tuple[Chart, ...] = ()
    pareto: tuple[Chart, ...] = ()
    trade_offs: tuple[Chart, ...] = ()
    time_line: tuple[Chart, ...] = ()
    forecast: tuple[Chart, ...] = ()

    def all(self) -> list[Chart]:
        """Every chart, in the order of the page."""
        return [chart for field in fields(self) for chart in getattr(self, field.name)]


def chart_sections(
    view: ReportView, state: SweepState, folder: Path, importance: SearchImportance | None = None
) -> ChartSections:
    """The charts of a report.

    Args:
        view: What the page shows.
        state: What the ledger adds up to.
        folder: The results folder.
        importance: What the differences of the search come from; None where that cannot be told.
    """
    board, header = rank_configs(state), trial_results.header_of(state)
    return ChartSections(
        figures=tuple(metric_charts(view.figures)),
        learning=tuple(curve_charts(view.learning, view.diagnoses)),
        search=tuple(search_charts(board, header, importance)),
        proof=tuple(proof_charts(view.proof, header)),
        pareto=tuple(pareto_charts(view.pareto, board, header)),
        trade_offs=tuple(trade_off_charts(board, header)),
        time_line=tuple(time_line(state)),
        forecast=tuple(forecast_chart(folder, state)),
    )
