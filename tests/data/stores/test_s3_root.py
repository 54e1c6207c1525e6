"""Against a real S3 endpoint on this machine, and against one that does wrong on command."""

import pytest

from expflow.data.stores import ShardCache, object_store, open_root
from expflow.errors import DataMissing, DataUnreachable, ShardCorrupt, StorageUnwritable
from tests.data.stores.servers import Fault, content, shard_of

DATA = content(1)


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(object_store, "PART_BYTES", 70_000)
    monkeypatch.setattr(object_store, "PARTS_AT_ONCE", 2)


@pytest.fixture
def bad(server, s3_environment, retry_policy):
    """A root at an endpoint whose answers are the server's faults."""
    s3_environment(server.url)
    return open_root("s3://bucket", retry_policy=retry_policy)


def shard_bytes(root, shard) -> bytes:
    with root.hold(shard) as open_shard:
        return bytes(open_shard.view)


def file_of(tmp_path, data):
    path = tmp_path / "local"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("size", [0, 1, 69_999, 70_000, 140_000, 140_001, 300_000])
def test_a_shard_goes_there_and_comes_back(s3, tmp_path, small_parts, size):
    root, data = open_root(f"{s3}/deep/folder", cache=ShardCache(tmp_path / "cache")), content(1, size)
    root.write_file("train-0.tar", file_of(tmp_path, data))
    with root.hold(shard_of("train-0.tar", data)) as open_shard:
        assert open_shard.view == data
        assert open_shard.path.read_bytes() == data
    assert root.read_bytes("train-0.tar") == data


def test_what_is_there(s3, tmp_path):
    root = open_root(f"{s3}/folder")
    for name in ("b.tar", "a.tar", "deep/c.tar"):
        root.write_file(name, file_of(tmp_path, DATA))
    assert root.list() == ["a.tar", "b.tar"]
    assert root.exists("deep/c.tar")
    assert not root.exists("deep")
    assert not root.exists("d.tar")
    assert root.download("a.tar", tmp_path / "copy") == (len(DATA), shard_of("", DATA).sha256)
    for ask in (lambda: root.read_bytes("d.tar"), open_root(f"{s3}/none").list, open_root("s3://no-such-bucket").list):
        with pytest.raises(DataMissing, match=r"no such file or bucket"):
            ask()


def test_an_upload_in_parts_is_checked_by_its_tag(s3, tmp_path, monkeypatch):
    monkeypatch.setattr(object_store, "UPLOAD_PART_BYTES", 5 << 20)
    monkeypatch.setattr(object_store, "ObjectBody", lambda *_: pytest.fail("read back"))
    path = file_of(tmp_path, content(1, 11 << 20))
    open_root(s3).write_file("train-0.tar", path)


def test_an_upload_whose_tag_says_nothing_is_read_back(s3, tmp_path, monkeypatch, retry_policy):
    monkeypatch.setattr(object_store, "_md5", lambda path: "")
    monkeypatch.setattr(object_store, "_md5_of_parts", lambda path: "")
    root = open_root(s3, retry_policy=retry_policy)
    root.write_file("train-0.tar", file_of(tmp_path, DATA))
    monkeypatch.setattr(object_store.ObjectBody, "chunks", lambda self: iter([b"something else"]))
    with pytest.raises(StorageUnwritable, match=r"wrote sha256"):
        root.write_file("train-1.tar", file_of(tmp_path, DATA))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (content(2), "expected sha256"),
        (DATA[:-1], "expected 300000 bytes, found 299999"),
        (DATA[:140_000], "expected 300000 bytes, found 140000"),
        (DATA[:10], "expected 300000 bytes, found 10"),
        (DATA + b"x", "expected 300000 bytes, found more"),
        (b"", "expected 300000 bytes, found 0"),
    ],
)
def test_another_object_is_noticed(s3, tmp_path, small_parts, retry_policy, other, message):
    root = open_root(s3, retry_policy=retry_policy)
    root.write_file("train-0.tar", file_of(tmp_path, other))
    with pytest.raises(ShardCorrupt, match=f"train-0.tar: {message}"):
        shard_bytes(root, shard_of("train-0.tar", DATA))


def test_nobody_at_the_endpoint(s3_environment, retry_policy):
    s3_environment("http://127.0.0.1:1")
    root = open_root("s3://bucket", retry_policy=retry_policy)
    for ask in (lambda: root.read_bytes("manifest.json"), root.list, lambda: root.exists("manifest.json")):
        with pytest.raises(DataUnreachable, match=r"s3://bucket.*: given up after 4 attempts"):
            ask()


def test_writing_where_nobody_is(s3_environment, retry_policy, tmp_path):
    s3_environment("http://127.0.0.1:1")
    with pytest.raises(StorageUnwritable, match=r"cannot write s3://bucket/train-0.tar: .*given up after 4 attempts"):
        open_root("s3://bucket", retry_policy=retry_policy).write_file("train-0.tar", file_of(tmp_path, DATA))


def test_no_credentials(s3_environment, monkeypatch, retry_policy, waits):
    s3_environment("http://127.0.0.1:1")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("HOME", "/nonexistent")
    with pytest.raises(DataUnreachable, match=r"does not let us in .* AWS_PROFILE"):
        open_root("s3://bucket", retry_policy=retry_policy).read_bytes("manifest.json")
    assert waits == []


def test_a_bad_endpoint_that_recovers(bad, server, small_parts):
    shard = server.put("bucket/train-0.tar", DATA)
    server.fail(
        Fault(status=503, body=b"<Error><Code>SlowDown</Code></Error>"),
        Fault(sent=10_000, cut=True),
        Fault(sent=10_000, then=server.released.wait),
        Fault(status=500),
    )
    assert shard_bytes(bad, shard) == DATA


def test_what_arrived_is_not_fetched_again(bad, server, small_parts, monkeypatch):
    monkeypatch.setattr(object_store, "PARTS_AT_ONCE", 1)
    shard = server.put("bucket/train-0.tar", DATA)
    server.fail(Fault(), Fault(), Fault(status=503))
    assert shard_bytes(bad, shard) == DATA
    begins = [asked.removeprefix("bytes=").split("-")[0] for asked in server.ranges]
    assert begins == ["0", "70000", "140000", "140000", "210000", "280000"]


@pytest.mark.parametrize(("status", "error"), [(403, DataUnreachable), (404, DataMissing)])
def test_what_another_attempt_would_not_change(bad, server, status, error, waits):
    shard = server.put("bucket/train-0.tar", DATA)
    server.always = Fault(
        status=status, body=b"<Error><Code>%s</Code></Error>" % (b"AccessDenied" if status == 403 else b"NoSuchKey")
    )
    with pytest.raises(error, match=r"train-0.tar"):
        shard_bytes(bad, shard)
    assert waits == []


def test_an_endpoint_that_stays_busy_is_given_up(bad, server, waits):
    shard = server.put("bucket/train-0.tar", DATA)
    server.always = Fault(status=503, body=b"<Error><Code>SlowDown</Code></Error>")
    with pytest.raises(DataUnreachable, match=r"s3://bucket/train-0.tar: given up after 4 attempts with 0 of 300000"):
        shard_bytes(bad, shard)
    assert waits == [0.2, 0.4, 0.8]
