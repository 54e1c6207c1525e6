"""The results of a sweep, as tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expflow.intervals import Estimate
from expflow.ledger import SweepState, TrialState
from expflow.report import Answer, answers, rank_configs, trial_results
from expflow.sweep.result_location import find_results

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Results:
    """The results of one experiment, read from its ledger. The tables are made when they are asked for.

    Attributes:
        name: The experiment's name.
        folder: Its results folder.
        state: What its ledger adds up to.
    """

    name: str
    folder: Path
    state: SweepState

    @cached_property
    def trials(self) -> pd.DataFrame:
        """One row per trial of the latest plan: id, config, seed, status, the searched keys, its metrics, its seconds.

        Metrics are those of the last report, also of trials that did not finish; ``status`` says which these are.
        """
        return _frame((_trial(trial) for trial in self.state.plan_trials()), _TRIAL)

    @cached_property
    def reports(self) -> pd.DataFrame:
        """One row per report of the latest attempt of each trial: the learning curves."""
        rows = (
            {
                **_who(trial),
                "attempt": report.attempt,
                "step": report.step,
                "progress": report.progress,
                **report.metrics,
            }
            for trial in self.state.plan_trials()
            for report in trial.reports
        )
        return _frame(rows, (*_WHO, "attempt", "step", "progress"))

    @cached_property
    def leaderboard(self) -> pd.DataFrame:
        """One row per config, best first: the mean of the sweep's metric with its interval and number of seeds.

        Configs without a complete trial have no rank and come last; early-stopped trials are in :attr:`trials` only.
        """
        board = rank_configs(self.state)
        rows = (
            {
                "rank": row.rank,
                "config": row.config,
                **row.values,
                **_estimate(board.metric, row.estimate),
                **{name: other.mean for name, other in row.others.items()},
                "parameters": row.params,
                "multiply_adds": row.macs,
                "seconds": row.seconds,
            }
            for row in board.rows
        )
        return _frame(rows, ("rank", "config"))

    @property
    def answers(self) -> list[Answer]:
        """The declared contrasts and their results."""
        return answers(self.state, self.folder)

    @property
    def best(self) -> Mapping[str, Any]:
        """The searched values of the selected config; empty before a trial is done."""
        winner = rank_configs(self.state).winner
        return dict(winner.values) if winner is not None else {}

    @property
    def failures(self) -> pd.DataFrame:
        """One row per failed attempt, with its class, message and traceback."""
        rows = (
            {**_who(trial), "attempt": failed.attempt, "failure": failed.failure, "message": failed.message}
            for trial in self.state.plan_trials()
            for failed in trial.failures
        )
        return _frame(rows, (*_WHO, "attempt", "failure", "message"))

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.folder / "report.html"

    @property
    def exit_code(self) -> int:
        """What the command line would have left with: 0, or 1 where trials failed."""
        return int(any(trial.status == "failed" for trial in self.state.plan_trials()))

    def __repr__(self) -> str:
        counts = trial_results.progress(self.state)
        return f"<results of {self.name}: {counts.done} of {counts.expected} trials done, in {self.folder}>"

    def _repr_html_(self) -> str:
        return f"<p>{self.name}</p>{self.leaderboard.to_html(index=False)}"


_WHO = ("trial", "config", "seed")
_TRIAL = (*_WHO, "status")


def results(address: str, *, storage: Path | str | None = None) -> Results:
    """The results of an experiment.

    Args:
        address: ``NAME`` or an experiment file.
        storage: The folder of all results; None: what the file or the site file says.

    Raises:
        AddressUnknown: There are no such results.
    """
    place = find_results(address, storage)
    return Results(place.name, place.folder, place.state)


def _who(trial: TrialState) -> dict[str, Any]:
    return {"trial": trial.trial, "config": trial.config, "seed": trial.seed, **trial.latest_values}


def _trial(trial: TrialState) -> dict[str, Any]:
    why = trial.failures[-1].failure if trial.status == "failed" and trial.failures else ""
    return {
        **_who(trial),
        "status": trial.status,
        "failure": why,
        **trial.metrics,
        "progress": trial.progress,
        "seconds": trial.seconds,
    }


def _estimate(metric: str, estimate: Estimate | None) -> dict[str, Any]:
    if estimate is None:
        return {metric: None, "low": None, "high": None, "seeds": 0}
    return {metric: estimate.mean, "low": estimate.low, "high": estimate.high, "seeds": estimate.n}


def _frame(rows: Iterable[Mapping[str, Any]], columns: Iterable[str]) -> pd.DataFrame:
    """A table with at least ``columns``, and the others in the order in which rows bring them."""
    import pandas as pd  # half a second that the command line does not need

    listed = list(rows)
    names = dict.fromkeys([*columns, *(name for row in listed for name in row)])
    return pd.DataFrame.from_records(listed, columns=list(names))
