"""A trial's folder in the store, sent beside the training by the process that trains it.

Each attempt has a manifest of its own, named by the driver's epoch and the attempt's number: what an older attempt
still sends, because its driver died or the network was cut, never takes the place of a newer one's.
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from expflow.errors import StorageRefused, StorageUnreachable
from expflow.storage.blob_store import PATIENCE_SECONDS, BlobStore
from expflow.storage.folder_fetch import TRIALS, fetch_files, fetch_folder, manifest_tags, newest_manifest
from expflow.storage.folder_manifest import FolderManifest
from expflow.storage.folder_mirror import GROWING, MANIFESTS, FolderMarker, FolderMirror

CHECKPOINTS = "checkpoints"
LOOK_SECONDS = 1.0
"""How often the folder is looked at for a new checkpoint."""
LEAST_SECONDS = 2.0
"""Least time between two sendings while the trial runs."""
LOG_SECONDS = 30.0
"""How often the folder is sent where there is no new checkpoint."""
END_PATIENCE_SECONDS = 600.0
"""How long the store is tried at the end of an attempt."""

KNOCK_PATIENCE_SECONDS = 3.0
"""How long a store is asked whether it lets this machine in."""

LEAVING_PATIENCE_SECONDS = 8.0
"""The same where the process was told to leave, which a machine waits a quarter of a minute for."""

logger = logging.getLogger(__name__)

_LET_IN: set[str] = set()
"""Addresses that have let this process in."""


@dataclass(frozen=True)
class StoredTrial:
    """Where a trial's folder lies in a store, and who writes it.

    Attributes:
        address: Address of all results.
        prefix: Key of the trial's folder there.
        epoch: The driver's epoch.
        attempt: The attempt's number, from 1; 0 for the driver itself.
        is_new: Whether nothing that the store may have of the trial counts: no attempt of it was recorded.
    """

    address: str
    prefix: str
    epoch: int
    attempt: int
    is_new: bool = False

    @property
    def tag(self) -> str:
        """The tag of its manifests; tags sort in the order of time."""
        return f"{self.epoch:06d}-{self.attempt:04d}"


def fetch_trial(store: BlobStore, prefix: str, folder: Path, *, checkpoints: bool = True, tag: str = "") -> None:
    """Bring a trial's local folder up to the store, unless it is what the store was written from.

    Args:
        store: The store.
        prefix: Key of the trial's folder there.
        folder: The local folder.
        checkpoints: Whether its checkpoints are needed.
        tag: Under which tag the folder is written to from now on.
    """
    drop_remains(folder)
    manifest, marker = newest_manifest(store, prefix), FolderMarker.of(folder)
    if manifest is None or (marker is not None and _is_from(manifest, marker, checkpoints)):
        return
    wanted = None if checkpoints else _is_no_checkpoint
    fetch_folder(store, prefix, folder, wanted=wanted, tag=tag)


def drop_remains(folder: Path) -> None:
    """Remove checkpoints and reports of a trial's folder that was removed, but for what a process still wrote there.

    Such a checkpoint may be ahead of all reports that are left, and a trial that went on from it would lack them.

    Args:
        folder: The local folder; whatever wrote a whole one has marked it before.
    """
    if FolderMarker.of(folder) is None:
        shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
        for path in folder.glob(f"*{GROWING}"):
            path.unlink(missing_ok=True)


def _is_no_checkpoint(path: str) -> bool:
    return not path.startswith(f"{CHECKPOINTS}/")


def _is_from(manifest: FolderManifest, marker: FolderMarker, checkpoints: bool) -> bool:
    """Whether a local folder has all of a manifest: it wrote it, or was made of it."""
    if manifest.writer == marker.writer or marker.base == manifest.version:
        return True
    return not checkpoints and marker.base == f"{manifest.version} in part"


class TrialSender:
    """Sends a trial's folder while an attempt runs. A context manager: within it the folder is kept up to date.

    Begin with :meth:`restore`; :meth:`finish` before the attempt's end is told to anybody.

    Args:
        place: Where the folder lies in the store.
        folder: The local folder.
    """

    def __init__(self, place: StoredTrial, folder: Path) -> None:
        self._place, self._folder = place, folder
        self._store = BlobStore(place.address)
        self._mirror: FolderMirror | None = None
        self._restored: frozenset[str] = frozenset()
        """The checkpoints that the attempt begins with."""
        self._over, self._news = threading.Event(), threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="expflow-trial-sender", daemon=True)

    def restore(self, *, writes: bool = True) -> None:
        """Make the local folder what the store has of the trial. Of a new trial nothing is asked but, once in this
        process, whether the store lets it in: without that a whole training would be for nothing.

        Args:
            writes: Whether this process sends the folder; others of the trial's ranks only need what is in it.

        Raises:
            StorageRefused: The store does not let this machine in.
            StorageUnreachable: The store does not answer.
        """
        place, known = self._place, None
        drop_remains(self._folder)
        self._knock()
        self._store.patience = END_PATIENCE_SECONDS
        if not place.is_new:
            if writes:  # from here on older attempts remove nothing more
                claim = FolderManifest(place.tag, "", files=None)
                self._store.create(f"{place.prefix}/{MANIFESTS}/{place.tag}.json", claim.to_bytes())
            fetch_trial(self._store, place.prefix, self._folder, tag=place.tag)
            known = newest_manifest(self._store, place.prefix)
        self._store.patience = PATIENCE_SECONDS
        if writes:
            self._mirror = FolderMirror(
                self._store,
                place.prefix,
                self._folder,
                place.tag,
                known=known,
                skip=self._is_empty_file,
                hold=self._is_open_log,
                still_mine=self._is_newest,
            )

    def fetch_shared(self, files: Iterable[Path]) -> None:
        """Have files of the experiment's folder that are missing here: on another node than the driver's.

        The driver sends them within seconds of the moment that it names them; large ones take longer.

        Args:
            files: What this trial reads besides its own folder, which lies below the experiment's.

        Raises:
            StorageUnreachable: The store does not answer, or has not got them in ten minutes.
        """
        experiment = self._folder.parents[1]
        names = {file.relative_to(experiment).as_posix() for file in files if not file.exists()}
        prefix, deadline = self._place.prefix.split(f"/{TRIALS}/")[0], time.monotonic() + END_PATIENCE_SECONDS
        while names and not fetch_files(self._store, prefix, experiment, names):
            if time.monotonic() > deadline:
                what = " and ".join(sorted(names))
                raise StorageUnreachable(f"{self._store.url(prefix)} has not got {what}, which the driver is to send")
            time.sleep(LOOK_SECONDS)

    def _knock(self) -> None:
        """Raise StorageRefused where the store does not let this machine in. One that is slow is asked later."""
        if self._place.address in _LET_IN:
            return
        self._store.patience = KNOCK_PATIENCE_SECONDS
        try:
            self._store.objects(f"{self._place.prefix}/{MANIFESTS}")
        except StorageRefused:
            raise
        except StorageUnreachable as error:
            logger.warning("%s; the trial begins all the same", error)
        else:
            _LET_IN.add(self._place.address)

    def __enter__(self) -> TrialSender:
        self._restored = _names(self._folder)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        self._over.set()
        self._news.set()

    def send(self) -> None:
        """Send what the folder has that the store has not, and wait for it.

        Raises:
            StorageUnreachable: The store does not take it.
        """
        if self._mirror is not None:
            with self._lock:
                self._mirror.send()

    def wake(self) -> None:
        """Say that there is a new checkpoint: it is sent soon."""
        self._news.set()

    def finish(self, *, soon: bool = False) -> None:
        """Send what is left, and wait for it: then the attempt may be said to be over.

        Args:
            soon: Whether the process has to leave soon.

        Raises:
            StorageUnreachable: The store does not take it.
        """
        self._over.set()
        self._news.set()
        if self._mirror is None:
            return
        if self._thread.is_alive():
            self._thread.join(timeout=self._store.patience)
        self._store.patience = LEAVING_PATIENCE_SECONDS if soon else END_PATIENCE_SECONDS
        with self._lock:
            self._mirror.send()
            self._remove_earlier()

    def _is_open_log(self, path: str) -> bool:
        """Whether a file may hold secrets of what the trial prints: they are taken out at the attempt's end."""
        return not self._over.is_set() and path.startswith("log") and path.endswith(".txt")

    def _is_empty_file(self, path: str) -> bool:
        return path.startswith("stacks") and (self._folder / path).stat().st_size == 0

    def _is_newest(self) -> bool:
        return manifest_tags(self._store, self._place.prefix)[0] <= self._place.tag

    def _remove_earlier(self) -> None:
        """Remove the manifests of earlier attempts; what only they name goes at the driver's end. Behind another driver
        there may be one even of a new trial: of an attempt whose start that driver did not learn of."""
        if not self._place.is_new or self._place.epoch > 1:
            tags = manifest_tags(self._store, self._place.prefix)
            earlier = [tag for tag in tags if tag < self._place.tag]
            self._store.delete([f"{self._place.prefix}/{MANIFESTS}/{tag}.json" for tag in earlier])

    def _run(self) -> None:
        """The thread: send when there is a new checkpoint, and every half minute."""
        sent_at, saved, never = time.monotonic(), self._restored, True
        while not self._over.is_set():
            self._news.wait(LOOK_SECONDS)
            self._news.clear()
            waited = time.monotonic() - sent_at
            present = _names(self._folder)
            is_new = present != saved
            if self._over.is_set() or (waited < LEAST_SECONDS and not (never and is_new)):
                continue
            if not is_new and waited < LOG_SECONDS:
                continue
            try:
                with self._lock:
                    if self._mirror is None or self._over.is_set():
                        return
                    self._mirror.send()
                saved, never = present, False
            except StorageUnreachable as error:
                logger.warning("%s; the trial goes on, and it is tried again", error)
            except OSError as error:
                logger.warning("%s cannot be sent: %s", self._folder, error)
            sent_at = time.monotonic()


