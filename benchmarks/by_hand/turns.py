"""Processes that take turns of a tenth of a second, so that what slows the machine down slows all of them alike.

One waits stopped (SIGSTOP) while the other runs. What each measures is its own CPU time, which stands still meanwhile.
A shared machine changes its speed by a third within seconds: two long measurements one after the other tell more of
that than of what they measure.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

TURN_S = 0.1


def in_turns(commands: Sequence[Sequence[str]], rounds: int) -> Iterator[list[str]]:
    """Run commands at once, in turns; each answers a line on its standard input by one on its output, once a round.

    Args:
        commands: What is run; each calls ``answer``.
        rounds: How many lines each is asked for.

    Yields:
        The answers of one round, in the order of the commands.

    Raises:
        SystemExit: A command ended without an answer.
    """
    with ExitStack() as stack:
        processes = []
        for command in commands:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            stack.enter_context(process)
            stack.callback(process.kill)
            processes.append(process)
        for _ in range(rounds):
            yield _round(processes)


def _round(processes: Sequence[subprocess.Popen[str]]) -> list[str]:
    """The next answer of each."""
    answers: dict[int, str] = {}
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    while len(answers) < len(processes):
        for number, process in enumerate(processes):
            if number in answers:
                continue
            assert process.stdout is not None
            process.send_signal(signal.SIGCONT)
            answered, _, _ = select.select([process.stdout], [], [], TURN_S)
            process.send_signal(signal.SIGSTOP)
            if answered:
                answers[number] = process.stdout.readline()
                if not answers[number]:
                    raise SystemExit(f"{' '.join(process.args)} ended without an answer")
    return [answers[number] for number in range(len(processes))]


def answer(measure: Callable[[], object]) -> None:
    """What a command does: it measures for each line that comes, until there are no more.

    Args:
        measure: Its result is printed; whatever else is printed goes to the standard error.
    """
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for _ in sys.stdin:
        answers.write(f"{measure()}\n")
        answers.flush()
