"""What is wrong with the networks of a plan when a batch of them was tried, each in the place that says it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from expflow.config.identity import config_text
from expflow.config.schema import Recipe
from expflow.config.tree import problem_at
from expflow.data.slots import leading_source
from expflow.data.source_spec import ShardedSourceSpec
from expflow.errors import ExperimentInvalid, Problem
from expflow.metrics import nearest_first
from expflow.sweep.metric_check import wanted_metrics
from expflow.sweep.plan import Plan, PlannedTrial
from expflow.sweep.tried_networks import trained_samples
from expflow.training.contract import BatchFinding


class ProblemsOfNetworks:
    """Collects what is wrong with the networks of a plan, the same reason once.

    Args:
        plan: The plan.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._reasons: dict[tuple[str, str], list[PlannedTrial]] = {}
        self._problems: dict[Problem, None] = {}

    def note_splits(self, trial: PlannedTrial) -> bool:
        """Note splits without samples, of which a trial could train or measure nothing.

        Args:
            trial: The trial.

        Returns:
            Whether something is wrong.
        """
        reasons = list(split_problems(self._plan, trial))
        for key, reason in reasons:
            self._reasons.setdefault((key, reason), []).append(trial)
        return bool(reasons)

    def note(self, trial: PlannedTrial, finding: BatchFinding) -> bool:
        """Note what failed when a batch was tried.

        Args:
            trial: The trial whose network it was.
            finding: What came of it.

        Returns:
            Whether something is wrong.
        """
        if not finding.failure:
            return False
        self._reasons.setdefault(failure_of(trial, finding), []).append(trial)
        return True

    def note_metrics(self, metrics: Sequence[str]) -> None:
        """Note metrics that the experiment names and a network's trials do not report.

        Args:
            metrics: What the network reports.
        """
        for problem in absent_metrics(self._plan, metrics):
            self._problems[problem] = None

    def error(self) -> ExperimentInvalid | None:
        """What was noted; None where nothing was."""
        problems = [self._placed(key, reason, trials) for (key, reason), trials in self._reasons.items()]
        problems += self._problems
        return ExperimentInvalid(problems) if problems else None

    def _placed(self, key: str, reason: str, trials: Sequence[PlannedTrial]) -> Problem:
        first, *others = [config_text(trial.values) for trial in trials]
        more = f"; the same in {', '.join(others[:5])}{' …' if len(others) > 5 else ''}" if others else ""
        where = f" (in the config {first}{more})" if first else ""
        return self._plan.problem_at(key, reason + where, trials[0].values)


def failure_of(trial: PlannedTrial, finding: BatchFinding) -> tuple[str, str]:
    """The key that a failed batch is about, and what is wrong, in words.

    Args:
        trial: The trial whose network it was.
        finding: What came of it.
    """
    if finding.key:
        return finding.key, finding.failure
    if not finding.alone:
        return _place_of_code(trial.recipe), f"one batch of training and one of validation fail: {finding.failure}"
    data, samples = trial.recipe.data, trained_samples(trial)
    size = data.batch_size if isinstance(data, ShardedSourceSpec) else None
    if not isinstance(size, int) or samples % size == 0:
        return "data.batch_size", f"a batch of one sample in each rank fails: {finding.failure}"
    whole, rest = divmod(samples, size)
    alone = "one sample" if rest == 1 else f"{rest} samples, one in each rank"
    return (
        "data.last",
        f"the last batch of an epoch is {alone} ({samples:,} = {whole:,} x {size:,} + {rest}), and fails:"
        f" {finding.failure}. data.last: drop leaves it out, pad fills it up; or choose another data.batch_size",
    )


def _place_of_code(recipe: Recipe) -> str:
    return "model" if recipe.model is not None else "task"


def split_problems(plan: Plan, trial: PlannedTrial) -> Iterator[tuple[str, str]]:
    """Splits of prepared data that are empty, and should not be: key and what is wrong.

    Args:
        plan: The plan.
        trial: One of its trials.
    """
    data, recipe = trial.data, trial.recipe
    source = leading_source(recipe)
    if data is None or source is None:
        return
    samples = trained_samples(trial)
    size = source.batch_size
    if not samples:
        yield "data", "the training split has no samples"
    elif source.last == "drop" and isinstance(size, int) and samples < size:
        yield (
            "data.batch_size",
            f"an epoch has no batch: {samples:,} samples do not fill one of {size:,}, and data.last is drop",
        )
    judged = any(wanted.key == "sweep.metric" for wanted in wanted_metrics(plan)) and plan.metric.startswith("val/")
    if judged and recipe.trainer.fit_on == "train" and not data.spec.samples.get("val"):
        yield "data", f"there are no val samples, and {plan.metric} is what is judged; see data.val_fraction"


def absent_metrics(plan: Plan, metrics: Sequence[str]) -> Iterator[Problem]:
    """The metrics that the experiment names and a network does not report, where the file names them.

    Args:
        plan: The plan.
        metrics: What the network reports after a batch; what is measured at a trial's end follows from it.
    """
    known = {*metrics, *(f"fit{name.removeprefix('val')}" for name in metrics if name.startswith("val/"))}
    measured = [name for name in metrics if not name.startswith("progress/")]
    for wanted in wanted_metrics(plan):
        metric = wanted.metric
        if metric not in known and metric.partition("/")[0] not in ("cost", "test"):
            listed = ", ".join(nearest_first(metric, measured)) or "none"
            what = f"no trial reports {metric}; after a validation there are: {listed}"
            yield problem_at(wanted.mark, wanted.key, what)
