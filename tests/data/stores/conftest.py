from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator

import pytest

from expflow.data.stores import RetryPolicy
from tests.data.stores.servers import Server
from tests.object_store.s3_servers import moto


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield running
    running.released.set()
    running.shutdown()
    running.server_close()
    thread.join()


@pytest.fixture
def waits() -> list[float]:
    """The waits between attempts, none of which is waited for."""
    return []


@pytest.fixture
def retry_policy(waits) -> RetryPolicy:
    return RetryPolicy(attempts=4, connect_timeout=5, stall_timeout=0.3, jitter=lambda: 0.0, sleep=waits.append)


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """A real S3 endpoint of its own on this machine."""
    with moto() as url:
        yield url


@pytest.fixture
def s3_environment(monkeypatch, tmp_path):
    """What a user of S3 sets; nothing of this machine's own."""
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)

    def use(endpoint: str) -> None:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
        monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
        monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")

    return use


@pytest.fixture
def s3(s3_server, s3_environment, request) -> str:
    """The address of a new bucket."""
    s3_environment(s3_server)
    import fsspec

    bucket = f"bucket-{hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:12]}"
    fsspec.filesystem("s3", skip_instance_cache=True).mkdir(bucket)
    return f"s3://{bucket}"
