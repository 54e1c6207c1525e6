"""The translation of the ledger's records into MLflow's runs: pure, so the same records give the same updates.

The translation keeps no memory beside the records. After a restart the ledger is read again from its beginning, what
was written before is dropped, and the rest is written with the ledger's own times, so that nothing can appear twice.
"""

from __future__ import annotations

import getpass
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from expflow.errors import LedgerDamaged
from expflow.events import (
    ArtifactWritten,
    AttemptFailed,
    DriverStopped,
    Event,
    SplitEvaluated,
    SystemMeasured,
    TrialEnded,
    TrialForked,
    TrialProposed,
    TrialReported,
    TrialStarted,
)
from expflow.ledger import Header, Record, SweepState, TrialState
from expflow.tracking import notes
from expflow.tracking.config_runs import ConfigRuns, final_values
from expflow.tracking.naming import as_text, flatten, full_recipe, run_color, run_name, safe_key
from expflow.tracking.pending_updates import SWEEP, PendingUpdates, Role, RunSpec, RunStatus

_ENDED: dict[str, RunStatus] = {"done": "FINISHED", "stopped": "FINISHED", "failed": "FAILED"}
_STOPPED: dict[str, RunStatus] = {"finished": "FINISHED", "interrupted": "KILLED", "error": "FAILED"}


