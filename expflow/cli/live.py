"""What a sweep shows while it runs: a live table on a terminal or in a notebook, plain lines anywhere else."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from expflow.cli.notebook import Output
from expflow.events import AttemptFailed, Event, Packed, Reported, TrialEnded
from expflow.ledger import SweepState, TrialState
from expflow.report.words import config_label, metric_value

_LINES = 20


def progress_here(metric: str, mode: str, total: int, weights: Mapping[str, float] | None = None) -> Progress:
    """A sweep's progress on this process's terminal or notebook."""
    return Progress(Console(), metric, mode, total, weights)


def seconds_text(seconds: float) -> str:
    """``75`` -> ``1m15s``, ``0.93`` -> ``0.9s``."""
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes:02d}m"
    return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"


class Progress:
    """Watches a sweep and shows it. Use as a context manager, and as an observer of the conductor.

    ``total`` is the number of trials of the plan, ``weights`` the relative cost of each trial by id (1 where unknown),
    so that the time left does not pretend that a deep network is as quick as a shallow one.
    """

    def __init__(
        self,
        console: Console,
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
        """When the first report came, and what was spent by then: starting Ray and importing torch are no pace."""
        self._live: Live | Output | None = None
        self._said = deque[Text](maxlen=_LINES)
        """In a notebook, the last lines: one output for each of a thousand trials would bury the page."""
        if console.is_jupyter:
            self._live = Output(self._render_with_lines)
        elif console.is_terminal:
            self._live = Live(get_renderable=self._render, console=console, refresh_per_second=4, transient=True)

    def __enter__(self) -> Progress:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def __call__(self, event: Event, state: SweepState) -> None:
        """Take notice of one event."""
        self._state = state
        if self._pace_from is None and isinstance(event, Reported):
            self._pace_from = time.monotonic(), self._spent()
        if isinstance(event, TrialEnded):
            self._say(state.trials[event.trial], event)
        elif isinstance(event, Packed):
            self._console.print(Text(event.words), highlight=False)
        elif isinstance(event, AttemptFailed):
            trial = state.trials[event.trial]
            self._print(Text(f"failed  {name_of(trial)}: {event.failure}: {event.message}", style="red"))
        if isinstance(self._live, Output):
            self._live.refresh()

    def _print(self, line: Text) -> None:
        if isinstance(self._live, Output):
            self._said.append(line)
        else:
            self._console.print(line, highlight=False, soft_wrap=True)

    def _say(self, trial: TrialState, event: TrialEnded) -> None:
        """One line for each trial that ended; on a terminal the live table moves below it."""
        done = self._state.ended
        if event.status == "failed":
            return  # its failure was said with the reason
        value = trial.metrics.get(self._metric)
        shown = f"{self._metric} {metric_value(self._metric, value):>8}  " if value is not None else ""
        count = f"[{done:{len(str(self._total))}}/{self._total}]"
        self._print(Text(f"{count} {event.status:7} {shown}{seconds_text(event.seconds):>5}  {name_of(trial)}"))

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
        return Group(*self._said, self._render())

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
            f"{seconds_text(time.monotonic() - self._started)} so far",
            f"about {seconds_text(round(left))} left" if left is not None else "" if begun else "starting",
        )
        lines: list[RenderableType] = [head]
        best = self._best()
        if best is not None:
            value = metric_value(self._metric, best.metrics[self._metric])
            lines.append(Text(f"best so far: {name_of(best)}  {self._metric} {value}", style="green"))
        running = [trial for trial in trials if trial.status == "running"]
        if running:
            lines.append(self._running_table(running))
        return Group(*lines)

    def _running_table(self, running: list[TrialState]) -> Table:
        table = Table.grid(padding=(0, 2))
        for trial in running[:20]:
            value = trial.metrics.get(self._metric)
            table.add_row(
                Text("running", style="cyan"),
                name_of(trial),
                f"{trial.progress:4.0%}",
                f"{self._metric} {metric_value(self._metric, value)}" if value is not None else "",
            )
        return table


def name_of(trial: TrialState) -> str:
    """``depth=56 shortcut=pad s0``."""
    return f"{config_label(trial.values)} s{trial.seed}"
