"""What counts as a secret: by its form, by the name that it stands under, and by its value; and what does not."""

import pytest

from expflow.errors import UserError
from expflow.files import redact_file
from expflow.redaction import (
    REDACTED,
    holds_secret,
    lines_with_secrets,
    public_address,
    redacted,
    redacted_places,
    redacted_tree,
    remember_address,
    remember_secrets,
    restored,
)

# In pieces, as the tokens below: this file is sent with the project, and no secret may stand in what is sent.
KEY = "-----BEGIN OPENSSH " + "PRIVATE KEY-----\nb3BlbnNzaC1rZXk\n-----END OPENSSH " + "PRIVATE KEY-----"


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("http://me:s3cr3t@host/x", "http://REDACTED@host/x"),
        ("http://TOKEN99@host:5000", "http://REDACTED@host:5000"),
        ("postgresql://u:p%40ss@db/mlflow", "postgresql://REDACTED@db/mlflow"),
        ("GET https://h/a?page=2&sig=abc failed", "GET https://h/a?page=2&sig=REDACTED failed"),
        ("https://h/a?X-Amz-Signature=ab&X-Amz-Date=1", "https://h/a?X-Amz-Signature=REDACTED&X-Amz-Date=REDACTED"),
        ("https://h/a?q=0123456789abcdefg", "https://h/a?q=REDACTED"),
        ("url: /api?token=zz (Caused by", "url: /api?token=REDACTED (Caused by"),
        ("Authorization: Bearer abc.def-ghi", "Authorization: Bearer REDACTED"),
        ("{'Authorization': 'Basic dXNlcjpwdw=='}", "{'Authorization': 'REDACTED'}"),
        ('{"X-Api-Key": "k1"}', '{"X-Api-Key": "REDACTED"}'),
        ("password='hunter2', epochs=3", "password='REDACTED', epochs=3"),
        ("model: {api_key: hunter2, depth: 3}", "model: {api_key: REDACTED, depth: 3}"),
        ("--set model.password=hunter2", "--set model.password=REDACTED"),
        ("export AWS_SECRET_ACCESS_KEY=abc/def+g", "export AWS_SECRET_ACCESS_KEY=REDACTED"),
        ("token: yaml-TOKEN-1", "token: REDACTED"),
        (f"key {'ghp_' + 'a1' * 12} end", "key REDACTED end"),
        (f"read {KEY} here", "read REDACTED here"),
        (f"read {KEY.replace('OPENSSH PRIVATE KEY', 'PGP PRIVATE KEY BLOCK')} here", "read REDACTED here"),
        ("PGPASSWORD=hunter2 psql -h db", "PGPASSWORD=REDACTED psql -h db"),
        ("export MYSQL_PWD=hunter2", "export MYSQL_PWD=REDACTED"),
        ("dbPassword: hunter2", "dbPassword: REDACTED"),
        ("AccountName=a;AccountKey=Zm9vYmFy==;x", "AccountName=a;AccountKey=REDACTED;x"),
        ("AZURE_STORAGE_KEY=abc", "AZURE_STORAGE_KEY=REDACTED"),
        ("mysql --password Tr0ub4dor3 db", "mysql --password REDACTED db"),
        ("databricks --api-token 'dapX0123456'", "databricks --api-token 'REDACTED'"),
        ("to https://hooks.slack.com/services" + "/T00/B00/abcdef0", "to https://hooks.slack.com/services/REDACTED"),
        ("https://discord.com/api/webhooks" + "/123456/ab-cdefg", "https://discord.com/api/webhooks/REDACTED"),
        *(
            (f"with {token} it", "with REDACTED it")
            for token in (
                "dapi" + "0a" * 16,
                "sk_live_" + "a1" * 12,
                "npm_" + "a1" * 18,
                "pypi-" + "Ag" * 20,
                "glsa_" + "a1" * 12,
                "glrt-" + "a1" * 12,
                "hvs." + "a1" * 12,
                "ya29." + "a1" * 12,
                "ASIA" + "A1" * 8,
                "dop_v1_" + "a1" * 20,
                "SG." + "a1" * 10 + "." + "b2" * 10,
                "AGE-SECRET-KEY-1" + "Q2" * 12,
            )
        ),
    ],
)
def test_forms_of_secrets(text, clean):
    assert redacted(text) == clean
    assert redacted(clean) == clean
    assert holds_secret(text)


@pytest.mark.parametrize(
    "text",
    [
        "see https://openreview.net/forum?id=abc123xyz and https://example.org/a?page=2",
        "the Ray head wants a token: put it into RAY_AUTH_TOKEN",
        "class_token: learned_pos",
        "token: '[PAD]'",
        "def login(password: str) -> None:",
        "git@github.com:me/project",
        "s3://bucket/path@2x.tar",
        "basic training of bearer nets",
        "tokens: 196",
        "secret: null",
        "tokenizer=whitespace",
        "api_key=$API_KEY",
        "auth_token: ~/.ray/auth_token",
        '{"credentials": [{"accessKey": "<NAME>"}]}',
        "--password is missing",
        "--token whitespace",
        "global-average-pooling-in-the-last-layer",
        "glu-activations-everywhere",
        "PWD=/home/me/project and OLDPWD=/tmp",
        "a passwordless login",
    ],
)
def test_what_is_no_secret(text):
    assert redacted(text) == text


