"""What ``show --register`` does: the result's network becomes a version of a model in MLflow's registry."""

from __future__ import annotations

import os

from expflow.api.model_export import export_trial, missing_exports
from expflow.config import load_site
from expflow.errors import UserError
from expflow.live.console import LiteralConsole
from expflow.report import current_report, write_report
from expflow.report.config_selection import first_selected_trial
from expflow.sweep.result_location import ResultLocation, find_results
from expflow.tracking import resolve_uri
from expflow.tracking.exported_models import ExportedModel, read_exports
from expflow.tracking.follower import catch_up
from expflow.tracking.notes import model_note, read_report
from expflow.tracking.registry import parse_registry_name, register_model


def register_result(name: str, target: str, storage: str | None) -> None:
    """Register the selected config's network, or one trial's, and print where it is.

    Args:
        name: Address of a trial or of an experiment, of whose selected config the first seed is taken.
        target: ``NAME`` or ``NAME@alias`` in the registry.
        storage: The folder of all results; None: the site's.

    Raises:
        AddressUnknown: There is no such trial, or no config is complete.
        UserError: The registry takes no such name, or the network cannot be exported.
        ServerUnreachable: MLflow does not answer, or refuses.
    """
    wanted, location = parse_registry_name(target), find_results(name, storage)
    export = _exported(location)
    if current_report(location.folder, location.state) is None:
        write_report(location.folder, location.state)
    uri = resolve_uri(location.folder.parent, environ=os.environ, site=load_site().mlflow)
    catch_up(location.folder, uri, wait=True)
    note = model_note(read_report(location.folder / "report.json"), export.config, export.trial)
    version = register_model(location.folder, uri, export, wanted, note)
    console = LiteralConsole()
    console.print(f"{location.name}/{export.trial}  {export.label}", style="bold")
    there = "" if version.created else " (it was there already)"
    console.print(f"  is version {version.version} of the registered model {wanted.name}{there}", soft_wrap=True)
    console.print(f'  mlflow.pytorch.load_model("{version.address}")', soft_wrap=True)


def _exported(location: ResultLocation) -> ExportedModel:
    """The export of the address's network, made now where there is none."""
    trial = first_selected_trial(location) if location.which in (None, "best") else location.trial()
    if trial.status != "done":
        raise UserError(f"{location.name}/{trial.trial} is {trial.status}: only a trial at its full budget has a model")
    export = read_exports(location.folder).get(trial.trial)
    if export is None or export.reason or missing_exports(location.folder, [trial]):
        export = export_trial(location, trial)
    if export.reason:
        raise UserError(f"{location.name}/{trial.trial} ({export.label}) cannot be exported: {export.reason}")
    return export
