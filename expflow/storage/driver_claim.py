"""The lock of results in a store: a row of epochs, each an object that only one driver can make.

``lock/000003.json`` names the driver of epoch 3 (host, process id, start time). Whoever works next makes the object of
the next epoch, which the store refuses to a second one; and has it only if no later epoch is there afterwards. A driver
that is provably dead, on this machine, is replaced at once; of another machine's, when the object was not renewed for
the lease, by the store's own clock. A store that makes objects over existing ones gets candidates instead: each
writes one of its own, waits, and the first by name of those that are there has the epoch.

Nothing a replaced driver writes afterwards counts, since manifests are named by epoch as well.
"""

from __future__ import annotations

import contextlib
import json
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict
from pathlib import PurePosixPath
from typing import Any

from expflow.errors import LedgerLocked, StaleDriver
from expflow.ledger.process_identity import ProcessIdentity
from expflow.storage.blob_store import ONE_WRITER, BlobStore

LOCKS = "lock"
LEASE_SECONDS = 120.0
"""How long a driver on another machine may leave its object unrenewed before it is replaced."""
RENEW_SECONDS = 20.0
SETTLE_SECONDS = 5.0
"""How long candidates wait for each other in a store that cannot refuse."""
TRIES = 20


class DriverClaim:
    """The lock of one experiment in a store, held since :meth:`take`.

    Args:
        store: The store.
        prefix: Key of the experiment's folder there.
        epoch: The epoch that was taken.
        key: The object that says so.
        holder: What it says.
    """

    def __init__(self, store: BlobStore, prefix: str, epoch: int, key: str, holder: dict[str, Any]) -> None:
        self._store, self._prefix, self.epoch, self._key, self._holder = store, prefix, epoch, key, holder
        self._renewed = time.monotonic()

    @classmethod
    def take(
        cls, store: BlobStore, prefix: str, *, at_least: int = 1, sleep: Callable[[float], None] = time.sleep
    ) -> DriverClaim:
        """Become the driver of an experiment.

        Args:
            store: The store.
            prefix: Key of the experiment's folder there.
            at_least: The smallest epoch to take.
            sleep: Waits for so many seconds.

        Raises:
            LedgerLocked: Its driver lives or may live; the message names it.
            StorageUnreachable: The store does not answer.
        """
        for _ in range(TRIES):
            newest = _newest(store, prefix)
            if newest is not None and (refusal := _refusal(store, prefix, *newest)):
                raise LedgerLocked(refusal)
            epoch = max(at_least, (newest[0] if newest else 0) + 1)
            claim = cls._make(store, prefix, epoch, sleep)
            if claim is not None:
                claim._remove_earlier()
                return claim
        raise LedgerLocked(f"{store.url(prefix)}: several drivers begin at once; try again")

    @classmethod
    def _make(cls, store: BlobStore, prefix: str, epoch: int, sleep: Callable[[float], None]) -> DriverClaim | None:
        now, nonce = time.time(), uuid.uuid4().hex
        owner = asdict(ProcessIdentity.current())
        holder = {"epoch": epoch, "owner": owner, "since": now, "renewed": now, "nonce": nonce}
        content = json.dumps(holder).encode()
        refuses = store.scheme in ONE_WRITER and _refuses(store, prefix, nonce)
        key = f"{prefix}/{LOCKS}/{epoch:06d}" + (".json" if refuses else f"-{nonce}.json")
        if not store.create(key, content):
            return None
        claim = cls(store, prefix, epoch, key, holder)
        if not refuses:
            sleep(SETTLE_SECONDS)
        keys = sorted(_keys(store, prefix), key=lambda other: (-_epoch(other), other))
        if not keys or keys[0] != key:
            store.delete([key])
            return None
        return claim

    def check(self) -> None:
        """Check that no later driver has come.

        Raises:
            StaleDriver: One has.
        """
        newest = _newest(self._store, self._prefix)
        if newest is not None and newest[0] > self.epoch:
            raise StaleDriver(
                f"the driver of epoch {self.epoch} no longer owns {self._store.url(self._prefix)}: {_name(newest[1])} "
                f"has it (epoch {newest[0]}). Nothing more is written by the old one"
            )

    def is_newest(self) -> bool:
        """Whether no later driver has come."""
        return all(_epoch(key) <= self.epoch for key in _keys(self._store, self._prefix))

    def renew(self) -> None:
        """Renew the lease where it is time to.

        Raises:
            StaleDriver: A later driver has come.
        """
        if time.monotonic() - self._renewed >= RENEW_SECONDS:
            self.check()
            self._holder = {**self._holder, "renewed": time.time()}
            self._store.put(self._key, json.dumps(self._holder).encode())
            self._renewed = time.monotonic()

    def give_back(self) -> None:
        """Free the lock for the next driver; the epoch stays taken."""
        self._store.put(self._key, json.dumps({**self._holder, "owner": None, "renewed": time.time()}).encode())

    def _remove_earlier(self) -> None:
        self._store.delete([key for key in _keys(self._store, self._prefix) if _epoch(key) < self.epoch])


