"""What a sweep shows while it runs: a live table on a terminal or in a notebook, plain lines anywhere else."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from types import TracebackType

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from expflow.events import AttemptFailed, Event, GpuSharingMeasured, TrialEnded, TrialReported
from expflow.ledger import SweepState, TrialState
from expflow.live.console import LiteralConsole, literal
from expflow.live.notebook import NotebookOutput
from expflow.metrics import metric_value
from expflow.report.formatting import gpu_sharing, short_duration, trial_label

_LINES = 20


def live_table(metric: str, mode: str, total: int, weights: Mapping[str, float] | None = None) -> LiveTable:
    """A table on this process's terminal or in its notebook.

    Args:
        metric: The sweep's metric.
        mode: ``max`` or ``min``.
        total: Number of trials of the plan.
        weights: Trial id -> relative cost.
    """
    return LiveTable(LiteralConsole(), metric, mode, total, weights)


class LiveTable:
    """Shows a sweep while it runs. Use as a context manager, and as an observer of the conductor.

    Args:
        console: Where it is shown; plain lines where that is neither a terminal nor a notebook.
        metric: The sweep's metric.
        mode: ``max`` or ``min``.
        total: Number of trials of the plan.
        weights: Trial id -> relative cost (1 where unknown), so that the time left takes into account that a deep
            network takes longer than a shallow one.
    """

    def __init__(
        self,
        console: LiteralConsole,
        metric: str,
        mode: str,
        total: int,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        self._console, self._metric, self._mode, self._total = console, metric, mode, total
        self._weights = weights or {}
        self._state = SweepState()
        self._started = time.monotonic()
        self._pace_from: tuple[float, float] | None = None
        """When the first report came, and what was spent by then: starting Ray and importing torch do not count."""
        self._live: Live | NotebookOutput | None = None
        self._lines = deque[Text](maxlen=_LINES)
        """In a notebook, the last lines: one output for each of a thousand trials would bury the page."""
        if console.is_jupyter:
            self._live = NotebookOutput(self._render_with_lines)
        elif console.is_terminal:
            self._live = Live(get_renderable=self._render, console=console, refresh_per_second=4, transient=True)

    def __enter__(self) -> LiveTable:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def __call__(self, event: Event, state: SweepState) -> None:
        """Take in one event and the state after it."""
        self._state = state
        if self._pace_from is None and isinstance(event, TrialReported):
            self._pace_from = time.monotonic(), self._spent()
        if isinstance(event, TrialEnded):
            self._print_ended(state.trials[event.trial], event)
        elif isinstance(event, GpuSharingMeasured):
            self._console.print(gpu_sharing(event))
        elif isinstance(event, AttemptFailed):
            trial = state.trials[event.trial]
            self._print(literal(f"failed  {trial_label(trial)}: {event.failure}: {event.message}", "red"))
        if isinstance(self._live, NotebookOutput):
            self._live.refresh()

    def _print(self, line: Text) -> None:
        if isinstance(self._live, NotebookOutput):
            self._lines.append(line)
        else:
            self._console.print(line, soft_wrap=True)

    def _print_ended(self, trial: TrialState, event: TrialEnded) -> None:
        """One line for each trial that ended; on a terminal the live table moves below it."""
        done = self._state.ended
        if event.status == "failed":
            return  # its failure was printed with the reason
        value = trial.metrics.get(self._metric)
        shown = f"{self._metric} {metric_value(self._metric, value):>8}  " if value is not None else ""
        count = f"[{done:{len(str(self._total))}}/{self._total}]"
        self._print(
            literal(f"{count} {event.status:7} {shown}{short_duration(event.seconds):>5}  {trial_label(trial)}")
        )

    def _spent(self) -> float:
        trials = self._state.plan_trials()
        return sum(self._weights.get(trial.trial, 1.0) * (1.0 if trial.ended else trial.progress) for trial in trials)

    def _total_weight(self) -> float:
        known = self._state.plan_trials()
        rest = max(0, self._total - len(known))
        mean = sum(self._weights.values()) / len(self._weights) if self._weights else 1.0
        if len(self._weights) == self._total:
            return sum(self._weights.values())
        return sum(self._weights.get(trial.trial, mean) for trial in known) + rest * mean

    def time_left(self) -> float | None:
        """Seconds until the end at the pace since the first report; None before there is a pace."""
        if self._pace_from is None:
            return None
        began, before = self._pace_from
        spent, elapsed = self._spent(), time.monotonic() - began
        if spent - before <= 0 or elapsed < 1:
            return None
        return max(0.0, (self._total_weight() - spent) * elapsed / (spent - before))

    def _best(self) -> TrialState | None:
        done = [
            trial for trial in self._state.plan_trials() if trial.status == "done" and self._metric in trial.metrics
        ]
        pick = max if self._mode == "max" else min
        return pick(done, key=lambda trial: trial.metrics[self._metric], default=None)

    def _render_with_lines(self) -> RenderableType:
        return Group(*self._lines, self._render())

    def _render(self) -> RenderableType:
        trials = self._state.plan_trials()
        ended = sum(trial.ended for trial in trials)
        failed = sum(trial.status == "failed" for trial in trials)
        total = self._total_weight() or 1.0
        left = self.time_left()
        begun = any(trial.status != "waiting" for trial in trials)
        width = max(10, min(30, self._console.width - 54))
        head = Table.grid(padding=(0, 1))
        head.add_row(
            ProgressBar(total=total, completed=self._spent(), width=width),
            f"{ended}/{self._total} trials" + (f", {failed} failed" if failed else ""),
            f"{short_duration(time.monotonic() - self._started)} so far",
            f"about {short_duration(round(left))} left" if left is not None else "" if begun else "starting",
        )
        lines: list[RenderableType] = [head]
        best = self._best()
        if best is not None:
            value = metric_value(self._metric, best.metrics[self._metric])
            lines.append(literal(f"best so far: {trial_label(best)}  {self._metric} {value}", "green"))
        running = [trial for trial in trials if trial.status == "running"]
        if running:
            lines.append(self._running_table(running))
        return Group(*lines)

    def _running_table(self, running: list[TrialState]) -> Table:
        table = Table.grid(padding=(0, 2))
        for trial in running[:20]:
            value = trial.metrics.get(self._metric)
            table.add_row(
                literal("running", "cyan"),
                trial_label(trial),
                f"{trial.progress:4.0%}",
                f"{self._metric} {metric_value(self._metric, value)}" if value is not None else "",
            )
        return table