def _names(folder: Path) -> frozenset[str]:
    try:
        return frozenset(path.name for path in (folder / CHECKPOINTS).iterdir() if not path.name.startswith("."))
    except OSError:
        return frozenset()


def drop_from_trial(store: BlobStore, place: StoredTrial, path: str, is_newest: Callable[[], bool]) -> None:
    """Take a folder out of what the store has of a trial that nobody trains.

    Args:
        store: The store.
        place: The trial; its tag is the driver's own.
        path: The folder, below the trial's.
        is_newest: Whether this driver still owns the results.
    """
    manifest = newest_manifest(store, place.prefix)
    if manifest is None or manifest.files is None:
        return
    kept = {file: parts for file, parts in manifest.files.items() if not file.startswith(f"{path}/")}
    if len(kept) == len(manifest.files):
        return
    number = manifest.number + 1 if manifest.tag == place.tag else 0
    after = FolderManifest(place.tag, manifest.writer, number, kept)
    store.put(f"{place.prefix}/{MANIFESTS}/{place.tag}.json", after.to_bytes())
    if is_newest():
        earlier = [f"{place.prefix}/{MANIFESTS}/{tag}.json" for tag in manifest_tags(store, place.prefix)]
        own = f"{place.prefix}/{MANIFESTS}/{place.tag}.json"
        gone = sorted(manifest.object_keys() - after.object_keys()) + [key for key in earlier if key < own]
        store.delete(gone)
