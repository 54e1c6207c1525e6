"""One driver's work on a plan, with MLflow behind it: what the command line and Python have in common."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from expflow.errors import Interrupted
from expflow.report import ReportFiles, write
from expflow.sweep.conductor import Observer
from expflow.sweep.driver import Result
from expflow.sweep.plan import Plan
from expflow.tracking import public_uri, resolve_uri, start

Runner = Callable[..., Result]
"""``run_sweep`` or ``run_alone``."""

CATCH_UP_SECONDS = 60.0
"""How long MLflow is waited for at the end; nothing is lost where that is too short."""

_INTERRUPTED_SECONDS = 5.0


@dataclass(frozen=True)
class Concluded:
    """A driver that is through. ``files`` is None where no report was asked for."""

    result: Result
    files: ReportFiles | None


class Driving:
    """Runs ``plan`` with ``runner``. Use once: :meth:`run`, then :meth:`catch_up`.

    ``mlflow`` is the address of the MLflow store without its secrets.
    """

    def __init__(self, plan: Plan, runner: Runner, *, keep_results: bool = False, retry_failed: bool = False) -> None:
        self.plan = plan
        self._runner, self._keep_results, self._retry_failed = runner, keep_results, retry_failed
        self._uri = resolve_uri(plan.storage, environ=os.environ, site=plan.site.mlflow)
        self.mlflow = public_uri(self._uri)

    def run(self, observers: Sequence[Observer] = (), *, report: bool = True) -> Concluded:
        """Run what is left, then write the report. Raises what the runner raises; the ledger has what was done."""
        self.plan.folder.mkdir(parents=True, exist_ok=True)
        self._follower = start(self.plan.folder, self._uri)
        try:
            result = self._runner(
                self.plan,
                tracking=self.mlflow,
                keep_results=self._keep_results,
                retry_failed=self._retry_failed,
                observers=tuple(observers),
            )
        except Interrupted:
            self._follower.finish(_INTERRUPTED_SECONDS)
            raise
        except BaseException:
            self._follower.stop()
            raise
        return Concluded(result, write(self.plan.folder, result.state) if report else None)

    def catch_up(self) -> bool:
        """Wait for MLflow, which follows the ledger; false where it stays behind, to be caught up with later."""
        return self._follower.finish(CATCH_UP_SECONDS)
