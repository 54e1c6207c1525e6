"""The process that exports a finished sweep's models and then brings MLflow up to them.

    python -m expflow.api.export_worker FOLDER --models best

What is there already is not exported again.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from expflow.api.model_export import chosen_trials, export_trial, missing_exports
from expflow.config.schema import ModelChoice
from expflow.errors import ExpflowError
from expflow.ledger import load_state
from expflow.sweep.result_location import ResultLocation
from expflow.tracking.background import run_behind_everything
from expflow.tracking.follower import catch_up

_log = logging.getLogger("expflow.api.export_worker")


def main(arguments: Sequence[str] | None = None) -> int:
    """The process's entry. Exit code 0 when MLflow has every model that could be exported.

    Args:
        arguments: The command line; by default that of the process.
    """
    parser = argparse.ArgumentParser(prog="expflow.api.export_worker", description=__doc__)
    parser.add_argument("folder", type=Path, help="the experiment's folder")
    parser.add_argument("--models", choices=get_args(ModelChoice), default="best", help="which configs")
    options = parser.parse_args(arguments)
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(asctime)s %(message)s")
    run_behind_everything(session=False)  # the next sweep may be running already
    results = ResultLocation(options.folder, load_state(options.folder))
    for trial in missing_exports(results.folder, chosen_trials(results, options.models)):
        export = export_trial(results, trial)
        _log.info("%s: %s", export.label, export.reason or "exported")
    try:
        return 0 if catch_up(results.folder, os.environ["MLFLOW_TRACKING_URI"], wait=True) else 1
    except ExpflowError as error:
        _log.warning("%s", error)
        return 1


if __name__ == "__main__":
    sys.exit(main())
