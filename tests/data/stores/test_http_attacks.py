"""Servers that hold a fetch for ever, or send it to hosts that only this machine can reach, get a named error."""

import socket
import threading

import pytest

from expflow.data.stores import open_root, remote
from expflow.data.stores.redirects import redirect_target
from expflow.errors import AddressRefused, DataUnreachable
from tests.data.stores.servers import Fault, content

HEADERS = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n"


@pytest.fixture
def dripping():
    """A server that sends some bytes at once, and then one every 50 ms for as long as anybody listens."""
    ended, servers, threads = threading.Event(), [], []

    def serve(at_once, drops):
        def answer(client):
            with client:
                client.recv(65536)
                try:
                    client.sendall(at_once)
                    while not ended.wait(0.05):
                        client.sendall(drops)
                except OSError:
                    pass

        def accept():
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                threads.append(threading.Thread(target=answer, args=(client,)))
                threads[-1].start()

        server = socket.create_server(("127.0.0.1", 0))
        servers.append(server)
        threads.append(threading.Thread(target=accept))
        threads[-1].start()
        return f"http://127.0.0.1:{server.getsockname()[1]}"

    yield serve
    ended.set()
    for server in servers:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
    for thread in threads:
        thread.join()


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("at_once", "drops"),
    [
        (HEADERS + b"X: ", b"x"),
        (b"", b"H"),
        (HEADERS, b"A: b\r\n"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;", b"x"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nA: ", b"x"),
    ],
    ids=["a header", "the status", "headers", "continue", "the size of a chunk", "a trailer"],
)
def test_a_server_that_drips_is_given_up(dripping, retry_policy, at_once, drops):
    root = open_root(dripping(at_once, drops), retry_policy=retry_policy)
    try:
        with pytest.raises(DataUnreachable, match=r"given up after \d attempts"):
            root.read_bytes("manifest.json")
    finally:
        root.close()


@pytest.mark.parametrize(
    "target",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://[fe80::1]/",
        "http://[::ffff:169.254.169.254]/",
        "http://2852039166/",
        "http://0xa9fea9fe/",
        "http://[64:ff9b::a9fe:a9fe]/",
    ],
)
@pytest.mark.parametrize("asked", ["http://127.0.0.1/x", "http://10.0.0.1/x", "http://192.0.2.1/x", "http://8.8.8.8/x"])
def test_no_redirect_leads_to_a_link_local_address(asked, target):
    with pytest.raises(AddressRefused, match="it leads to a link-local address"):
        redirect_target(asked, target)


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        ("http://10.1.2.3/x", "a private network"),
        ("http://192.168.0.1/x", "a private network"),
        ("http://100.64.0.1/x", "a private network"),
        ("http://[fd00::1]/x", "a private network"),
        ("http://127.0.0.1:8080/x", "this machine"),
        ("http://localhost/x", "this machine"),
        ("http://0.0.0.0/x", "this machine"),
        ("http://127.1/x", "this machine"),
        ("http://[::1]/x", "this machine"),
    ],
)
def test_a_public_host_sends_nobody_to_nearer_ones(target, kind):
    with pytest.raises(AddressRefused, match=f"it leads to {kind}"):
        redirect_target("http://8.8.8.8/x", target)


@pytest.mark.parametrize(
    ("asked", "target"),
    [
        ("http://8.8.8.8/x", "https://1.1.1.1/y"),
        ("http://10.0.0.1/x", "http://10.0.0.2/y"),
        ("http://10.0.0.1/x", "http://8.8.8.8/y"),
        ("http://127.0.0.1:1/x", "http://127.0.0.1:2/y"),
        ("http://127.0.0.1:1/x", "http://10.0.0.1/y"),
    ],
)
def test_redirects_to_hosts_as_far_away_are_followed(asked, target):
    assert redirect_target(asked, target) == target


@pytest.mark.parametrize("target", ["http://[::1/x", "http://a:99999999/x", "http://[not]/"])
def test_a_redirect_to_no_address_is_refused(target):
    with pytest.raises(AddressRefused, match="it is no address"):
        redirect_target("http://8.8.8.8/x", target)


def test_a_redirect_is_refused_before_anything_is_asked_there(server, retry_policy):
    server.always = Fault(status=302, headers={"Location": "http://169.254.169.254/"})
    with pytest.raises(AddressRefused, match="link-local"):
        open_root(server.url, retry_policy=retry_policy).read_bytes("manifest.json")


@pytest.mark.timeout(60)
@pytest.mark.parametrize("location", [b"/elsewhere", b"\xff\xff\xb2"])
def test_the_body_of_a_redirect_is_not_read(dripping, retry_policy, location):
    answer = b"HTTP/1.1 302 Found\r\nLocation: %s\r\n\r\n" % location
    root = open_root(dripping(answer, b"x" * 100), retry_policy=retry_policy)
    try:
        with pytest.raises(AddressRefused, match="more than 5 redirects"):
            root.read_bytes("manifest.json")
    finally:
        root.close()


def test_a_superscript_is_no_number(server, retry_policy):
    server.put("manifest.json", b"{}")
    root = open_root(server.url, retry_policy=retry_policy)
    server.always = Fault(length=-1, headers={"Content-Length": "\xb2"}, body=b"{}")
    assert root.read_bytes("manifest.json") == b"{}"
    server.always = Fault(status=503, headers={"Retry-After": "\xb2"})
    with pytest.raises(DataUnreachable, match="given up after 4 attempts"):
        root.read_bytes("manifest.json")


@pytest.mark.parametrize("number", ["9" * 5000, "9" * 30])
def test_a_length_of_too_many_digits_is_not_believed(server, retry_policy, number):
    server.put("manifest.json", b"{}")
    server.always = Fault(status=206, body=b"{}", headers={"Content-Range": f"bytes 0-1/{number}"})
    with pytest.raises(Exception, match="does not say which"):
        open_root(server.url, retry_policy=retry_policy).read_bytes("manifest.json")


def test_a_small_file_without_end_is_given_up(server, retry_policy, monkeypatch):
    monkeypatch.setattr(remote, "LARGEST_SMALL_FILE", 100_000)
    server.put("manifest.json", content(1))
    with pytest.raises(DataUnreachable, match="more than 100000 bytes came"):
        open_root(server.url, retry_policy=retry_policy).read_bytes("manifest.json")
