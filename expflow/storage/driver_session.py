"""One driver's work on results at an address: the lock there, and the thread that sends what changes."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

from expflow.errors import ExpflowError, Interrupted, StaleDriver, StorageUnreachable
from expflow.events import CheckpointPruned, Event, SplitEvaluated
from expflow.ledger.reader import last_epoch
from expflow.storage.driver_claim import DriverClaim
from expflow.storage.folder_fetch import TRIALS, newest_manifest
from expflow.storage.folder_mirror import FolderMarker, FolderMirror
from expflow.storage.leftovers import remove_leftovers
from expflow.storage.results import StoredResults
from expflow.storage.trial_folder import StoredTrial, TrialSender, drop_from_trial

SEND_SECONDS = 1.0
"""How often what changed is sent; the two seconds that are promised, less what a request takes."""
CLOSE_PATIENCE_SECONDS = 120.0
"""How long the store is tried at a driver's end."""
STOPPED_PATIENCE_SECONDS = 8.0
"""The same after a signal, when the process has 15 s to leave."""
SENT_FIRST: tuple[type[Event], ...] = (SplitEvaluated, CheckpointPruned)
"""What is in the store before anything acts on it: it cannot be taken back there."""

logger = logging.getLogger(__name__)

_SESSIONS: dict[Path, DriverSession] = {}
"""Working folder of an experiment -> this process's session on it, also after its end."""


@contextlib.contextmanager
def driving(folder: Path) -> Iterator[DriverSession | None]:
    """Within it, this process is the driver of an experiment in the store; nothing where results lie in plain folders.

    Args:
        folder: The experiment's folder.

    Raises:
        LedgerLocked: Another driver works on it; the message names it.
        StorageUnreachable: The store does not answer.
    """
    results = StoredResults.of(folder.parent)
    if results is None:
        yield None
        return
    session = _SESSIONS[folder] = DriverSession.begin(results, folder.name)
    try:
        yield session
    except BaseException as error:
        session.close(stopped=isinstance(error, KeyboardInterrupt | Interrupted))
        raise
    session.close(stopped=session.is_stopped)


def session_of(folder: Path) -> DriverSession | None:
    """This process's session on an experiment; None where it has none.

    Args:
        folder: The experiment's folder.
    """
    return _SESSIONS.get(folder)