def test_names_of_secrets_in_plain_data():
    tree = {
        "model": {"name": "my:Net", "apiKey": "k", "token": "[PAD]", "auth_token": "short", "width": 8},
        "headers": {"Authorization": "Basic x", "X-Api-Key": "q", "Accept": "json"},
        "credentials": {"user": "me", "parts": ["a", 7]},
        "data": {"path": "https://h/x?sig=1", "password": 1234, "limit": 3},
        "seeds": (0, 1),
    }
    assert redacted_tree(tree) == {
        "model": {"name": "my:Net", "apiKey": REDACTED, "token": "[PAD]", "auth_token": REDACTED, "width": 8},
        "headers": {"Authorization": REDACTED, "X-Api-Key": REDACTED, "Accept": "json"},
        "credentials": {"user": REDACTED, "parts": [REDACTED, REDACTED]},
        "data": {"path": "https://h/x?sig=REDACTED", "password": REDACTED, "limit": 3},
        "seeds": (0, 1),
    }
    assert sorted(redacted_places(redacted_tree(tree)))[:2] == ["credentials.parts", "credentials.parts"]


@pytest.mark.parametrize(
    ("name", "value", "secrets"),
    [
        ("MY_SECRET", "env-s3cret", ["env-s3cret"]),
        ("HF_TOKEN", "abc/def 9", ["abc/def 9", "abc%2Fdef%209"]),
        ("WANDB_API_KEY", "0123abcd", ["0123abcd"]),
        ("PGPASSWORD", "Pg-pass9", ["Pg-pass9"]),
        ("MYSQL_PWD", "My-pass9", ["My-pass9"]),
        ("SSHPASS", "Ssh-pass9", ["Ssh-pass9"]),
        ("AZURE_STORAGE_CONNECTION_STRING", "Conn-str-9", ["Conn-str-9"]),
        (
            "SLACK_WEBHOOK_URL",
            "https://hooks.slack.com/services/T1/B2/c3",
            ["https://hooks.slack.com/services/T1/B2/c3"],
        ),
        ("MLFLOW_TRACKING_URI", "http://me:pw12345@h", ["pw12345"]),
        ("EXPFLOW_DATA_SHARDS", "https://h/x?k=short1", ["k=short1"]),
        ("RAY_JOB_HEADERS", '{"Authorization": "Bearer header-9"}', ["header-9"]),
    ],
)
def test_the_environments_secrets_are_recognised_by_their_values(monkeypatch, name, value, secrets):
    for secret in secrets:
        assert redacted(f"it failed with <{secret}>") == f"it failed with <{secret}>"
    monkeypatch.setenv(name, value)
    for secret in secrets:
        assert redacted(f"it failed with <{secret}>") == "it failed with <REDACTED>"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DB_PASSWORD", "training"),  # an ordinary word, which stands everywhere
        ("API_TOKEN", "abc"),
        ("TOKENIZERS_PARALLELISM", "false-1"),
        ("RAY_AUTH_TOKEN_PATH", "/etc/hostname"),
        ("SERVICE_CREDENTIALS", "/etc/hostname"),  # names a file
    ],
)
def test_what_is_not_looked_for_by_its_value(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    assert redacted(f"a text with {value} in it") == f"a text with {value} in it"


def test_what_was_met_under_the_name_of_a_secret_is_recognised_alone():
    remember_secrets({"model": {"password": "Tr0ub4dor", "layers": [8, 8]}})
    remember_address("https://me:pa55word@h/x?k=short1")
    assert redacted("login with Tr0ub4dor, pa55word or k=short1") == "login with REDACTED, REDACTED or REDACTED"


def test_every_error_of_ours_is_without_secrets():
    assert str(UserError("no answer from https://me:s3cr3t@h/x")) == "no answer from https://REDACTED@h/x"


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("https://me:pw@h:8080/a b/c?sig=1#x", "https://h:8080/a b/c?…"),
        ("http://TOKEN@h", "http://h"),
        ("sqlite:////runs/mlflow.db", "sqlite:////runs/mlflow.db"),
        ("s3://bucket/folder", "s3://bucket/folder"),
        ("http://[::1", "http://[::1"),
        ("/data/what?", "/data/what?"),
    ],
)
def test_public_addresses(address, public):
    assert public_address(address) == public


def test_a_secret_comes_back_from_the_file_where_nothing_else_changed():
    written = {"data": {"path": "https://h/x?sig=new"}, "model": {"api_key": "k", "width": 9}, "seeds": (0, 1)}
    recorded = redacted_tree({"data": {"path": "https://h/x?sig=old"}, "model": {"api_key": "j", "width": 8}})
    assert restored(recorded, written) == {
        "data": {"path": "https://h/x?sig=new"},
        "model": {"api_key": "k", "width": 8},
    }
    other = {"data": {"path": "https://elsewhere/x?sig=new"}}
    assert restored(recorded, other)["data"]["path"] == "https://h/x?sig=REDACTED"


def test_lines_with_secrets(monkeypatch):
    monkeypatch.setenv("MY_SECRET", "env-s3cret")
    text = 'import os\npassword = ask()\nx = "env-s3cret"\nurl = "http://me:pw@h"\n'
    assert lines_with_secrets(text, code=True) == [3]
    assert lines_with_secrets("a: 1\ndata: {path: 'https://h/x?sig=1'}\n") == [2]


def test_long_texts_take_a_time_in_proportion():
    for text in ("a" * 200_000, "ab-" * 70_000, "a.b_" * 50_000, "token=" * 30_000, "://" * 60_000, "?a=" * 60_000):
        redacted(text)  # a search that goes back again and again would not end within the test's time


def test_a_log_is_written_anew_where_a_secret_was_printed_into_it(tmp_path, monkeypatch):
    monkeypatch.setenv("MY_SECRET", "env-s3cret")
    log = tmp_path / "log.txt"
    log.write_bytes(b"connecting\xff with env-s3cret\n")
    redact_file(log)
    assert log.read_bytes() == b"connecting\xff with REDACTED\n"
    before = log.stat().st_ino
    redact_file(log)
    assert log.stat().st_ino == before
