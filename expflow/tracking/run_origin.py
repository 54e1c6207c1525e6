"""Which results a run in MLflow shows."""

from __future__ import annotations

from dataclasses import dataclass

from expflow.errors import AddressUnknown
from expflow.tracking.store import bounded_environment, connect, errors_as_unreachable, public_uri


@dataclass(frozen=True)
class RunOrigin:
    """What a run was made of.

    Attributes:
        name: Name of the results.
        trial: Id of the trial; empty where the run is no trial's.
        config: Id of the config; empty where the run is the sweep's own.
    """

    name: str
    trial: str
    config: str


def run_origin(uri: str, run_id: str) -> RunOrigin:
    """Look a run up.

    Args:
        uri: The address of the MLflow store.
        run_id: The run's id.

    Raises:
        AddressUnknown: There is no such run, or expflow did not write it.
        ServerUnreachable: The store does not answer.
    """
    with bounded_environment(), errors_as_unreachable(uri, f"looking for the run {run_id}"):
        client = connect(uri)
        from mlflow.exceptions import MlflowException

        try:
            run = client.get_run(run_id)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            raise AddressUnknown(f"mlflow:{run_id}: there is no such run in {public_uri(uri)}") from error
        name = client.get_experiment(run.info.experiment_id).name
    tags = run.data.tags
    if "expflow.role" not in tags:
        raise AddressUnknown(f"mlflow:{run_id} is no run of expflow's: its recipe and seeds are not known")
    return RunOrigin(name, tags.get("expflow.trial", ""), tags.get("expflow.config", ""))
