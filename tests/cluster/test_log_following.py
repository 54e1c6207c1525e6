"""Following a job over a connection that breaks: every character once, and the job's own end."""

import asyncio

import pytest

from expflow.cluster import log_following
from expflow.cluster.launcher import ClusterJob, looks_like_job
from expflow.errors import AddressUnknown, ServerUnreachable
from tests.cluster.fakes import FakeClient

JOB = "expflow-x-0badcafe"


@pytest.fixture
def client(monkeypatch):
    client = FakeClient(expflow_x_0badcafe="RUNNING")
    monkeypatch.setattr(log_following, "connect", lambda address: client)
    waited = asyncio.sleep
    monkeypatch.setattr(log_following.asyncio, "sleep", lambda seconds: waited(0))
    return client


def follow():
    text = []
    over = log_following.follow(JOB, text.append, "http://fake:8265")
    return "".join(text), over


def end(client, status="SUCCEEDED", code=0):
    client.jobs[JOB].status = status
    client.jobs[JOB].driver_exit_code = code


def raising(error):
    def raise_it():
        raise error

    return raise_it


def test_to_its_end(client):
    client.log = "one\ntwo\n"
    client.streams = [(["one\n", "two\n"], lambda: end(client))]
    text, over = follow()
    assert (text, over.status, over.exit_code) == ("one\ntwo\n", "SUCCEEDED", 0)


@pytest.mark.parametrize(
    "break_it", [raising(RuntimeError("WebSocket closed")), raising(ConnectionResetError()), lambda: None]
)
def test_a_broken_stream_is_opened_again_and_nothing_is_said_twice(client, break_it):
    client.log = "one\ntwo\nthree\n"
    client.streams = [
        (["one\nt"], break_it),
        (["one\n", "two\n", "three\n"], lambda: end(client, "FAILED", 1)),
    ]
    text, over = follow()
    assert text == client.log
    assert client.connections == 2
    assert over.exit_code == 1


def test_what_the_stream_did_not_bring_is_read_at_the_end(client):
    client.log = "one\ntwo\n"
    client.streams = [(["one\n"], lambda: end(client))]
    assert follow()[0] == "one\ntwo\n"


def test_a_silent_stream_does_not_hide_the_end(client, monkeypatch):
    monkeypatch.setattr(log_following, "QUIET_SECONDS", 0.01)
    client.log = "one\n"
    end(client)
    client.streams = [(["one\n"], asyncio.Event().wait)]
    assert follow()[0] == "one\n"


def test_a_dead_connection_is_opened_again(client, monkeypatch):
    monkeypatch.setattr(log_following, "QUIET_SECONDS", 0.001)
    client.log = "one\ntwo\n"
    client.streams = [(["one\n"], asyncio.Event().wait), (["one\n", "two\n"], lambda: end(client))]
    assert follow()[0] == "one\ntwo\n"
    assert client.connections == 2


def test_a_head_that_stays_away_is_given_up_and_the_job_is_not(client):
    client.streams = [([], raising(ConnectionResetError("gone"))) for _ in range(100)]
    with pytest.raises(ServerUnreachable, match=f"the job {JOB} goes on without us"):
        follow()


def test_a_job_that_vanished(client):
    client.streams = [(["one\n"], client.jobs.clear)]
    with pytest.raises(AddressUnknown, match="is gone"):
        follow()


def test_the_log_of_a_job_that_vanished_meanwhile_is_not_asked_for(client):
    """Ray would write the token of who asks into its own log."""

    def restart():
        client.jobs.clear()
        raise ConnectionResetError("the head is started anew")

    client.streams = [(["one\n"], restart)]
    with pytest.raises(AddressUnknown, match="is gone"):
        follow()
    assert client.connections == 1


@pytest.mark.parametrize(
    ("status", "code", "exit_code"),
    [("SUCCEEDED", 0, 0), ("FAILED", 2, 2), ("FAILED", -9, 137), ("STOPPED", None, 143), ("FAILED", None, 3)],
)
def test_exit_codes(status, code, exit_code):
    assert ClusterJob("x", status, driver_exit_code=code).exit_code == exit_code


@pytest.mark.parametrize(
    ("text", "is_job"),
    [(JOB, True), (f"{JOB}-2", True), ("raysubmit_4LamXRuQpYdSMg7J", True), ("resnet_depth/3fa9", False), ("x", False)],
)
def test_the_form_of_a_jobs_name(text, is_job):
    assert looks_like_job(text) is is_job
