"""How a command that failed says so: on stderr, in words, with the exit code of its error."""

from __future__ import annotations

import sys
import traceback

from expflow.errors import ExperimentInvalid, ExpflowError, Interrupted, debugging


def report_error(error: ExpflowError) -> int:
    """Say an error that expflow raised on purpose; returns its exit code. No traceback unless asked for."""
    if debugging():
        traceback.print_exception(error)
    print(_render(error), file=sys.stderr)  # noqa: T201  rendering is what this package is for
    return error.exit_code


def report_bug(error: BaseException) -> int:
    """Say an error that nobody raised on purpose, with all that is needed to report it; returns 1."""
    import expflow

    traceback.print_exception(error)
    python = ".".join(map(str, sys.version_info[:3]))
    print(  # noqa: T201
        f"error: {type(error).__name__}: {error}\n"
        f"This is a bug in expflow {expflow.__version__} (Python {python}). The lines above belong into its report. "
        "What was recorded is safe: the same command continues.",
        file=sys.stderr,
    )
    return 1


def _render(error: ExpflowError) -> str:
    if isinstance(error, ExperimentInvalid):
        return "\n".join(f"error: {problem}" for problem in error.problems)
    if isinstance(error, Interrupted):  # it was asked for
        return str(error)
    return f"error: {error}"
