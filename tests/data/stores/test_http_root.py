"""Every byte arrives once, or a named error says which shard, from where, what was expected and what was found."""

import gzip
import pickle
import traceback
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from expflow.data.stores import RetryPolicy, open_root
from expflow.errors import AddressRefused, DataMissing, DataUnreachable, ShardCorrupt, StorageUnwritable
from tests.data.stores.servers import Fault, content, shard_of

DATA = content(1)


@pytest.fixture
def shard(server):
    return server.put("train-0.tar", DATA)


@pytest.fixture
def root(server, retry_policy):
    with_secret = open_root(f"{server.url}?sig=SECRET", retry_policy=retry_policy)
    yield with_secret
    with_secret.close()


def shard_bytes(root, shard) -> bytes:
    with root.hold(shard) as open_shard:
        assert open_shard.path is None
        return bytes(open_shard.view)


def test_a_whole_shard_comes_in_one_request(root, server, shard):
    assert shard_bytes(root, shard) == DATA
    assert server.requests == [("/train-0.tar?sig=SECRET", "", "")]


def test_a_cut_transfer_goes_on_at_the_byte_it_reached(root, server, shard):
    server.fail(Fault(sent=100_000, cut=True), Fault(sent=50_000, cut=True))
    assert shard_bytes(root, shard) == DATA
    assert server.ranges == ["", "bytes=100000-", "bytes=150000-"]
    assert all(condition.startswith('"') for _, _, condition in server.requests[1:])


def test_any_number_of_cuts_is_borne_while_bytes_come(root, server, shard):
    server.fail(*[Fault(sent=20_000, cut=True)] * 12)
    assert shard_bytes(root, shard) == DATA


def test_cuts_without_a_new_byte_are_given_up(root, server, shard, waits):
    server.always = Fault(sent=0, cut=True)
    with pytest.raises(DataUnreachable, match=r"train-0.tar\?…: given up after 4 attempts with 0 of 300000 bytes"):
        shard_bytes(root, shard)
    assert waits == [0.2, 0.4, 0.8]


def test_the_number_of_all_attempts_is_limited(server, shard, waits):
    server.always = Fault(sent=1, cut=True)
    root = open_root(server.url, retry_policy=RetryPolicy(total_attempts=5, sleep=waits.append))
    with pytest.raises(DataUnreachable, match=r"given up after 5 attempts with 5 of 300000 bytes"):
        shard_bytes(root, shard)
    root.close()


def test_a_stalled_transfer_goes_on(root, server, shard):
    server.fail(Fault(sent=100_000, then=server.released.wait))
    assert shard_bytes(root, shard) == DATA
    assert server.ranges == ["", "bytes=100000-"]


def test_a_server_that_never_answers_is_given_up(root, server, shard):
    server.always = Fault(status=200, length=10, then=server.released.wait)
    with pytest.raises(DataUnreachable, match=r"no byte came for 0.3 s"):
        root.read_bytes("train-0.tar")
    server.always = Fault(before=server.released.wait)
    with pytest.raises(DataUnreachable, match=r"did not answer in time"):
        root.read_bytes("train-0.tar")


def test_a_trickle_counts_as_a_stall(server, shard, waits):
    ticks = iter(range(0, 10_000, 60))
    server.always = Fault(sent=100, cut=True)
    retry_policy = RetryPolicy(attempts=2, total_attempts=3, sleep=waits.append, clock=lambda: float(next(ticks)))
    root = open_root(server.url, retry_policy=retry_policy)
    with pytest.raises(DataUnreachable, match=r"only 100 bytes came in 60 s"):
        shard_bytes(root, shard)
    root.close()


def test_nobody_at_the_port(server, waits, retry_policy):
    root = open_root("http://127.0.0.1:1", retry_policy=retry_policy)
    with pytest.raises(DataUnreachable, match=r"Connection refused"):
        root.read_bytes("manifest.json")
    assert len(waits) == 3
    root.close()


@pytest.mark.parametrize("status", [500, 502, 503, 504, 429, 408])
def test_a_busy_server_recovers(root, server, shard, status, waits):
    server.fail(Fault(status=status), Fault(status=status))
    assert shard_bytes(root, shard) == DATA
    assert waits == [0.2, 0.4]


def test_retry_after_is_honoured_up_to_the_longest_wait(root, server, shard, waits):
    then = format_datetime(datetime.now(UTC) + timedelta(seconds=20), usegmt=True)
    server.fail(*[Fault(status=503, headers={"Retry-After": text}) for text in ("7", then, "3600")])
    assert shard_bytes(root, shard) == DATA
    assert waits[0] == 7
    assert 15 < waits[1] <= 20
    assert waits[2] == 30


