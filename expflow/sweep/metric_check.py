"""Looks whether trials report the metrics that the experiment names, and which of them were no numbers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from expflow.config.tree import Mark, Node, problem_at
from expflow.errors import ExperimentInvalid
from expflow.events import TrialReported
from expflow.ledger import SweepState, TrialState
from expflow.metrics import COST, nearest_first
from expflow.sweep.plan import Plan

_MEASURED_AT_THE_END = ("fit", COST)
"""Splits of metrics that only the last report of a trial has."""

_NOT_MEASURED = "progress/"
_MOST_NAMES = 20


@dataclass(frozen=True)
class WantedMetric:
    """A metric that the experiment names.

    Attributes:
        key: Where it is named, as a dotted key.
        mark: That place in the file.
        metric: The metric.
    """

    key: str
    mark: Mark
    metric: str

    @property
    def comes_last(self) -> bool:
        """Whether only the last report of a trial has it."""
        return self.metric.partition("/")[0] in _MEASURED_AT_THE_END


class MetricCheck:
    """Compares what an experiment names with what its trials report, until each metric has come once.

    Args:
        plan: The sweep's plan.
        state: What is known so far.
    """

    def __init__(self, plan: Plan, state: SweepState) -> None:
        self._wanted = list(wanted_metrics(plan))
        for trial in state.trials.values():
            self._drop_those_in(trial.reports)

    def problem(self, trial: TrialState) -> ExperimentInvalid | None:
        """What is wrong by a trial's newest report; None where nothing is.

        Args:
            trial: The trial, which has just reported or ended.
        """
        if not self._wanted or not trial.reports:
            return None
        self._drop_those_in(trial.reports[-1:])
        absent = [wanted for wanted in self._wanted if trial.status == "done" or not wanted.comes_last]
        if not absent:
            return None
        when = "the first trial that is done" if trial.status == "done" else "the first validation"
        return ExperimentInvalid(
            problem_at(
                wanted.mark,
                wanted.key,
                f"no trial reports {wanted.metric}; {when} reported {_listed(wanted.metric, _measured(trial))}",
            )
            for wanted in absent
        )

    def final_problem(self, trials: Iterable[TrialState]) -> ExperimentInvalid | None:
        """What is wrong when nothing is left to run; None where nothing is.

        Args:
            trials: The plan's trials.
        """
        done = [trial for trial in trials if trial.status == "done"]
        return self.problem(done[-1]) if done else None

    def _drop_those_in(self, reports: Iterable[TrialReported]) -> None:
        for report in reports:
            if not self._wanted:
                return
            self._wanted = [
                wanted
                for wanted in self._wanted
                if wanted.metric not in report.metrics and wanted.metric not in report.missing
            ]


def wanted_metrics(plan: Plan) -> Iterator[WantedMetric]:
    """The metrics that a plan's trials have to report, each where the file names it.

    The metric that a single trial is judged by is one only where the file names it.

    Args:
        plan: The plan.
    """
    experiment, tree = plan.loaded.experiment, plan.loaded.tree
    named = experiment.sweep is not None and "metric" in experiment.sweep.model_fields_set
    has_val = experiment.trainer.fit_on == "train"
    if (named or plan.sweep.space) and (has_val or not plan.metric.startswith("val/")):
        yield WantedMetric("sweep.metric", plan.loaded.location("sweep.metric"), plan.metric)
        for further in plan.sweep.further:
            yield WantedMetric("sweep.metric", plan.loaded.location("sweep.metric"), further.metric)
    if not plan.sweep.space or any(dimension.key in ("task", "task.name") for dimension in plan.sweep.space):
        return  # a single trial, of which nothing is compared; or trials that are measured in different ways
    for section, part, settings in (
        ("figures", "y", experiment.report.figures),
        ("contrasts", "metric", experiment.report.contrasts),
    ):
        for index, item in enumerate(settings):
            mark = _item_mark(tree, section, index, part) or tree.mark
            yield WantedMetric(f"report.{section}.{index}.{part}", mark, str(getattr(item, part)))


def _item_mark(tree: Node, section: str, index: int, part: str) -> Mark | None:
    report = tree.child("report")
    items = report.child(section) if report is not None else None
    if items is None or not items.is_list or index >= len(items.value):
        return None
    item = items.value[index]
    return (item.child(part) or item).mark


def _measured(trial: TrialState) -> list[str]:
    return [name for name in trial.metrics if not name.startswith(_NOT_MEASURED)]


def _listed(name: str, reported: Iterable[str]) -> str:
    names = nearest_first(name, reported)
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(names[:_MOST_NAMES]) + more if names else "none"


def metric_notes(plan: Plan, state: SweepState) -> Iterator[str]:
    """A sentence for each metric of which values are missing: they were no finite numbers, or the trials that are done
    are judged by a metric that they did not report and the file did not name.

    Args:
        plan: The plan.
        state: The state of its results, with all reports.
    """
    trials, reports = state.plan_trials(), dict[str, list[TrialReported]]()
    done = next((trial for trial in trials if trial.status == "done"), None)
    if done is not None and done.metrics and not any(plan.metric in trial.metrics for trial in trials):
        yield (
            f"nothing is judged: no trial reported {plan.metric}; say by `sweep.metric` which of these counts: "
            f"{_listed(plan.metric, _measured(done))}"
        )
    for report in (report for trial in trials for report in trial.reports):
        for name in report.missing:
            reports.setdefault(name, []).append(report)
    for name, without in reports.items():
        first, concerned = without[0], len({report.trial for report in without})
        yield (
            f"{name} was no finite number in {len(without)} report{'s' * (len(without) > 1)} of {concerned} "
            f"trial{'s' * (concerned > 1)} (first in {first.trial}, step {first.step}); these values are left out"
        )