class LedgerTranslator:
    """Translates records, one after the other, into updates of MLflow's runs (:attr:`pending`)."""

    def __init__(self) -> None:
        self.pending = PendingUpdates()
        self.state = SweepState()
        self.driver_stopped = False
        """Whether the newest driver recorded that it stopped."""
        self._configs = ConfigRuns(
            self.pending, lambda metric: self.header.measured_on(metric), lambda: self.header.overlap
        )
        self._first: Record | None = None
        self._known: set[str] = set()
        self._homes: dict[str, Header] = {}  # the header under which a trial was proposed first
        self._attached: dict[tuple[str, str], str] = {}  # run and path -> sha256 of the file that the run was given
        self._repeats: dict[str, dict[int, Mapping[str, float]]] = {}  # what a lost attempt reported, by step

    @property
    def header(self) -> Header:
        """The newest driver's header.

        Raises:
            LedgerDamaged: The ledger has none yet.
        """
        if self.state.header is None:
            raise LedgerDamaged("the ledger has no header yet")
        return self.state.header

    @property
    def _first_header(self) -> Header:
        if self._first is None or not isinstance(self._first.body, Header):
            raise LedgerDamaged("the ledger has no header yet")
        return self._first.body

    @property
    def sweep_id(self) -> str:
        """What distinguishes this ledger from any other of the same name, in the same MLflow experiment."""
        header = self._first_header
        words = f"{header.name}|{self.begun_at:.6f}|{header.driver.get('host')}|{header.driver.get('pid')}"
        return hashlib.sha256(words.encode()).hexdigest()[:12]

    @property
    def begun_at(self) -> float:
        """When the sweep's first driver began (unix seconds)."""
        return self._first.at if self._first is not None else 0.0

    def apply(self, record: Record) -> None:
        """Take in one record.

        Args:
            record: The ledger's next record.
        """
        if self._first is None:
            self._first = record
        if isinstance(record.body, Header):
            self._begin(record.body, record.at)
            return
        if isinstance(record.body, TrialStarted):
            self._remember_reports(record.body)
        self.state.apply(record.body, record.at)
        if isinstance(record.body, DriverStopped):
            self._stop(_STOPPED.get(record.body.reason, "FAILED"), record.body.reason, record.at)
            return
        if isinstance(record.body, SplitEvaluated):
            self._evaluated(record.body, record.at)
            return
        trial = self.state.trials.get(getattr(record.body, "trial", ""))
        if trial is not None:
            self._trial_event(trial, record.body, record.at)

    def interrupt(self, at: float) -> None:
        """Mark the sweep as killed, where its driver died and wrote no end.

        Args:
            at: The time that the runs get as their end (unix seconds).
        """
        if self._first is not None and not self.driver_stopped:
            self._stop("KILLED", "killed", self._not_before(at))

    def reassert(self, at: float) -> None:
        """Mark again as running what runs at the moment, in case an earlier follower took its driver for dead.

        Args:
            at: The present time (unix seconds).
        """
        if self._first is not None and not self.driver_stopped:
            at = self._not_before(at)
            self.pending.state(SWEEP, "running", "RUNNING", at)
            self._set_state(self._running(), "running", "RUNNING", at)

    def _not_before(self, at: float) -> float:
        """A time of this machine that comes after what another one, whose clock was ahead, may have recorded."""
        return max(at, self.state.at)

    def spec(self, key: str) -> RunSpec:
        """What a run is to be created with.

        Args:
            key: The run's key.
        """
        if key == SWEEP:
            return self._sweep_spec()
        kind, _, name = key.partition(":")
        if kind == "trial":
            return self._trial_spec(self.state.trials[name])
        config, seeds, example = self._configs.example(key)
        tags = {"expflow.config": config, "expflow.seeds": ",".join(map(str, seeds))}
        return self._member_spec("config", key, tags, example)

    def _begin(self, header: Header, at: float) -> None:
        left_over = self._running()
        self.state.start(header)
        self._set_state(left_over, "waiting", "KILLED", at)  # they lost their driver, and go on with this one
        self.driver_stopped = False
        if SWEEP not in self._known:
            self._known.add(SWEEP)
            self.pending.of(SWEEP).fresh = True
        self.pending.state(SWEEP, "running", "RUNNING", at)

    def _stop(self, status: RunStatus, reason: str, at: float) -> None:
        self.driver_stopped = True
        self._set_state(self._running(), "waiting", "KILLED", at)
        self.pending.state(SWEEP, reason, status, at)

    def _set_state(self, trials: list[TrialState], state: str, status: RunStatus, at: float) -> None:
        """Set the state of these trials, and of the configs that average them."""
        for trial in trials:
            self.pending.state(_key(trial), state, status, at)
            config = self._configs.key_of(trial)
            if config is not None:
                self.pending.state(config, state, status, at)

    def _running(self) -> list[TrialState]:
        return [trial for trial in self.state.trials.values() if trial.status == "running"]

    def _trial_event(self, trial: TrialState, event: Event, at: float) -> None:
        if isinstance(event, TrialProposed):  # the run begins when the trial does, so that its duration is the trial's
            self._configs.proposed(trial)
            self._homes.setdefault(trial.trial, self.header)
            return
        key = _key(trial)
        if key not in self._known:
            self._known.add(key)
            self.pending.of(key).fresh = True
        match event:
            case TrialStarted():
                self.pending.state(key, "running", "RUNNING", at)
                self._configs.started(trial, event.from_step, self.header.seeds, at)
            case TrialReported():
                self.pending.log(key, self._news(event), event.step, at)
                self._configs.reported(trial, event, at)
            case SystemMeasured():
                self.pending.log(key, event.metrics, event.step, at)
            case ArtifactWritten():
                self._attach(key, event)
            case TrialForked():
                self._forked(key, event, at)
            case AttemptFailed():
                self.pending.state(key, "waiting", "KILLED", at)
                self.pending.of(key).tags["expflow.failure"] = as_text(f"{event.failure}: {event.message}")
            case TrialEnded():
                self._ended(key, trial, event, at)
            case _:
                pass  # MLflow shows neither decisions nor checkpoints

    def _remember_reports(self, event: TrialStarted) -> None:
        """A new attempt repeats what a lost one reported behind the checkpoint."""
        trial = self.state.trials.get(event.trial)
        for report in trial.reports if trial is not None else ():
            if report.step > event.from_step:
                self._repeats.setdefault(event.trial, {})[report.step] = report.metrics

    def _news(self, event: TrialReported) -> dict[str, float]:
        """A report without the values that a lost attempt gave for this step already: MLflow would show them twice."""
        before = self._repeats.get(event.trial, {}).get(event.step, {})
        return {name: value for name, value in event.metrics.items() if before.get(name) != value}

    def _ended(self, key: str, trial: TrialState, event: TrialEnded, at: float) -> None:
        self.pending.state(key, event.status, _ENDED[event.status], at)
        if event.weights:
            self.pending.of(key).tags["expflow.weights"] = event.weights
        if "cost/seconds" not in trial.metrics:
            self.pending.log(key, {"cost/seconds": event.seconds}, event.step, at)
        self._configs.ended(trial, at)

    def _evaluated(self, evaluation: SplitEvaluated, at: float) -> None:
        """What was measured on test: at each trial's last step; means and intervals with its config's final values."""
        number = {f"expflow.{evaluation.split}_looks": str(evaluation.number)}
        self.pending.of(SWEEP).tags.update(number)
        trials = [self.state.trials[name] for name in evaluation.metrics if name in self.state.trials]
        for trial in trials:
            key = _key(trial)
            self.pending.log(key, evaluation.metrics[trial.trial], trial.reports[-1].step if trial.reports else 0, at)
            self.pending.of(key).tags.update(number)
        config = self._configs.key_of(trials[0]) if trials else None
        if config is not None:
            rows = [evaluation.metrics[trial.trial] for trial in trials]
            self.pending.log(config, final_values(rows, self.header.measured_on), 0, at)
            self.pending.of(config).tags.update(number)
        rest = {
            f"{name}/{metric}": value
            for name in evaluation.members
            for metric, value in evaluation.metrics[name].items()
        }
        if rest:
            self.pending.log(config or SWEEP, rest, 0, at)

    def _attach(self, key: str, event: ArtifactWritten) -> None:
        """Attach a file once: an attempt that repeats a lost one's steps writes the same files again."""
        identity = (key, event.path)
        if self._attached.get(identity) != event.sha256:
            self._attached[identity] = event.sha256
            self.pending.of(key).files[event.path] = f"artifacts/{safe_key(event.name)}"

    def _forked(self, key: str, event: TrialForked, at: float) -> None:
        """What changes within a run is a metric, since parameters are written once."""
        numbers = {f"searched/{name}": value for name, value in event.values.items() if isinstance(value, int | float)}
        self.pending.log(key, numbers, event.step, at)
        self.pending.of(key).tags["expflow.forked_from"] = event.source

    def _sweep_spec(self) -> RunSpec:
        header = self._first_header
        note = notes.sweep_note(header.about, {})
        tags = _tags(header, self.sweep_id, "sweep", SWEEP) | {
            notes.TAG: note,
            notes.DIGEST_TAG: notes.digest(note),
            "expflow.space": as_text([dict(dimension) for dimension in header.space]),
            "expflow.searcher": header.searcher,
            "expflow.scheduler": header.scheduler,
            "expflow.command": as_text(header.command),
            "expflow.metric": header.metric,
            "expflow.mode": header.mode,
        }
        return RunSpec("sweep", header.name, tags, flatten(header.recipe), self.begun_at)

    def _trial_spec(self, trial: TrialState) -> RunSpec:
        tags = {"expflow.trial": trial.trial, "expflow.config": trial.config, "expflow.seed": str(trial.seed)}
        return self._member_spec("trial", _key(trial), tags, trial)

    def _member_spec(self, role: Role, key: str, tags: dict[str, str], trial: TrialState) -> RunSpec:
        header = self._homes[trial.trial]
        name = run_name(header.name, trial.values, trial.seed if role == "trial" else None)
        parameters = flatten(full_recipe(header.recipe, trial.values))
        tags = _tags(header, self.sweep_id, role, key) | tags
        tags["mlflow.runColor"] = run_color(self._configs.place(trial.config))
        own_data = any(key.split(".")[0] == "data" for key in trial.values)
        started = trial.started_at or trial.ended_at
        return RunSpec(role, name, tags, parameters, started, with_data=not own_data)