def test_a_date_in_retry_after_is_by_the_servers_own_clock(root, server, shard, waits):
    now = datetime.now(UTC) - timedelta(minutes=10)
    then = format_datetime(now + timedelta(seconds=20), usegmt=True)
    server.fail(Fault(status=503, headers={"Retry-After": then, "Date": format_datetime(now, usegmt=True)}))
    assert shard_bytes(root, shard) == DATA
    assert waits == [20]


def test_jitter_takes_up_to_half_of_a_wait(waits):
    for chance in (0.0, 0.5, 1.0):
        RetryPolicy(jitter=lambda chance=chance: chance, sleep=waits.append).wait(3)
    assert waits == pytest.approx([0.8, 0.6, 0.4])


def test_a_server_that_ignores_ranges_sends_all_again(root, server, shard):
    server.fail(Fault(sent=100_000, cut=True), Fault(ignore_range=True))
    assert shard_bytes(root, shard) == DATA


def test_a_server_that_ignores_ranges_and_always_cuts_is_given_up(root, server, shard):
    server.always = Fault(sent=100_000, cut=True, ignore_range=True)
    with pytest.raises(
        DataUnreachable, match=r"given up after 5 attempts with 100000 of 300000 bytes: the connection broke"
    ):
        shard_bytes(root, shard)


def test_a_file_that_changes_on_the_way_is_noticed(root, server, shard):
    other = content(2)
    server.fail(Fault(sent=100_000, cut=True, then=lambda: server.files.update({"train-0.tar": other})))
    with pytest.raises(ShardCorrupt, match=f"expected sha256 {shard.sha256}, found {shard_of('', other).sha256}"):
        shard_bytes(root, shard)


def test_a_file_that_changes_without_a_tag_is_noticed(root, server, shard):
    server.tags = False
    other = content(2)
    server.fail(Fault(sent=100_000, cut=True, then=lambda: server.files.update({"train-0.tar": other})))
    with pytest.raises(ShardCorrupt, match=r"expected sha256"):
        shard_bytes(root, shard)


def test_a_part_of_another_version_is_thrown_away(root, server, shard):
    server.fail(Fault(sent=100_000, cut=True), Fault(headers={"ETag": '"another"'}))
    assert shard_bytes(root, shard) == DATA
    assert server.ranges == ["", "bytes=100000-", ""]


def test_a_manifest_that_changes_on_the_way_is_read_anew(root, server):
    server.put("manifest.json", content(3, 5000))
    new = content(4, 4000)
    server.fail(Fault(sent=2000, cut=True, then=lambda: server.files.update({"manifest.json": new})))
    assert root.read_bytes("manifest.json") == new


def test_a_wrong_part_is_asked_for_again(root, server, shard):
    server.fail(Fault(sent=100_000, cut=True), Fault(shift=7))
    assert shard_bytes(root, shard) == DATA


@pytest.mark.parametrize("length", [299_999, 300_001, 10**15])
def test_a_length_that_is_a_lie(root, server, shard, length):
    server.always = Fault(length=length)
    with pytest.raises(ShardCorrupt, match=f"expected 300000 bytes, the store says {length}; fetched 2 times"):
        shard_bytes(root, shard)


def test_a_lie_that_is_told_once(root, server, shard):
    server.fail(Fault(length=17))
    assert shard_bytes(root, shard) == DATA


@pytest.mark.parametrize("size", [250_000, 350_000])
def test_a_file_of_another_size_without_a_length(root, server, shard, size):
    server.files["train-0.tar"] = content(1, size)
    server.always = Fault(length=-1)
    with pytest.raises(
        (ShardCorrupt, DataUnreachable), match=r"expected 300000 bytes, found more|at byte 250000 of 300000|ends before"
    ):
        shard_bytes(root, shard)


def test_a_flipped_bit_is_fetched_again_and_then_named(root, server, shard):
    flipped = bytes([DATA[0] ^ 1]) + DATA[1:]
    server.fail(Fault(body=flipped))
    assert shard_bytes(root, shard) == DATA
    server.files["train-0.tar"] = flipped
    with pytest.raises(ShardCorrupt, match=r"train-0.tar\?…: expected sha256 .*; fetched 2 times"):
        shard_bytes(root, shard)


def test_a_compressed_body_is_not_the_file(root, server, shard):
    server.always = Fault(body=gzip.compress(DATA), headers={"Content-Encoding": "gzip"})
    with pytest.raises(ShardCorrupt, match=r"came encoded as 'gzip'"):
        shard_bytes(root, shard)


