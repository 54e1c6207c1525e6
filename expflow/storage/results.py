"""The results of experiments at an address, as the commands use them: with a local working folder in front.

The working folder lies in the cache. All that reads and writes results works on it, and finds there what the store has.
A folder that the store was last written from is as new or newer and stays; any other is made anew.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from expflow.errors import AddressRefused, LedgerDamaged
from expflow.files import write_atomically
from expflow.ledger.lock import read_holder
from expflow.storage.blob_store import BlobStore
from expflow.storage.driver_claim import read_claim
from expflow.storage.folder_fetch import TRIALS, fetch_folder, manifest_tags, newest_manifest
from expflow.storage.folder_mirror import MANIFESTS, FolderMarker
from expflow.storage.trial_folder import fetch_trial

ADDRESS = ".address"
"""In a working folder: the address that it stands for."""
AT_ONCE = 8
"""How many trials' folders are fetched at once."""


@dataclass(frozen=True)
class StoredResults:
    """All results below an address.

    Attributes:
        store: The store at the address.
        root: The local working folder, which holds one folder for each experiment.
    """

    store: BlobStore = field(compare=False)
    root: Path
    _fetched: set[tuple[str, str, bool]] = field(default_factory=set, compare=False, repr=False)

    @classmethod
    def at(cls, address: str, cache: Path) -> StoredResults:
        """The results below an address.

        Args:
            address: ``s3://bucket/path`` or what else fsspec opens.
            cache: The cache's folder on this machine.

        Raises:
            AddressRefused: It holds a password, or is of a kind that is never opened.
        """
        if known := _BY_ADDRESS.get((address, cache)):
            return known
        store = BlobStore(address)
        if store.scheme == "memory":
            raise AddressRefused(
                f"storage {address}: each process has a memory of its own; name a folder or s3://bucket/path"
            )
        readable = re.sub(r"[^A-Za-z0-9.-]+", "-", store.address)[-60:].strip("-")
        name = f"{readable}-{hashlib.sha256(store.address.encode()).hexdigest()[:8]}"
        root = cache.absolute() / "results" / name
        if not (root / ADDRESS).exists():
            write_atomically(root / ADDRESS, store.address.encode())
        results = _BY_ADDRESS[address, cache] = _BY_ROOT[root] = cls(store, root)
        return results

    @classmethod
    def of(cls, root: Path) -> StoredResults | None:
        """The results that a working folder stands for; None where a folder is no such one.

        Args:
            root: The folder of all results.
        """
        if root not in _BY_ROOT:
            try:
                address = (root / ADDRESS).read_text()
            except OSError:
                return None
            _BY_ROOT[root] = cls(BlobStore(address), root)
        return _BY_ROOT[root]

    @property
    def address(self) -> str:
        """The address."""
        return self.store.address

    def has(self, name: str) -> bool:
        """Whether there are results of a name.

        Args:
            name: The experiment's name.
        """
        return bool(manifest_tags(self.store, name))

    def names(self) -> list[str]:
        """The experiments there."""
        return self.store.folders()

    def fetch(self, name: str) -> None:
        """Bring an experiment's working folder up to the store, without its trials' folders.

        Args:
            name: The experiment's name.

        Raises:
            LedgerDamaged: The store does not hold what it should.
            StorageUnreachable: The store does not answer.
        """
        folder = self.root / name
        with self._locked(name):
            manifest = newest_manifest(self.store, name)
            marker = FolderMarker.of(folder)
            if _works_here(folder):
                return
            if manifest is None:
                self._check_empty(name)
                return
            if marker is None or (manifest.writer != marker.writer and marker.base != manifest.version):
                fetch_folder(self.store, name, folder)
            self._show_driver(name, folder)

    def _check_empty(self, name: str) -> None:
        """Refuse results without a manifest: a sweep of that name would begin anew, over what is left of them."""
        if self.store.objects(f"{name}/{TRIALS}"):
            raise LedgerDamaged(
                f"{self.store.url(name)}: trials lie there, and the manifest that says what they belong to is gone. "
                f"Put back what was removed from {self.store.url(f'{name}/{MANIFESTS}')}, or remove the rest as well"
            )

    def fetch_all(self) -> None:
        """Bring the working folders of all experiments there up to the store."""
        for name in self.names():
            self.fetch(name)

    def fetch_trial(self, name: str, trial_folder: str, *, checkpoints: bool = True, again: bool = False) -> None:
        """Bring one trial's folder up to the store.

        Args:
            name: The experiment's name.
            trial_folder: The name of the trial's folder.
            checkpoints: Whether its checkpoints are needed.
            again: Whether the store is asked although it was before: the trial may have been trained on since.
        """
        folder = self.root / name / TRIALS / trial_folder
        asked = (name, trial_folder, checkpoints)
        if asked in self._fetched and folder.is_dir() and not again:
            return
        with self._locked(f"{name}/{trial_folder}"):
            fetch_trial(self.store, self.trial_key(name, trial_folder), folder, checkpoints=checkpoints)
        self._fetched.update({asked, (name, trial_folder, False)})

    def fetch_trials(self, name: str, trial_folders: Iterable[str]) -> None:
        """Bring several trials' folders up to the store, without checkpoints.

        Args:
            name: The experiment's name.
            trial_folders: The names of the trials' folders.
        """
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(lambda folder: self.fetch_trial(name, folder, checkpoints=False), trial_folders))

    def fetch_whole(self, name: str) -> None:
        """Bring an experiment's working folder up to the store, with its trials' folders and their checkpoints.

        Args:
            name: The experiment's name.

        Raises:
            LedgerDamaged: The store does not hold what it should.
            StorageUnreachable: The store does not answer.
        """
        self.fetch(name)
        keys = self.store.objects(f"{name}/{TRIALS}")
        folders = {key.removeprefix(f"{name}/{TRIALS}/").partition("/")[0] for key in keys}
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(lambda folder: self.fetch_trial(name, folder, again=True), sorted(folders)))

    @staticmethod
    def trial_key(name: str, trial_folder: str) -> str:
        """The key of a trial's folder in the store.

        Args:
            name: The experiment's name.
            trial_folder: The name of the trial's folder.
        """
        return f"{name}/{TRIALS}/{trial_folder}"

    def forget_trials(self, name: str) -> None:
        """Remove the local copies of the trials' folders, which the store has; they are fetched when they are needed.

        Args:
            name: The experiment's name.
        """
        shutil.rmtree(self.root / name / TRIALS, ignore_errors=True)

    def _show_driver(self, name: str, folder: Path) -> None:
        """Write down who drives the sweep, by the store, where the local commands look for it."""
        claim: dict[str, Any] | None = read_claim(self.store, name)
        if claim and {"epoch", "owner", "since", "renewed"} <= claim.keys():
            content = {key: claim[key] for key in ("epoch", "owner", "since", "renewed")}
            write_atomically(folder / "ledger" / "lock.json", json.dumps(content, indent=1).encode())

    @contextlib.contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        """Only one process of this machine fetches a folder at a time."""
        locks = self.root / ".locks"
        locks.mkdir(parents=True, exist_ok=True)
        path = locks / hashlib.sha256(name.encode()).hexdigest()[:16]
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


_BY_ADDRESS: dict[tuple[str, Path], StoredResults] = {}
_BY_ROOT: dict[Path, StoredResults] = {}


def _works_here(folder: Path) -> bool:
    """Whether a process of this machine drives the sweep on this very folder."""
    try:
        holder = read_holder(folder / "ledger")
    except LedgerDamaged:
        return False
    return holder is not None and holder.owner is not None and holder.owner.is_dead() is False
