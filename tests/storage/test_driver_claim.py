"""The lock of results in a store: one driver at a time, whatever is killed."""

import json
import threading
from dataclasses import asdict, replace

import pytest

from expflow.errors import LedgerLocked, StaleDriver
from expflow.ledger.process_identity import ProcessIdentity
from expflow.storage import driver_claim
from expflow.storage.blob_store import BlobStore
from expflow.storage.driver_claim import DriverClaim, read_claim


def take(store: BlobStore, **more) -> DriverClaim:
    return DriverClaim.take(store, "exp", sleep=lambda seconds: None, **more)


def owned_by(store: BlobStore, claim: DriverClaim, **changes) -> None:
    holder = read_claim(store, "exp")
    holder["owner"] = asdict(replace(ProcessIdentity.current(), **changes))
    store.put(claim._key, json.dumps(holder).encode())


def test_a_second_driver_is_refused_and_names_the_first(store):
    first = take(store)
    with pytest.raises(LedgerLocked, match=f"process {ProcessIdentity.current().pid} on .* \\(epoch 1\\)"):
        take(store)
    first.give_back()
    second = take(store)
    assert (first.epoch, second.epoch) == (1, 2)
    with pytest.raises(StaleDriver, match="epoch 2"):
        first.check()
    second.check()
    assert list(store.objects("exp")) == [second._key]


def test_a_dead_driver_of_this_machine_is_replaced_at_once(store):
    owned_by(store, take(store), pid=2**22 + 1, started="0")
    assert take(store).epoch == 2


def test_a_driver_of_another_machine_is_replaced_after_its_lease_by_the_stores_clock(store, monkeypatch):
    owned_by(store, take(store), host="elsewhere", machine="other")
    monkeypatch.setattr(driver_claim.time, "time", lambda: 0.0)  # ten minutes wrong or more
    with pytest.raises(LedgerLocked, match=r"if it died, this command works in 1\d\d s"):
        take(store)
    monkeypatch.setattr(driver_claim, "LEASE_SECONDS", -1.0)
    assert take(store).epoch == 2


def test_a_lock_that_was_never_filled_is_replaced_after_the_lease(store, monkeypatch):
    store.put("exp/lock/000001.json", b"")
    with pytest.raises(LedgerLocked, match="does not give its name"):
        take(store)
    monkeypatch.setattr(driver_claim, "LEASE_SECONDS", -1.0)
    assert take(store).epoch == 2


def test_of_many_at_once_one_has_it(store):
    claims, refused = [], []

    def begin() -> None:
        try:
            claims.append(take(store))
        except LedgerLocked as error:
            refused.append(error)

    threads = [threading.Thread(target=begin) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(claims) == 1
    assert len(refused) == 11


def test_a_store_that_cannot_refuse_gets_candidates(store, monkeypatch):
    monkeypatch.setattr(driver_claim, "ONE_WRITER", frozenset())
    other = "exp/lock/000001-" + "0" * 32 + ".json"

    def meanwhile(seconds: float) -> None:
        if not store.objects("exp/lock/000002"):
            holder = {"epoch": 1, "owner": asdict(ProcessIdentity.current()), "since": 0, "renewed": 0, "nonce": "0"}
            store.put(other, json.dumps(holder).encode())

    with pytest.raises(LedgerLocked):
        DriverClaim.take(store, "exp", sleep=meanwhile)
    assert list(store.objects("exp")) == [other]
    owned_by_dead = {"epoch": 1, "owner": None, "since": 0, "renewed": 0, "nonce": "0"}
    store.put(other, json.dumps(owned_by_dead).encode())
    assert take(store).epoch == 2


def test_the_epoch_is_above_those_of_the_local_ledger(store):
    assert take(store, at_least=7).epoch == 7