@pytest.mark.parametrize(
    ("status", "error"),
    [(404, DataMissing), (410, DataMissing), (401, DataUnreachable), (403, DataUnreachable), (418, DataUnreachable)],
)
def test_what_another_attempt_would_not_change(root, server, shard, status, error, waits):
    server.always = Fault(status=status)
    with pytest.raises(error, match=rf"train-0.tar\?…: .*HTTP {status}"):
        shard_bytes(root, shard)
    assert waits == []


@pytest.mark.parametrize(
    "target",
    [
        "file:///etc/passwd",
        "ftp://127.0.0.1/x",
        "gopher://x",
        "pipe:cat",
        "data:,x",
        "http://u:p@127.0.0.1/",
    ],
)
def test_redirects_to_other_places_are_refused(root, server, shard, target):
    server.always = Fault(status=302, headers={"Location": target})
    with pytest.raises(AddressRefused, match=r"a redirect to .* is refused"):
        shard_bytes(root, shard)
    assert len(server.requests) == 1


def test_a_redirect_never_leaves_https():
    from expflow.data.stores.redirects import redirect_target

    assert redirect_target("https://a/x", "/y") == "https://a/y"
    with pytest.raises(AddressRefused, match=r"leaves https"):
        redirect_target("https://a/x", "http://a/x")


def test_redirects_within_http_are_followed_some_times(root, server, shard):
    server.fail(
        *[Fault(status=status, headers={"Location": "/train-0.tar?key=SECRET"}) for status in (301, 302, 303, 307, 308)]
    )
    assert shard_bytes(root, shard) == DATA
    server.always = Fault(status=302, headers={"Location": "/train-0.tar"})
    with pytest.raises(AddressRefused, match=r"more than 5 redirects"):
        shard_bytes(root, shard)


def test_no_message_holds_a_secret(root, server, shard):
    server.always = Fault(status=302, headers={"Location": "ftp://x/y?key=SECRET"})
    with pytest.raises(AddressRefused) as refused:
        shard_bytes(root, shard)
    server.always = Fault(sent=0, cut=True)
    with pytest.raises(DataUnreachable) as unreachable:
        shard_bytes(root, shard)
    dead = open_root("http://127.0.0.1:1/?sig=SECRET", retry_policy=RetryPolicy(attempts=1))
    with pytest.raises(DataUnreachable) as nobody:
        dead.read_bytes("manifest.json")
    dead.close()
    for error in (refused, unreachable, nobody):
        assert "SECRET" not in "".join(traceback.format_exception(error.value))
    assert "SECRET" not in root.address + repr(root)


def test_what_a_server_has_and_cannot_do(root, server, shard, tmp_path):
    assert root.exists("train-0.tar")
    assert not root.exists("train-1.tar")
    assert root.download("train-0.tar", tmp_path / "copy") == (shard.bytes, shard.sha256)
    assert (tmp_path / "copy").read_bytes() == DATA
    with pytest.raises(DataUnreachable, match=r"no folders to list"):
        root.list()
    with pytest.raises(StorageUnwritable, match=r"only read"):
        root.write_file("train-0.tar", tmp_path / "copy")


def test_a_root_travels_to_another_process(server, shard):
    root = open_root(server.url)
    shard_bytes(root, shard)
    other = pickle.loads(pickle.dumps(root))
    assert shard_bytes(other, shard) == DATA
    root.close(), other.close()


FAULTS = st.builds(
    Fault,
    status=st.sampled_from([0, 0, 0, 0, 503]),
    sent=st.integers(0, 3000),
    cut=st.booleans(),
    ignore_range=st.booleans(),
    length=st.sampled_from([None, None, None, -1, 17, 5000]),
    shift=st.sampled_from([0, 0, 0, 1]),
    body=st.sampled_from([None, None, None, None, content(2, 3000), content(1, 2000)]),
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(faults=st.lists(FAULTS, max_size=8), tags=st.booleans())
def test_whatever_happens_all_bytes_arrive_once_or_an_error_is_named(server, retry_policy, faults, tags):
    data = content(1, 3000)
    shard, server.tags = server.put("train-0.tar", data), tags
    server.faults.clear()
    server.fail(*faults)
    root, failure = open_root(server.url, retry_policy=retry_policy), ""
    try:
        assert shard_bytes(root, shard) == data
    except (DataUnreachable, ShardCorrupt) as error:
        failure = str(error)
    root.close()
    assert not failure or "train-0.tar" in failure


def test_an_empty_shard(root, server):
    assert shard_bytes(root, server.put("empty.tar", b"")) == b""