def read_claim(store: BlobStore, prefix: str) -> dict[str, Any] | None:
    """What the newest lock says: ``epoch``, ``owner`` (None: free), ``since``, ``renewed``; None without one.

    Args:
        store: The store.
        prefix: Key of the experiment's folder there.
    """
    newest = _newest(store, prefix)
    return newest[1] if newest else None


def is_abandoned(store: BlobStore, prefix: str) -> bool:
    """Whether the newest lock was never given back by a driver that is gone: it may have left something behind.

    Args:
        store: The store.
        prefix: Key of the experiment's folder there.
    """
    newest = _newest(store, prefix)
    if newest is None or (newest[1] and _owner(newest[1]) is None):
        return False
    return not _refusal(store, prefix, *newest)


def _keys(store: BlobStore, prefix: str) -> list[str]:
    keys = store.objects(f"{prefix}/{LOCKS}")
    return [key for key in keys if key.endswith(".json") and PurePosixPath(key).name[:6].isdigit()]


def _epoch(key: str) -> int:
    return int(PurePosixPath(key).stem.partition("-")[0])


def _newest(store: BlobStore, prefix: str) -> tuple[int, dict[str, Any], str] | None:
    """Epoch, content and key of the newest lock."""
    for _ in range(TRIES):
        keys = sorted(_keys(store, prefix), key=lambda key: (-_epoch(key), key))
        if not keys:
            return None
        content = store.get(keys[0])
        if content is not None:
            holder: dict[str, Any] = {}
            with contextlib.suppress(ValueError):  # its maker died between making and filling it
                loaded = json.loads(content)
                holder = loaded if isinstance(loaded, dict) else {}
            return _epoch(keys[0]), holder, keys[0]
    raise LedgerLocked(f"{store.url(prefix)}: its locks are replaced while they are read; try again")


def _refuses(store: BlobStore, prefix: str, nonce: str) -> bool:
    """Whether the store refuses to make an object where there is one. Servers of S3's kind differ in it."""
    key = f"{prefix}/{LOCKS}/probe-{nonce}"
    try:
        store.create(key, b"1")
        return not store.create(key, b"2")
    finally:
        store.delete([key])


def _refusal(store: BlobStore, prefix: str, epoch: int, holder: dict[str, Any], key: str) -> str:
    """Why the lock must not be taken over; empty where it may."""
    owner = _owner(holder)
    if holder and owner is None:
        return ""
    dead = owner.is_dead() if owner is not None else None
    age = _age(store, prefix, key) if dead is None else 0.0
    if dead or age > LEASE_SECONDS:
        return ""
    text = f"another driver works on {store.url(prefix)}: {_name(holder)} (epoch {epoch}). Wait until it is done, or "
    text += "stop it there"
    if dead is None:
        text += f"; if it died, this command works in {max(1.0, LEASE_SECONDS - age):.0f} s"
    return text


def _owner(holder: dict[str, Any]) -> ProcessIdentity | None:
    try:
        return ProcessIdentity.from_json(holder["owner"]) if holder.get("owner") else None
    except (KeyError, TypeError):
        return None


def _name(holder: dict[str, Any]) -> str:
    owner = _owner(holder)
    return f"process {owner.pid} on {owner.host}" if owner else "a driver that does not give its name"


def _age(store: BlobStore, prefix: str, key: str) -> float:
    """Seconds since a lock was written, by the store's own clock: hosts' clocks may differ by minutes."""
    now = f"{prefix}/{LOCKS}/clock-{uuid.uuid4().hex}"
    store.put(now, b"")
    try:
        written = store.objects(f"{prefix}/{LOCKS}")
    finally:
        store.delete([now])
    if key not in written:
        return 0.0
    return written[now].modified - written[key].modified if now in written else 0.0
