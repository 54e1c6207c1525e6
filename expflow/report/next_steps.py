"""What can be done after a report, as argument lists that a program can run."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from expflow.ledger.header import Header
from expflow.ledger.state import SweepState
from expflow.report import trial_results
from expflow.report.contrast_answers import Answer
from expflow.report.leaderboard import selected_row
from expflow.report.run_facts import continue_command
from expflow.report.seed_extension import confirming_count, extended_seeds

Action = Literal["continue", "add_seeds", "test", "read_log", "retry_failed"]


@dataclass(frozen=True)
class NextStep:
    """Something that can be done now.

    Attributes:
        action: What it is.
        arguments: The command, an argument each.
        why: What it would give.
    """

    action: Action
    arguments: tuple[str, ...]
    why: str


def next_steps(state: SweepState, answers: Sequence[Answer], name: str) -> tuple[NextStep, ...]:
    """What can be done now, most pressing first.

    Args:
        state: What the ledger adds up to.
        answers: The answers of the declared contrasts.
        name: Name of the results.
    """
    return tuple(_steps(state, answers, name))


def _steps(state: SweepState, answers: Sequence[Answer], name: str) -> Iterator[NextStep]:
    header, progress = trial_results.header_of(state), trial_results.progress(state)
    again = tuple(shlex.split(continue_command(header)))
    if not progress.complete and again:
        yield NextStep("continue", again, f"finishes the sweep: {progress}")
    if failed := trial_results.failures(state):
        yield NextStep("read_log", ("expflow", "logs", f"{name}/{failed[0].trial}"), failed[0].reason)
        if again and again[:2] == ("expflow", "sweep"):
            yield NextStep("retry_failed", (*again, "--retry", "failed"), "runs failed trials again")
    if progress.complete and again:
        for answer in answers:
            if (count := _seeds_wanted(answer, header)) is not None:
                seeds = extended_seeds(header.seeds, count)
                yield NextStep("add_seeds", (*again, "--set", f"sweep.seeds={seeds}"), answer.claim)
    tested = any(evaluation.split == "test" for evaluation in state.split_evaluations)
    if progress.complete and not tested and selected_row(state) is not None:
        yield NextStep("test", ("expflow", "test", name), "the number to quote: the selected config on the test split")


def _seeds_wanted(answer: Answer, header: Header) -> int | None:
    """How many seeds would answer a contrast that is open; None where it is answered, or no number is known."""
    if answer.verdict == "exploratory":
        return confirming_count(header.seeds, len(header.seeds))
    if answer.verdict == "not_resolved" and answer.seeds_needed is not None:
        return answer.seeds_needed.middle
    return None
