"""The error of a command that was asked for JSON: one object on stderr."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from expflow.errors import ExperimentInvalid, ExpflowError, Problem, UnknownName, nearest

_NEAREST = re.compile(r"(?:nearest: |did you mean )'?([\w./:+-]*\w)")


@dataclass(frozen=True)
class ErrorProblem:
    """One thing that is wrong.

    Attributes:
        message: What is wrong, and what was expected.
        file: The file, or what the value came from; empty where it is about no file.
        line: From 1; 0 where the value came from no file.
        column: From 1; 0 likewise.
        key: The dotted key that it is about; empty where it is about none.
        nearest: What was probably meant; empty where nothing is near.
    """

    message: str
    file: str = ""
    line: int = 0
    column: int = 0
    key: str = ""
    nearest: str = ""


@dataclass(frozen=True)
class ErrorDocument:
    """An error.

    Attributes:
        document: Which document this is.
        version: Its version.
        error: The error's class, as expflow/errors.py has it; ``UsageError`` for wrong words of a command, and
            ``Bug`` for what was not raised on purpose.
        message: What happened, where, and what to do.
        problems: What is wrong, each with its place; of most errors one without a place.
        exit_code: The exit code of the command.
    """

    document: Literal["error"]
    version: Literal[1]
    error: str
    message: str
    problems: tuple[ErrorProblem, ...]
    exit_code: int


def error_document(error: BaseException) -> ErrorDocument:
    """An error as plain data.

    Args:
        error: What a command raised: an error of expflow's, one of the command line's, or a bug.
    """
    if isinstance(error, ExperimentInvalid):
        problems = tuple(_problem(problem) for problem in error.problems)
        return ErrorDocument("error", 1, type(error).__name__, str(error), problems, error.exit_code)
    if isinstance(error, ExpflowError):
        return _single(type(error).__name__, str(error), error.exit_code, _nearest_of(error))
    usage = getattr(error, "format_message", None)
    if callable(usage):  # typer brings click's errors along under one name or another
        return _single("UsageError", str(usage()), int(getattr(error, "exit_code", 2)), _nearest_in(str(usage())))
    return _single("Bug", f"{type(error).__name__}: {error}", 1, "")


def _single(name: str, message: str, exit_code: int, close: str) -> ErrorDocument:
    return ErrorDocument("error", 1, name, message, (ErrorProblem(message, nearest=close),), exit_code)


def _problem(problem: Problem) -> ErrorProblem:
    return ErrorProblem(
        problem.message, problem.file, problem.line, problem.column, problem.key, _nearest_in(problem.message)
    )


def _nearest_of(error: ExpflowError) -> str:
    if isinstance(error, UnknownName):
        return nearest(error.name, error.known)
    return _nearest_in(str(error))


def _nearest_in(message: str) -> str:
    match = _NEAREST.search(message)
    return match[1] if match else ""
