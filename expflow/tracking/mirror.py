"""What the ledger's records mean to MLflow: a pure translation, the same for the same records.

The translation keeps no memory beside the records. After a restart the ledger is read again from its beginning, what
was told before is thrown away, and the rest is told with the ledger's own times, so that nothing can appear twice.
"""

from __future__ import annotations

import getpass
import hashlib
import json
from collections.abc import Mapping

from expflow.errors import LedgerDamaged
from expflow.events import (
    AttemptFailed,
    DriverStopped,
    Event,
    Forked,
    Looked,
    Proposed,
    Reported,
    TrialEnded,
    TrialStarted,
)
from expflow.ledger import Header, Record, SweepState, TrialState
from expflow.tracking.configs import ConfigRuns, final_values
from expflow.tracking.naming import color, flatten, full_recipe, run_name, text
from expflow.tracking.pending import SWEEP, Pending, Role, RunSpec, RunStatus

_ENDED: dict[str, RunStatus] = {"done": "FINISHED", "stopped": "FINISHED", "failed": "FAILED"}
_STOPPED: dict[str, RunStatus] = {"finished": "FINISHED", "interrupted": "KILLED", "error": "FAILED"}


class Mirror:
    """Translates records, one after the other, into news for MLflow (:attr:`pending`)."""

    def __init__(self) -> None:
        self.pending = Pending()
        self.state = SweepState()
        self.driver_stopped = False
        """Whether the newest driver said that it stopped."""
        self._configs = ConfigRuns(self.pending)
        self._first: Record | None = None
        self._known: set[str] = set()
        self._homes: dict[str, Header] = {}  # the header under which a trial was proposed first
        self._repeats: dict[str, dict[int, Mapping[str, float]]] = {}  # what a lost attempt reported, by step

    @property
    def header(self) -> Header:
        """The newest driver's header."""
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
        """Tells this ledger from any other of the same name, in the same MLflow experiment."""
        header, at = self._first_header, self._first.at if self._first is not None else 0.0
        words = f"{header.name}|{at:.6f}|{header.driver.get('host')}|{header.driver.get('pid')}"
        return hashlib.sha256(words.encode()).hexdigest()[:12]

    def apply(self, record: Record) -> None:
        """Take in one record."""
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
        if isinstance(record.body, Looked):
            self._look(record.body, record.at)
            return
        trial = self.state.trials.get(getattr(record.body, "trial", ""))
        if trial is not None:
            self._trial_event(trial, record.body, record.at)

    def interrupt(self, at: float) -> None:
        """The driver is dead and could not say so."""
        if self._first is not None and not self.driver_stopped:
            self._stop("KILLED", "killed", at)

    def reassert(self, at: float) -> None:
        """Say again what runs at the moment, in case it was taken for dead."""
        if self._first is not None and not self.driver_stopped:
            self.pending.state(SWEEP, "running", "RUNNING", at)
            self._stand(self._running(), "running", "RUNNING", at)

    def spec(self, key: str) -> RunSpec:
        """What the run ``key`` is to be created with."""
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
        self._stand(left_over, "waiting", "KILLED", at)  # they lost their driver, and go on with this one
        self.driver_stopped = False
        self.pending.of(SWEEP).fresh = SWEEP not in self._known
        self._known.add(SWEEP)
        self.pending.state(SWEEP, "running", "RUNNING", at)

    def _stop(self, status: RunStatus, reason: str, at: float) -> None:
        self.driver_stopped = True
        self._stand(self._running(), "waiting", "KILLED", at)
        self.pending.state(SWEEP, reason, status, at)

    def _stand(self, trials: list[TrialState], state: str, status: RunStatus, at: float) -> None:
        """Say how these trials, and the configs that they count in, stand."""
        for trial in trials:
            self.pending.state(_key(trial), state, status, at)
            config = self._configs.key_of(trial)
            if config is not None:
                self.pending.state(config, state, status, at)

    def _running(self) -> list[TrialState]:
        return [trial for trial in self.state.trials.values() if trial.status == "running"]

    def _trial_event(self, trial: TrialState, event: Event, at: float) -> None:
        if isinstance(event, Proposed):  # the run begins when the trial does, so that its duration is the trial's
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
            case Reported():
                self.pending.log(key, self._news(event), event.step, at)
                self._configs.reported(trial, event, at)
            case Forked():
                self._forked(key, event, at)
            case AttemptFailed():
                self.pending.state(key, "waiting", "KILLED", at)
                self.pending.of(key).tags["expflow.failure"] = text(f"{event.failure}: {event.message}")
            case TrialEnded():
                self._ended(key, trial, event, at)
            case _:
                pass  # decisions and checkpoints say nothing that MLflow shows

    def _remember_reports(self, event: TrialStarted) -> None:
        """A new attempt repeats what a lost one reported behind the checkpoint."""
        trial = self.state.trials.get(event.trial)
        for report in trial.reports if trial is not None else ():
            if report.step > event.from_step:
                self._repeats.setdefault(event.trial, {})[report.step] = report.metrics

    def _news(self, event: Reported) -> dict[str, float]:
        """A report without what a lost attempt said of this step in the same numbers: MLflow would show it twice."""
        told = self._repeats.get(event.trial, {}).get(event.step, {})
        return {name: value for name, value in event.metrics.items() if told.get(name) != value}

    def _ended(self, key: str, trial: TrialState, event: TrialEnded, at: float) -> None:
        self.pending.state(key, event.status, _ENDED[event.status], at)
        if event.weights:
            self.pending.of(key).tags["expflow.weights"] = event.weights
        if "cost/seconds" not in trial.metrics:
            self.pending.log(key, {"cost/seconds": event.seconds}, event.step, at)
        self._configs.ended(trial, at)

    def _look(self, look: Looked, at: float) -> None:
        """What was measured on test: at each trial's last step; means and intervals with its config's final values."""
        number = {f"expflow.{look.split}_looks": str(look.number)}
        self.pending.of(SWEEP).tags.update(number)
        trials = [self.state.trials[name] for name in look.metrics if name in self.state.trials]
        for trial in trials:
            key = _key(trial)
            self.pending.log(key, look.metrics[trial.trial], trial.reports[-1].step if trial.reports else 0, at)
            self.pending.of(key).tags.update(number)
        config = self._configs.key_of(trials[0]) if trials else None
        if config is not None:
            self.pending.log(config, final_values([look.metrics[trial.trial] for trial in trials]), 0, at)
            self.pending.of(config).tags.update(number)
        rest = {f"{name}/{metric}": value for name in look.members for metric, value in look.metrics[name].items()}
        if rest:
            self.pending.log(config or SWEEP, rest, 0, at)

    def _forked(self, key: str, event: Forked, at: float) -> None:
        """What changes within a run is a metric, since parameters are written once."""
        numbers = {f"searched/{name}": value for name, value in event.values.items() if isinstance(value, int | float)}
        self.pending.log(key, numbers, event.step, at)
        self.pending.of(key).tags["expflow.forked_from"] = event.source

    def _sweep_spec(self) -> RunSpec:
        header = self._first_header
        about = [header.about.get("question", ""), header.about.get("expect", "")]
        tags = _tags(header, self.sweep_id, "sweep", SWEEP) | {
            "mlflow.note.content": "\n\n".join(filter(None, about)),
            "expflow.space": text([dict(each) for each in header.space]),
            "expflow.searcher": header.searcher,
            "expflow.scheduler": header.scheduler,
            "expflow.metric": header.metric,
            "expflow.mode": header.mode,
        }
        started = self._first.at if self._first is not None else 0.0
        return RunSpec("sweep", header.name, tags, flatten(header.recipe), started)

    def _trial_spec(self, trial: TrialState) -> RunSpec:
        tags = {"expflow.trial": trial.trial, "expflow.config": trial.config, "expflow.seed": str(trial.seed)}
        return self._member_spec("trial", _key(trial), tags, trial)

    def _member_spec(self, role: Role, key: str, tags: dict[str, str], trial: TrialState) -> RunSpec:
        header = self._homes[trial.trial]
        name = run_name(header.name, trial.values, trial.seed if role == "trial" else None)
        parameters = flatten(full_recipe(header.recipe, trial.values))
        tags = _tags(header, self.sweep_id, role, key) | tags
        tags["mlflow.runColor"] = color(self._configs.place(trial.config))
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
    }
    return {name: value for name, value in tags.items() if value}


def dataset(header: Header) -> dict[str, str] | None:
    """The sweep's data as MLflow describes a data set; None where there are none."""
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
        "profile": json.dumps(data.get("samples") or {}),
    }


def _key(trial: TrialState) -> str:
    return f"trial:{trial.trial}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return ""
