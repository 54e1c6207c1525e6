import uuid
from collections.abc import Iterator

import pytest

from expflow.storage.blob_store import BlobStore
from tests.object_store.s3_servers import make_bucket, moto, s3_variables


@pytest.fixture(scope="session", autouse=True)  # before a test looks which processes there are
def s3_server() -> Iterator[str]:
    """An S3 server with a bucket."""
    with moto() as endpoint:
        make_bucket(endpoint, "bucket")
        yield endpoint


@pytest.fixture(params=["memory", "file", "s3"])
def store(request, tmp_path, monkeypatch) -> BlobStore:
    """An empty store of each kind."""
    where = {"memory": f"memory://{uuid.uuid4().hex}/runs", "file": f"file://{tmp_path}/bucket/runs"}
    if request.param == "s3":
        for name, value in s3_variables(request.getfixturevalue("s3_server")).items():
            monkeypatch.setenv(name, value)
        where["s3"] = f"s3://bucket/{uuid.uuid4().hex}/runs"
    return BlobStore(where[request.param], patience=0.0)
