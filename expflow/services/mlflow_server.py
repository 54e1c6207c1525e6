"""The MLflow server of a group: runs in PostgreSQL, artifacts in the S3 store and through the server."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping

from expflow.services.object_store import ACCESS_KEY, BUCKET
from expflow.services.postgresql import USER
from expflow.services.service import Service, ServiceCommand, answers
from expflow.tracking.server_process import server_command, server_environment

WORKERS = 2


class MLflowServer(Service):
    """MLflow's server, which answers to its own names alone and hands artifacts through."""

    name = "mlflow"
    needs = ("postgresql", "s3")
    usual_port = 5000

    def missing(self) -> str:
        """What has to be installed for it; empty where it can be started."""
        wanted = [name for name in ("psycopg2", "boto3") if importlib.util.find_spec(name) is None]
        return f"{' and '.join(wanted)} (pip install 'expflow[services]')" if wanted else ""

    def command(self, port: int, addresses: Mapping[str, str]) -> ServiceCommand:
        """How it is started.

        Args:
            port: The port that it listens on.
            addresses: Those of PostgreSQL and of the S3 store.
        """
        passwords = self.folder.passwords
        address = f"http://127.0.0.1:{port}"
        place = addresses["postgresql"].removeprefix("postgresql://")
        environment = {
            # The driver is named, since which one is the usual one depends on SQLAlchemy's version.
            **server_environment(f"postgresql+psycopg2://{USER}:{passwords['postgresql']}@{place}"),
            "MLFLOW_S3_ENDPOINT_URL": addresses["s3"],
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": passwords["s3"],
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        return ServiceCommand(
            server_command("127.0.0.1", port, f"s3://{BUCKET}", workers=WORKERS),
            address,
            lambda: answers(f"{address}/health"),
            environment,
        )