class DriverSession:
    """The driver's end of the way to the store, from :meth:`begin` to :meth:`end`.

    Args:
        results: The results at the address.
        name: The experiment's name.
        claim: The lock that this process has taken.
    """

    def __init__(self, results: StoredResults, name: str, claim: DriverClaim) -> None:
        self._results, self._name, self._claim = results, name, claim
        self._store, self._folder = results.store, results.root / name
        self._mirror: FolderMirror | None = None
        self._lock = threading.Lock()
        self._stale: StaleDriver | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ledger-mirror", daemon=True)
        self.trouble = ""
        """Why the store is behind, in words; empty while it is not."""
        self.is_stopped = False
        """Whether a signal has asked the process to leave soon."""
        self.cut_off: Iterable[str] | None = None
        """Folders of the trials whose objects are looked through at the end, as attempts were cut off; None: all."""

    @classmethod
    def begin(cls, results: StoredResults, name: str) -> DriverSession:
        """Become the driver of an experiment at an address, with its working folder as the store has it.

        Args:
            results: The results at the address.
            name: The experiment's name.

        Raises:
            LedgerLocked: Another driver works on it; the message names it.
            StorageUnreachable: The store does not answer.
        """
        folder = results.root / name
        at_least = last_epoch(folder) + 1 if folder.is_dir() else 1
        session = cls(results, name, DriverClaim.take(results.store, name, at_least=at_least))
        try:
            session._prepare()
        except BaseException:
            session._claim.give_back()
            raise
        return session

    @property
    def epoch(self) -> int:
        """The epoch of the lock, which the local ledger takes over."""
        return self._claim.epoch

    @property
    def module(self) -> str:
        """The module that speaks with the store; it is imported already."""
        return self._store.module

    def _prepare(self) -> None:
        folder = self._folder
        self._results.fetch(self._name)
        # By it other commands saw who drives; the lock of the store has settled that.
        (folder / "ledger" / "lock.json").unlink(missing_ok=True)
        known = newest_manifest(self._store, self._name)
        self._mirror = FolderMirror(
            self._store,
            self._name,
            folder,
            f"{self._claim.epoch:06d}",
            known=known,
            skip=_is_left_alone,
            still_mine=self._claim.is_newest,
        )

    def start(self) -> None:
        """Send the working folder, ledger header and all, and go on sending. Called when the local ledger is open."""
        self._send()
        self._thread.start()

    def check(self) -> None:
        """Raise where a later driver has taken over, as far as this one knows by now.

        Raises:
            StaleDriver: It has.
        """
        if self._stale is not None:
            raise self._stale

    def recorded(self, event: Event) -> None:
        """Called when an event is on the local disk: what must not be acted on before the store has it, is sent.

        Args:
            event: The event.

        Raises:
            StorageUnreachable: The store does not take it.
        """
        if isinstance(event, SENT_FIRST):
            self._send()

    def send(self) -> None:
        """Send what changed, and wait for it.

        Raises:
            StorageUnreachable: The store does not take it; it lies in the working folder, and is sent by the next
                command on this machine.
        """
        self._send()

    def close(self, *, stopped: bool = False) -> None:
        """Send what is left, remove what belongs to nothing, give the lock back.

        Where the store does not answer, what is left is sent by the next driver on this machine.

        Args:
            stopped: Whether the process has to leave soon.
        """
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(timeout=30.0)
        self._store.patience = STOPPED_PATIENCE_SECONDS if stopped else CLOSE_PATIENCE_SECONDS
        try:
            if self._stale is None:
                self._send()
                if not stopped:
                    remove_leftovers(self._store, self._name, epoch=self.epoch, trials=self.cut_off)
                self._claim.give_back()
        except StorageUnreachable as error:
            self.trouble = f"{error}. What it lacks lies in {self._folder}: the same command on this machine sends it"
        except ExpflowError as error:
            self.trouble = str(error)

    def trial(self, trial_folder: str, attempt: int, *, is_new: bool = False) -> StoredTrial:
        """Where an attempt's process sends the trial's folder.

        Args:
            trial_folder: The name of the trial's folder.
            attempt: The attempt's number.
            is_new: Whether nothing that the store may have of the trial counts.
        """
        key = self._results.trial_key(self._name, trial_folder)
        return StoredTrial(self._store.address, key, self.epoch, attempt, is_new)

    def fetch_trial(self, trial_folder: str, *, attempt: int, again: bool = False) -> None:
        """Bring the local copy of a trial's folder up to the store, unless the attempt writes to this very folder.

        Args:
            trial_folder: The name of the trial's folder.
            attempt: The number of its last attempt.
            again: Whether the store is asked although it was before.
        """
        marker = FolderMarker.of(self._folder / TRIALS / trial_folder)
        if marker is None or not marker.tag or marker.tag != self.trial(trial_folder, attempt).tag:
            self._results.fetch_trial(self._name, trial_folder, again=again)

    def fetch_path(self, path: str) -> None:
        """Bring the folder of the trial that a path lies in up to the store, unless it has the path.

        Args:
            path: The path, relative to the experiment's folder.
        """
        if not (self._folder / path).exists():
            self._results.fetch_trial(self._name, path.split("/")[1], again=True)

    def send_trial(self, trial_folder: str, attempt: int) -> None:
        """Send a trial's local folder, to which the driver itself added something; no rank works on it.

        Args:
            trial_folder: The name of the trial's folder.
            attempt: The number of its last attempt.
        """
        sender = TrialSender(self.trial(trial_folder, attempt), self._folder / TRIALS / trial_folder)
        sender.restore()
        sender.finish()

    def drop_checkpoint(self, path: str, attempt: int) -> None:
        """Remove a checkpoint from the store, which the ledger there says is pruned.

        Args:
            path: Its folder, relative to the experiment's.
            attempt: The number of its trial's last attempt.
        """
        _, trial_folder, below = path.split("/", 2)
        drop_from_trial(self._store, self.trial(trial_folder, attempt), below, self._claim.is_newest)

    def forget_trials(self) -> None:
        """Remove the local copies of the trials' folders, all of which the store has."""
        self._results.forget_trials(self._name)

    def _send(self) -> None:
        self.check()
        with self._lock:
            if self._mirror is not None:
                self._mirror.send()
        self.trouble = ""

    def _run(self) -> None:
        """The thread: send, and renew the lease. What goes wrong for good is raised by the next event."""
        while not self._over.wait(SEND_SECONDS):
            try:
                self._claim.renew()
                self._send()
            except StaleDriver as error:
                self._stale = error
                return
            except StorageUnreachable as error:
                if not self.trouble:
                    logger.warning("%s; the sweep goes on, and it is tried again", error)
                self.trouble = str(error)
            except OSError as error:
                logger.warning("%s cannot be sent: %s", self._folder, error)


def _is_left_alone(path: str) -> bool:
    """What of an experiment's folder is not sent: trials have senders of their own, locks are the machine's."""
    return path == TRIALS or path.startswith((f"{TRIALS}/", "ledger/lock.")) or path == "tracking"