def _tags(header: Header, sweep_id: str, role: Role, key: str) -> dict[str, str]:
    tags = {
        "expflow.role": role,
        "expflow.key": key,
        "expflow.sweep": sweep_id,
        "expflow.state": "waiting",
        "expflow.version": str(header.versions.get("expflow", "")),
        "mlflow.source.name": header.file,
        "mlflow.source.type": "LOCAL",
        "mlflow.user": _user(),
        "mlflow.source.git.commit": str(header.git.get("commit", "")),
        "expflow.git.dirty": str(header.git.get("dirty", "")),
        "expflow.git.changes": str(header.git.get("changes", "")),
        "expflow.environment": ", ".join(f"{package} {number}" for package, number in header.versions.items()),
    }
    return {name: value for name, value in tags.items() if value}


def dataset(header: Header) -> dict[str, str] | None:
    """The sweep's data as MLflow describes a data set; None where there are none.

    Args:
        header: A header of the sweep.
    """
    data = header.data
    if not data:
        return None
    named = header.recipe.get("data")
    name = (named.get("name") if isinstance(named, dict) else None) or data.get("source")
    if not name and not data.get("manifest"):
        return None
    return {
        "name": str(name or "data"),
        "digest": str(data.get("manifest") or data.get("key") or "unknown")[:36],
        "source": json.dumps({"source": data.get("source"), "key": data.get("key"), "root": data.get("root")}),
        "schema": json.dumps(data.get("spec") or {}),
        "profile": json.dumps(_profile(data)),
    }


def _profile(data: Mapping[str, Any]) -> dict[str, Any]:
    """Size and samples, under the names that MLflow's pages show."""
    samples = data.get("samples") or {}
    sizes = {"num_bytes": data["bytes"]} if data.get("bytes") else {}
    return {"num_rows": sum(samples.values()), **sizes, **samples} if samples else sizes


def _key(trial: TrialState) -> str:
    return f"trial:{trial.trial}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return ""
