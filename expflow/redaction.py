"""What a secret is, and how it is kept out of whatever is recorded, printed, sent or used as a name.

A secret is recognised in three ways: by its form (a password in an address, a signed query, ``Authorization: Bearer``,
a private key, a token of a known issuer), by the name that it stands under (``password``, ``api_key``), and by its
value, where an environment variable of such a name holds it or it was met before under one (:func:`remember_secrets`).
In its place stands :data:`REDACTED`, which is plain in YAML, in a shell, in an address and in a file's name.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, unquote, urlsplit

REDACTED = "REDACTED"
"""Stands where a secret was."""

SHORTEST_VALUE = 6
"""Characters of the shortest text that is looked for by its value: shorter ones stand in harmless words, too."""

LONGEST_HARMLESS = 16
"""Characters of a query's value that is no signature and no token, whatever its name."""

_WORDS = (
    "[a-z0-9]{0,24}(?:passwd|password|passphrase|sshpass)|[a-z0-9]+_pwd|secret|secret_?key|secret_?access_?key|access_?key|access_?key_?id|account_?key"
    "|storage_?key|signing_?key|encryption_?key|private_?key|master_?key|ssh_?key|api_?key|api_?token|auth_?token|access_?token|refresh_?token"
    "|session_?token|bearer_?token|sas_?token|client_?secret|credentials?|authorization|cookie|connection_?string"
    "|webhook(?:_?url)?"
)
_SECRET_NAME = re.compile(rf"(?:.*[_.])?(?:{_WORDS})s?", re.IGNORECASE)
_TOKEN_NAME = re.compile(r"(?:.*[_.])?tokens?", re.IGNORECASE)
"""Names of secrets and, in networks that read text, of ordinary words: there the value decides."""

_RANDOM = re.compile(r"(?![a-z_]+\Z)[A-Za-z0-9_\-+/=.~:]{8,}")
"""A text that somebody drew: no identifier in lower case, no ``[CLS]``."""

_QUERY_NAME = re.compile(
    rf"(?:.*[-_.])?(?:{_WORDS}|tokens?|sig|signature|pass|key|auth|credential|code|session|policy|jwt|rlkey"
    r"|googleaccessid)|x-(?:amz|goog|ms)-.*",
    re.IGNORECASE,
)
_PLAIN_VALUES = frozenset({"none", "null", "true", "false", "str", "int", "float", "bytes", "any", "yes", "no", "off"})

_PLACES_OF_SECRETS = ("$", "<", "~/")
"""How a text begins that says where a secret is to be found or filled in."""

_ADDRESS = re.compile(r"(?<![A-Za-z0-9+.\-])([A-Za-z][A-Za-z0-9+.\-]{0,30}://)([^\s/?#\"'<>]+)@")
_QUERY = re.compile(r"(?<=[?&;])([A-Za-z0-9_.%\-]+)=([^\s&;#\"'<>)\]}]+)")
_ASSIGNED = re.compile(
    rf"(?<![A-Za-z0-9])((?:[A-Za-z0-9]+[_\-.]){{0,6}}(?:{_WORDS.replace('_?', '[_-]?')}|token)"
    r"[\"']?[ \t]*[:=][ \t]*)"
    r"(?:(?:Bearer|Basic|Token)[ \t]+)?(\"[^\"\n]*\"|'[^'\n]*'|[^\s,;&)\]}\"']+)",
    re.IGNORECASE,
)
_OPTION = re.compile(
    rf"(?<!\S)(--(?:[a-z0-9]+-){{0,4}}(?:{_WORDS.replace('_?', '-?')}|token)[ \t]+[\"']?)([^\s\"']+)", re.IGNORECASE
)
_BEARER = re.compile(r"\b(Bearer[ \t]+)([A-Za-z0-9._~+/=\-]{8,})", re.IGNORECASE)
_ISSUED = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY(?: BLOCK)?-----.*?(?:-----END [A-Z ]*PRIVATE KEY(?: BLOCK)?-----|\Z)"
    r"|\b(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|gl(?:pat|dt|rt|ptt|cbt|ft|soat|oas)-[\w\-]{20,}|glsa_\w{20,}|hf_[A-Za-z0-9]{20,}"
    r"|sk-[\w\-]{20,}|[rs]k_(?:live|test)_\w{10,}|xox[abeprs]-[\w\-]{10,}|A[KS]IA[0-9A-Z]{16}|AIza[\w\-]{35}"
    r"|dapi[0-9a-f]{32}|npm_[A-Za-z0-9]{30,}|pypi-[\w\-]{30,}|hvs\.[\w\-]{20,}|ya29\.[\w\-]{20,}"
    r"|dop_v1_[0-9a-f]{40,}|SG\.[\w\-]{16,}\.[\w\-]{16,}|AGE-SECRET-KEY-1[0-9A-Z]{20,}|eyJ[\w\-]{8,}\.[\w\-]{8,}\.[\w\-]{8,})"
    r"|(?<=hooks\.slack\.com/services/)[\w/]{10,}|(?<=/api/webhooks/)[\w\-/]{10,}",
    re.DOTALL,
)

