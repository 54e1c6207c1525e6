from collections.abc import Iterator

import pytest

from tests.object_store.s3_servers import make_bucket, seaweedfs
from tests.object_store.stored_sweeps import StoredWorkplace


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """A real S3 server on this machine."""
    with seaweedfs() as endpoint:
        yield endpoint


@pytest.fixture
def stored(s3_server, tmp_path, request) -> Iterator[StoredWorkplace]:
    """A workplace whose results lie in a new bucket."""
    bucket = f"b{abs(hash(request.node.nodeid))}"
    make_bucket(s3_server, bucket)
    place = StoredWorkplace(tmp_path, endpoint=s3_server, direct=s3_server, bucket=bucket)
    yield place
    place.leave()
