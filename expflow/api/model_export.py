"""Models of a finished sweep for MLflow (``tracking.models``): which are exported, and how.

A process of its own does it (:mod:`expflow.api.export_worker`), since the driver imports no torch.
"""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from expflow.config.schema import ModelChoice
from expflow.errors import AddressUnknown, ExpflowError, UserError
from expflow.files import unwritable_named
from expflow.ledger import TrialState
from expflow.redaction import redacted
from expflow.report.config_selection import first_selected_trial
from expflow.report.formatting import trial_label
from expflow.report.trial_results import configs
from expflow.sweep.finished_trial import FinishedTrial, load_finished_trial
from expflow.sweep.result_location import ResultLocation
from expflow.tracking.exported_models import ExportedModel, model_folder, read_exports, write_export
from expflow.tracking.pt2_export import export_model, exporting_versions

EXAMPLES = 4
"""Samples in a model's input example."""

_LONGEST_REASON = 1000

_log = logging.getLogger("expflow.api.model_export")


def chosen_trials(results: ResultLocation, choice: ModelChoice) -> list[TrialState]:
    """The trials whose networks are exported: of each chosen config the finished one with the lowest seed.

    Args:
        results: The results.
        choice: Which configs.
    """
    if choice == "none":
        return []
    if choice == "best":
        with contextlib.suppress(AddressUnknown, UserError):  # nothing has finished: there is nothing to choose
            return [first_selected_trial(results)]
        return []
    finished = ([trial for trial in config.trials if trial.status == "done"] for config in configs(results.state))
    return [min(trials, key=lambda trial: trial.seed) for trials in finished if trials]


def missing_exports(folder: Path, trials: Iterable[TrialState]) -> list[TrialState]:
    """Those trials that were not exported as they ended; also those whose export failed under other versions.

    Args:
        folder: The experiment's folder.
        trials: Finished trials.
    """
    exports, versions = read_exports(folder), exporting_versions()
    return [
        trial
        for trial in trials
        if (export := exports.get(trial.trial)) is None
        or export.weights != trial.weights
        or (export.made_by != versions if export.reason else not model_folder(folder, trial.trial).is_dir())
    ]


def export_trial(results: ResultLocation, trial: TrialState) -> ExportedModel:
    """Export one trial's network into its place, or record why that cannot be done.

    Args:
        results: The results that it belongs to.
        trial: A finished trial.
    """
    reason = ""
    try:
        _export(results, trial)
    except ExpflowError as error:
        reason = str(error)
    except Exception as error:  # noqa: BLE001 - torch raises all sorts at networks that it cannot export
        reason = f"{type(error).__name__}: {error}"
        _log.info("the export of %s failed", trial.trial, exc_info=True)
    export = ExportedModel(
        trial.trial,
        trial.config,
        trial_label(trial),
        trial.weights,
        exporting_versions(),
        redacted(" ".join(reason.split()))[:_LONGEST_REASON],
    )
    write_export(results.folder, export)
    return export


def _export(results: ResultLocation, trial: TrialState) -> None:
    from expflow.training.evaluation.inference_network import example_inputs, inference_network

    finished = load_finished_trial(results, trial)
    with finished.open_evaluator() as evaluator:
        weights = finished.load_weights(evaluator).weights
        example = example_inputs(evaluator, "val" if finished.has_val else "train", EXAMPLES)
        network = inference_network(evaluator, weights)
        metadata = _metadata(results, finished, evaluator.data_spec.classes)
        export_model(network, example, metadata, model_folder(results.folder, trial.trial))


def _metadata(results: ResultLocation, finished: FinishedTrial, classes: Sequence[str]) -> dict[str, Any]:
    """What is kept with a model: whose it is, and what its outputs are called."""
    header = results.state.header
    return {
        "expflow.sweep": results.name,
        "expflow.trial": finished.trial.trial,
        "expflow.config": finished.trial.config,
        "expflow.weights": finished.trial.weights,
        "expflow.data": str(header.data.get("manifest") or header.data.get("key") or "") if header else "",
        "expflow.precision": f"32 (trained in {finished.recipe.trainer.precision})",
        "classes": list(classes),
    }


class ExportProcess:
    """A running export. It ends by itself; what it had no time for is done by the next command.

    Args:
        process: The process.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def finish(self, timeout_seconds: float) -> bool:
        """Wait for it.

        Args:
            timeout_seconds: How long.

        Returns:
            Whether it has ended within the time, and MLflow has the models.
        """
        try:
            return self._process.wait(timeout_seconds) == 0
        except subprocess.TimeoutExpired:
            return False


def start_export(folder: Path, choice: ModelChoice, uri: str) -> ExportProcess:
    """Start the process that exports a sweep's models and brings MLflow up to them.

    Args:
        folder: The experiment's folder.
        choice: Which configs.
        uri: The address of the MLflow store.

    Raises:
        StorageUnwritable: Its log cannot be written.
    """
    log = folder.resolve() / "tracking" / "models.txt"
    with unwritable_named(log, "the log of what exports models for MLflow"):
        log.parent.mkdir(parents=True, exist_ok=True)
        log.touch()
    command = [sys.executable, "-P", "-m", "expflow.api.export_worker", str(folder.resolve()), "--models", choice]
    with log.open("ab") as output:
        process = subprocess.Popen(  # noqa: S603 - our own module
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "MLFLOW_TRACKING_URI": uri},  # not on the command line, which everybody here can read
            start_new_session=True,  # Ctrl-C is meant for the driver
        )
    return ExportProcess(process)