_SUSPICIOUS = re.compile(
    r"[=:]|bearer|PRIVATE KEY|gh[pousr]_|github_pat_|gl[a-z]{2,4}-|glsa_|hf_|sk-|[rs]k_|xox|A[KS]IA|AIza|dapi|npm_"
    r"|pypi-|hvs\.|ya29|dop_v1|SG\.|AGE-SEC|eyJ|/webhooks/|slack\.com|--\w",
    re.IGNORECASE,
)
"""What stands in every text that has the form of a secret."""

_remembered: set[str] = set()

Record = TypeVar("Record", bound=Any)
"""A dataclass."""


def redacted(text: str) -> str:
    """A text without the secrets that are recognised in it.

    Args:
        text: Any text: a message, a file, an address.
    """
    return _redacted(text, _known_values()) if len(text) >= SHORTEST_VALUE else text


def _redacted(text: str, values: Iterable[str]) -> str:
    if len(text) < SHORTEST_VALUE:
        return text
    for value in values:
        text = text.replace(value, REDACTED)
    return _without_forms(text, [])


def holds_secret(text: str) -> bool:
    """Whether a secret is recognised in a text.

    Args:
        text: Any text.
    """
    return redacted(text) != text


def lines_with_secrets(text: str, *, code: bool = False) -> list[int]:
    """The numbers of the lines in which a secret is recognised, from 1.

    Args:
        text: The text of a file.
        code: Whether it is a program: in one, names and addresses of secrets are seldom followed by one, so that a
            secret is recognised by its value and by its issuer's form alone.
    """
    values = _known_values()

    def is_secret(line: str) -> bool:
        if _ISSUED.search(line) or any(value in line for value in values):
            return True
        return not code and _without_forms(line, []) != line

    return [number for number, line in enumerate(text.splitlines(), start=1) if is_secret(line)]


def is_secret_name(name: str) -> bool:
    """Whether what stands under a name is a secret, whatever it looks like.

    Args:
        name: A key of a mapping, an argument or an environment variable.
    """
    return _SECRET_NAME.fullmatch(_snake_case(name)) is not None


def redacted_tree(tree: Any, name: str = "") -> Any:
    """Plain data without secrets: those in its texts, and whatever stands under the name of a secret.

    Args:
        tree: Mappings, lists and tuples of scalars.
        name: The key that it stands under.
    """
    return _redacted_tree(tree, name, _known_values())


