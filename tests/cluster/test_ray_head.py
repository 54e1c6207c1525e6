"""Reaching a Ray head: the token's places, and what is said when it does not answer as one."""

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from expflow.cluster import ray_head
from expflow.errors import ServerUnreachable, UserError
from expflow.redaction import redacted


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def serve():
    """Start a server that answers every request with ``reply(headers) -> (code, body)``; returns its address."""
    servers = []

    def start(reply):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                code, body, *location = reply(self.headers)
                self.send_response(code)
                for target in location:
                    self.send_header("Location", target)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments):
                pass

        server = HTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        servers.append((server, thread))
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server, thread in servers:
        server.shutdown()
        server.server_close()
        thread.join()


def guarded(headers):
    """A head with token authentication whose token is `right`."""
    sent = headers.get("Authorization", "")
    if not sent:
        return 401, b"Unauthorized"
    return (200, json.dumps({"ray_version": "2.60.0"}).encode()) if sent == "Bearer right" else (403, b"Forbidden")


def redirecting(code, target):
    return lambda headers: (code, b"", f"{target}/api/version")


def test_no_token(home):
    assert ray_head.find_token() is None


def test_the_usual_file(home):
    (home / ".ray").mkdir()
    (home / ".ray" / "auth_token").write_text("filed\n")
    assert ray_head.find_token().value == "filed"


def test_the_variable_wins_over_the_path_and_the_path_over_the_file(home, monkeypatch):
    (home / ".ray").mkdir()
    (home / ".ray" / "auth_token").write_text("filed")
    (home / "other").write_text("pointed\n")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(home / "other"))
    assert ray_head.find_token().value == "pointed"
    monkeypatch.setenv("RAY_AUTH_TOKEN", "direct")
    assert ray_head.find_token().value == "direct"
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    assert ray_head.find_token() is None


def test_a_path_that_leads_nowhere(home, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(home / "gone"))
    with pytest.raises(UserError, match=r"RAY_AUTH_TOKEN_PATH names .*gone"):
        ray_head.find_token()


@pytest.mark.parametrize("value", ["s3cr3t\nof mine", "s3cr3t of mine", "s3cr3tö", "s3cr3t\x00"])
@pytest.mark.parametrize("in_file", [False, True])
def test_a_text_that_can_be_no_token_is_refused_and_not_shown(home, monkeypatch, value, in_file):
    if in_file or "\0" in value:  # no variable of the environment can hold one
        (home / ".ray").mkdir()
        (home / ".ray" / "auth_token").write_text(value)
    else:
        monkeypatch.setenv("RAY_AUTH_TOKEN", value)
    with pytest.raises(UserError, match="no token of Ray") as caught:
        ray_head.head_version("http://127.0.0.1:9", ray_head.find_token())
    assert "s3cr3t" not in str(caught.value)


def test_a_token_does_not_show_itself(monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "secret")
    assert "secret" not in repr(ray_head.find_token())


@pytest.mark.parametrize(
    ("given", "address"),
    [
        (None, "http://127.0.0.1:8265"),
        ("head:8265", "http://head:8265"),
        ("https://head/", "https://head"),
    ],
)
def test_addresses(given, address):
    assert ray_head.resolve_address(given) == address


def test_the_given_address_wins_over_the_variable_and_the_variable_over_the_site(monkeypatch):
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://variable:1")
    assert ray_head.resolve_address("http://given:1", "http://site:1") == "http://given:1"
    assert ray_head.resolve_address(None, "http://site:1") == "http://variable:1"
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS")
    assert ray_head.resolve_address(None, "http://site:1") == "http://site:1"
    assert ray_head.resolve_address(None, "auto") == ray_head.DEFAULT_ADDRESS


@pytest.mark.parametrize("wrong", ["ray://head:10001", "file:///etc/passwd", "http://"])
def test_only_http(wrong):
    with pytest.raises(UserError, match="dashboard"):
        ray_head.resolve_address(wrong)


@pytest.mark.parametrize("more", ["http://me:s3cr3tpass@head:8265", "http://head:8265/?token=s3cr3ttoken", "me@head:1"])
def test_an_address_holds_no_secret(more):
    with pytest.raises(UserError, match="neither user, password nor query") as caught:
        ray_head.resolve_address(more)
    assert "s3cr3t" not in str(caught.value)


def test_the_right_token(serve):
    assert ray_head.head_version(serve(guarded), ray_head.RayToken("right", "here")) == "2.60.0"


def test_no_token_where_one_is_wanted(serve):
    with pytest.raises(ServerUnreachable, match=r"wants a token: put it into RAY_AUTH_TOKEN.*auth_token") as caught:
        ray_head.head_version(serve(guarded), None)
    assert caught.value.exit_code == 3


def test_the_wrong_token(serve):
    with pytest.raises(ServerUnreachable, match="refuses the token from RAY_AUTH_TOKEN") as caught:
        ray_head.head_version(serve(guarded), ray_head.RayToken("wrong", "RAY_AUTH_TOKEN"))
    assert redacted(str(caught.value)) == str(caught.value)  # none of its words looks like a secret


@pytest.mark.parametrize("reply", [(404, b""), (200, b"<html>"), (200, b"[]"), (200, b"{}")])
def test_something_else_answers(serve, reply):
    with pytest.raises(ServerUnreachable, match="is not a Ray head"):
        ray_head.head_version(serve(lambda headers: reply), None)


def test_nothing_listens():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(ServerUnreachable, match=r"nothing listens there\. Start one with .*ray start --head"):
            ray_head.head_version(address, None)


def test_no_answer(serve):
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        with pytest.raises(ServerUnreachable, match="no answer within"):
            ray_head.head_version(f"http://127.0.0.1:{mute.getsockname()[1]}", None, seconds=0.2)


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_the_token_does_not_follow_a_redirect(home, serve, monkeypatch, code):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "right")
    seen = []

    def other(headers):
        seen.append(headers.get("Authorization"))
        return guarded(headers)

    elsewhere = serve(other)
    for where in (serve(redirecting(code, elsewhere)), serve(redirecting(code, ""))):
        with pytest.raises(ServerUnreachable, match="sends us on to"):
            ray_head.head_version(where, ray_head.find_token())
    assert seen == []


def test_ray_s_own_client_follows_none_either(home, serve, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_TOKEN", "right")
    seen = []

    def other(headers):
        seen.append(headers.get("Authorization"))
        return 200, b"[]"

    elsewhere, asked = serve(other), []

    def head(headers):  # the version is asked for first, and once more by Ray's client
        asked.append(headers)
        return guarded(headers) if len(asked) < 3 else redirecting(302, elsewhere)(headers)

    where = serve(head)
    with pytest.raises(ServerUnreachable, match="sends us on to"):
        ray_head.connect(where).list_jobs()
    assert len(asked) >= 3
    assert seen == []
