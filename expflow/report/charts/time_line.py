"""The time line: which trial ran when, side by side with which others, and why it ended."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from expflow.ledger.state import AttemptSpan, SweepState, TrialState
from expflow.report import formatting
from expflow.report.charts.chart import (
    COLOURS,
    MOST_POINTS,
    Chart,
    Trace,
    chart_layout,
    hover_text,
    number_axis,
    numbers,
)
from expflow.report.palette import FAILED

_ENDINGS = {
    "done": ("done", COLOURS[2]),
    "stopped": ("stopped early", COLOURS[4]),
    "paused": ("paused", COLOURS[5]),
    "running": ("running", COLOURS[0]),
    "interrupted": ("interrupted", COLOURS[7]),
    "failed": ("failed", FAILED),
}
"""How a stretch of training ended -> its name and colour; every class of a failure is ``failed``."""
_SHORTEST_BREAK = 60.0
"""Seconds without any training that are cut out of the axis, where they are also more than a twentieth of it."""


@dataclass(frozen=True)
class _Bar:
    trial: TrialState
    span: AttemptSpan
    began: float
    over: float


def time_line(state: SweepState) -> list[Chart]:
    """The time line; nothing before a trial was started.

    Args:
        state: What the ledger adds up to.
    """
    bars = [
        _Bar(trial, span, span.began, max(span.over or state.at, span.began))
        for trial in state.plan_trials()
        for span in trial.spans
    ]
    if not bars:
        return []
    bars.sort(key=lambda bar: (bar.began, bar.span.gang))
    total, bars = len(bars), bars[-MOST_POINTS:]
    breaks = _breaks(bars)
    slots = _slots(bars)
    traces = [
        trace
        for ending in _ENDINGS
        if (
            trace := _trace(
                [pair for pair in zip(bars, slots, strict=True) if _ending(pair[0]) == ending], bars, breaks
            )
        )
    ]
    rows = max(slots) + 1
    unit, title = _unit(bars, breaks)
    for trace in traces:
        trace["base"], trace["x"] = (numbers(value / unit for value in trace[key]) for key in ("base", "x"))
    lines = [_break_line(_shown(start, bars, breaks) / unit) for start, _ in breaks]
    ticks: dict[str, Any] = {"tickvals": list(range(1, rows + 1))} if rows <= 16 else {}
    y = number_axis("slot", autorange="reversed", **ticks)
    layout = chart_layout(
        number_axis(title), y, height=min(900, 150 + 26 * rows), barmode="overlay", bargap=0.15, shapes=lines
    )
    caption = _caption(bars, total, breaks)
    counts = "; ".join(f"{len(trace['y'])} {trace['name']}" for trace in traces)
    alt = f"{len(bars)} stretches of training on {rows} slots: {counts}."
    return [Chart("time-line", "Trials over time", caption, alt, tuple(traces), layout)]


def _caption(bars: Sequence[_Bar], total: int, breaks: Sequence[tuple[float, float]]) -> str:
    text = "A bar is a stretch of training; a row holds what ran one after another."
    if breaks:
        hours = formatting.duration(sum(end - start for start, end in breaks))
        text += (
            f" Dotted: nothing was trained there; {formatting.plural(len(breaks), 'break')} of {hours} are left out."
        )
    if total > len(bars):
        text += f" The last {len(bars):,} of {total:,}."
    return text


def _ending(bar: _Bar) -> str:
    name = bar.span.ending or ("running" if not bar.span.over else "done")
    return name if name in _ENDINGS else "failed"


def _breaks(bars: Sequence[_Bar]) -> list[tuple[float, float]]:
    """Stretches in which nothing ran, long enough to be left out."""
    gaps, end, busy = list[tuple[float, float]](), bars[0].over, 0.0
    began = bars[0].began
    for bar in bars[1:]:
        if bar.began > end:
            gaps.append((end, bar.began))
            busy += end - began
            began = bar.began
        end = max(end, bar.over)
    busy += end - began
    return [(start, stop) for start, stop in gaps if stop - start > max(_SHORTEST_BREAK, busy / 20)]


def _slots(bars: Sequence[_Bar]) -> list[int]:
    """A row for each bar, the lowest one that is free: as few rows as trials ran at once."""
    free, busy, rows, made = list[int](), list[tuple[float, int]](), list[int](), 0
    for bar in bars:
        while busy and busy[0][0] <= bar.began:
            heapq.heappush(free, heapq.heappop(busy)[1])
        if free:
            row = heapq.heappop(free)
        else:
            row, made = made, made + 1
        heapq.heappush(busy, (bar.over, row))
        rows.append(row)
    return rows


def _shown(at: float, bars: Sequence[_Bar], breaks: Iterable[tuple[float, float]]) -> float:
    """Seconds since the first start, without the breaks."""
    return at - bars[0].began - sum(min(at, stop) - start for start, stop in breaks if at > start)


def _unit(bars: Sequence[_Bar], breaks: Sequence[tuple[float, float]]) -> tuple[float, str]:
    last = _shown(max(bar.over for bar in bars), bars, breaks)
    if last > 7200:
        return 3600.0, "hours"
    return (60.0, "minutes") if last > 180 else (1.0, "seconds")


def _trace(
    members: Sequence[tuple[_Bar, int]], bars: Sequence[_Bar], breaks: Sequence[tuple[float, float]]
) -> Trace | None:
    if not members:
        return None
    name, colour = _ENDINGS[_ending(members[0][0])]
    return {
        "type": "bar",
        "orientation": "h",
        "name": name,
        "base": [_shown(bar.began, bars, breaks) for bar, _ in members],
        "x": [bar.over - bar.began for bar, _ in members],
        "y": [row + 1 for _, row in members],
        "marker": {"color": colour, "opacity": 0.85},
        "hoverinfo": "text",
        "hovertext": [_text(bar) for bar, _ in members],
        "textposition": "none",
    }


def _text(bar: _Bar) -> str:
    where = f"attempt {bar.span.attempt} on {bar.span.gang}" if bar.span.gang else f"attempt {bar.span.attempt}"
    return hover_text(
        [formatting.trial_label(bar.trial), f"{where}, {formatting.duration(bar.over - bar.began)}", _why(bar)]
    )


def _why(bar: _Bar) -> str:
    """Why it ended, in words."""
    ending = bar.span.ending
    failures = {failure.attempt: failure for failure in bar.trial.failures}
    failure = failures.get(bar.span.attempt)
    if _ending(bar) == "failed":
        message = failure.message.partition("\n")[0] if failure else ""
        return f"{ending}: {message}" if message else ending
    if ending == "stopped":
        return f"stopped early by the scheduler at {100 * bar.trial.progress:.0f} % of its budget"
    if ending == "interrupted":
        return "interrupted: its driver was gone"
    return _ENDINGS[_ending(bar)][0]


def _break_line(at: float) -> dict[str, object]:
    line = {"dash": "dot", "width": 1, "color": "#888888"}
    return {"type": "line", "x0": at, "x1": at, "y0": 0, "y1": 1, "yref": "paper", "line": line}