def _redacted_tree(tree: Any, name: str, values: Iterable[str]) -> Any:
    if isinstance(tree, Mapping):
        return {key: _redacted_tree(value, _inner_name(name, key), values) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return type(tree)(_redacted_tree(value, name, values) for value in tree)
    if _is_secret_value(name, tree):
        return REDACTED
    return _redacted(tree, values) if isinstance(tree, str) else tree


def redacted_fields(record: Record) -> Record:
    """A dataclass of plain data, each of its fields without secrets.

    Args:
        record: The dataclass.
    """
    content = {field.name: getattr(record, field.name) for field in fields(record)}
    clean = redacted_tree(content)
    changed = {name: value for name, value in clean.items() if value != content[name]}
    return replace(record, **changed) if changed else record


def remember_secrets(tree: Any, name: str = "") -> None:
    """Recognise the secrets in plain data by their values from now on, in whatever this process records or prints.

    Args:
        tree: Mappings, lists and tuples of scalars.
        name: The key that it stands under.
    """
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            remember_secrets(value, _inner_name(name, key))
    elif isinstance(tree, list | tuple):
        for value in tree:
            remember_secrets(value, name)
    elif _is_secret_value(name, tree):
        _remember(str(tree))
    elif isinstance(tree, str):
        secrets: list[str] = []
        _without_forms(tree, secrets)
        for secret in secrets:
            _remember(secret)


def remember_address(address: str) -> None:
    """Recognise what is secret in the address of data or of a server by its value: user, password, the whole query.

    Args:
        address: A path or an address.
    """
    if "://" in address:
        for secret in _secrets_of_address(address):
            _remember(secret)


def public_address(address: str) -> str:
    """An address as it may be recorded: without user, password, query and fragment; ``…`` stands for a query.

    Args:
        address: A path, which stays as it is, or an address.
    """
    scheme, mark, rest = address.partition("://")
    if not mark:
        return address
    place, query, _ = rest.partition("#")[0].partition("?")
    host, slash, path = place.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}{query and '?…'}"


def restored(recorded: Any, written: Any) -> Any:
    """What was recorded, with the secrets that another source of the same data still has.

    Args:
        recorded: Plain data that :func:`redacted_tree` gave.
        written: The same data as somebody wrote it, perhaps changed since.

    Returns:
        ``recorded`` where the two differ in more than a secret.
    """
    if isinstance(recorded, Mapping) and isinstance(written, Mapping):
        return {key: restored(value, written.get(key)) for key, value in recorded.items()}
    if isinstance(recorded, list) and isinstance(written, list | tuple) and len(recorded) == len(written):
        return [restored(mine, theirs) for mine, theirs in zip(recorded, written, strict=True)]
    if not isinstance(recorded, str) or REDACTED not in recorded or written is None:
        return recorded
    return written if recorded in (REDACTED, redacted(str(written))) else recorded


def redacted_places(tree: Any, path: str = "") -> Iterator[str]:
    """The dotted keys under which a secret was left out.

    Args:
        tree: Plain data.
        path: The key that it stands under.
    """
    if isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from redacted_places(value, f"{path}.{key}" if path else str(key))
    elif isinstance(tree, list | tuple):
        for value in tree:
            yield from redacted_places(value, path)
    elif isinstance(tree, str) and REDACTED in tree:
        yield path


def _snake_case(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).replace("-", "_")


def _inner_name(name: str, key: object) -> str:
    """The name that counts below a key: what stands within ``credentials`` is secret as a whole."""
    return name if name and is_secret_name(name) else str(key)


def _is_secret_value(name: str, value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, str | int) or not str(value):
        return False
    text = str(value)
    if text.lower() in _PLAIN_VALUES or text == REDACTED or not any(map(str.isalnum, text)):
        return False
    if is_secret_name(name):
        return True
    return isinstance(value, str) and _TOKEN_NAME.fullmatch(_snake_case(name)) is not None and _is_random(text)


def _is_random(text: str) -> bool:
    return _RANDOM.fullmatch(text) is not None


def _without_forms(text: str, secrets: list[str]) -> str:
    """``text`` without what has the form of a secret; that is added to ``secrets``."""
    if _SUSPICIOUS.search(text) is None:
        return text

    def leave_out(secret: str) -> str:
        if secret != REDACTED:
            secrets.append(secret)
        return REDACTED

    def address(match: re.Match[str]) -> str:
        secrets.append(match[2].partition(":")[2])
        return f"{match[1]}{leave_out(match[2])}@"

    def query(match: re.Match[str]) -> str:
        secret = _QUERY_NAME.fullmatch(match[1]) or len(match[2]) > LONGEST_HARMLESS
        return f"{match[1]}={leave_out(match[2])}" if secret else match[0]

    def assigned(match: re.Match[str]) -> str:
        mark = match[2][0] if match[2][0] in "\"'" else ""
        value = match[2].strip(mark) if mark else match[2]
        name = re.split(r"[\"' \t:=]", match[1], maxsplit=1)[0]
        if not _is_secret_value(name, value) or value.startswith(_PLACES_OF_SECRETS):
            return match[0]
        return f"{match[1]}{mark}{leave_out(value)}{mark}"

    text = _ISSUED.sub(lambda match: leave_out(match[0]), text)
    if "--" in text:
        text = _OPTION.sub(lambda match: f"{match[1]}{leave_out(match[2])}" if _is_random(match[2]) else match[0], text)
    text = _ADDRESS.sub(address, text) if "://" in text else text
    text = _QUERY.sub(query, text) if "=" in text else text
    text = _BEARER.sub(lambda match: f"{match[1]}{leave_out(match[2])}", text)
    return _ASSIGNED.sub(assigned, text) if ":" in text or "=" in text else text


def _secrets_of_address(address: str) -> Iterator[str]:
    try:
        parts = urlsplit(address)
    except ValueError:
        return
    user = parts.netloc.rpartition("@")[0]
    yield from (user, user.partition(":")[2], parts.query)
    for item in re.split("[&;]", parts.query):
        name, _, value = item.partition("=")
        if _QUERY_NAME.fullmatch(name) or len(value) > LONGEST_HARMLESS:
            yield value


def _remember(secret: str) -> None:
    if _is_looked_for(secret):
        _remembered.update(_spellings(secret))


def _is_looked_for(secret: str) -> bool:
    """Whether a secret is looked for by its value: an ordinary word is not, since it stands elsewhere, too."""
    return len(secret) >= SHORTEST_VALUE and REDACTED not in secret and not re.fullmatch(r"[a-z]{1,15}", secret)


def _spellings(secret: str) -> Iterator[str]:
    """A secret as it stands in texts and in addresses, encoded or not."""
    yield from {secret, quote(secret, safe=""), unquote(secret)}


def _known_values() -> list[str]:
    """The secrets that are looked for by their values, long ones first."""
    return sorted(_values_in(tuple(os.environb.items())) | _remembered, key=len, reverse=True)


@functools.lru_cache(maxsize=4)
def _values_in(environment: tuple[tuple[bytes, bytes], ...]) -> frozenset[str]:
    """The secrets that environment variables hold: by the variable's name, and in addresses and headers."""
    secrets: set[str] = set()
    for raw_name, raw_value in environment:
        name, value = os.fsdecode(raw_name), os.fsdecode(raw_value)
        if is_secret_name(name) or _TOKEN_NAME.fullmatch(name):
            if not _is_path(value):
                secrets.add(value)
        elif "://" in value:
            secrets.update(_secrets_of_address(value))
        if "HEADER" in name.upper():
            in_headers: list[str] = []
            _without_forms(value, in_headers)
            secrets.update(in_headers)
    return frozenset(text for secret in secrets if _is_looked_for(secret) for text in _spellings(secret))


def _is_path(value: str) -> bool:
    """Whether a variable names the file of a secret and not the secret."""
    if not value.startswith(("/", "~/", "./", "../")):
        return False
    try:
        return Path(value).expanduser().exists()
    except (OSError, RuntimeError, ValueError):  # too long for a path, or no home
        return False
