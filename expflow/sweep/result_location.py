"""Results by address: NAME, NAME/best, NAME/3fa9, or the experiment file that made them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from expflow.config import load
from expflow.config.address import FileAddress, MlflowAddress, parse_address
from expflow.config.identity import folder_name
from expflow.errors import AddressUnknown, UserError, nearest
from expflow.ledger import SweepState, TrialState, exists, load_state
from expflow.ledger.lock import read_holder
from expflow.ledger.reader import FOLDER as LEDGER_FOLDER
from expflow.storage.blob_store import is_address
from expflow.storage.driver_session import session_of
from expflow.storage.results import StoredResults
from expflow.sweep.result_names import newest_name
from expflow.sweep.storage_place import (
    fetch_all,
    fetch_related,
    name_stem,
    results_command,
    split_result_address,
    storage_folder,
    storage_text,
)
from expflow.text import command_line


@dataclass(frozen=True)
class ResultLocation:
    """An experiment's results, and one trial of them where an address names one.

    Attributes:
        folder: The experiment's folder.
        state: The state of its sweep.
        which: ``best`` or the first characters of a trial's id; None where the address names no trial.
        file: The experiment's file, where that was the address.
    """

    folder: Path
    state: SweepState
    which: str | None = None
    file: Path | None = None

    @property
    def name(self) -> str:
        """The experiment's name."""
        return self.folder.name

    @property
    def experiment_folder(self) -> Path:
        """Where the experiment's file lay, by the record: relative paths of data start there. Nothing is imported from
        it on the record's word (:mod:`~expflow.sweep.recorded_code`)."""
        return Path(self.state.header.file).parent if self.state.header else Path.cwd()

    def command(self, verb: str, *options: str, which: str = "") -> str:
        """A command about these results to be typed.

        Args:
            verb: As of :func:`~expflow.sweep.storage_place.results_command`.
            options: Likewise.
            which: Likewise.
        """
        return results_command(self.folder, verb, *options, which=which)

    def trial(self) -> TrialState:
        """The one trial that the address names (``best`` is not one: it may have several seeds).

        Raises:
            AddressUnknown: It names none, or several.
        """
        matches = [trial for key, trial in self.state.trials.items() if self.which and key.startswith(self.which)]
        if len(matches) != 1:
            some = ", ".join(list(self.state.current)[:5])
            what = "names several trials" if matches else "names no trial"
            raise AddressUnknown(f"{self.name}/{self.which} {what}; `{self.command('status')}` lists them ({some}, …)")
        return matches[0]

    def trial_folder(self, trial: TrialState, *, checkpoints: bool = False) -> Path:
        """A trial's own folder; of results at an address, as the store has it.

        Args:
            trial: The trial.
            checkpoints: Whether its checkpoints are needed.
        """
        name = folder_name(trial.values, trial.seed, trial.trial)
        if (session := session_of(self.folder)) is not None:
            session.fetch_trial(name, attempt=trial.attempt)
        elif (stored := StoredResults.of(self.folder.parent)) is not None:
            stored.fetch_trial(self.name, name, checkpoints=checkpoints)
        return self.folder / "trials" / name


def storage_root(storage: Path | str | None = None) -> Path:
    """The folder of all results; of an address, its working folder, with what the store has.

    Args:
        storage: The folder or address that was asked for; by default the site's.
    """
    root = storage_folder(storage)
    fetch_all(root)
    return root


def result_folders(root: Path) -> list[Path]:
    """Folders that hold a ledger, by name.

    Args:
        root: The folder of all results.
    """
    if not root.is_dir():
        return []
    return sorted(folder for folder in root.iterdir() if folder.is_dir() and exists(folder))


def related_results(folder: Path, state: SweepState) -> dict[Path, SweepState]:
    """The other results of the same experiment (those of ``--fresh``, ``--set`` and ``train``): folder -> state.

    Args:
        folder: The folder of some results.
        state: What their ledger adds up to.
    """
    file = Path(state.header.file).name if state.header is not None else ""
    states = {
        other: load_state(other)
        for other in result_folders(folder.parent)
        if other.name != folder.name and name_stem(other.name) == name_stem(folder.name)
    }
    return {
        place: other
        for place, other in states.items()
        if other.header is not None and Path(other.header.file).name == file
    }


def find_results(text: str, storage: Path | str | None = None) -> ResultLocation:
    """The results that an address leads to.

    Args:
        text: The address.
        storage: The folder of all results; by default that of the file or the site.

    Raises:
        AddressUnknown: Nothing is there.
        UserError: The address is one of MLflow's.
    """
    if is_address(text):
        storage, text = split_result_address(text)
    address = parse_address(text)
    root = storage_folder(storage)
    which = file = None
    if isinstance(address, FileAddress):
        file = address.path.absolute()
        loaded = load(address.path)
        root = storage_folder(storage or loaded.experiment.storage or root)
        fetch_related(root, loaded.name)
        name = newest_name(root, loaded.name, address.path)
    elif isinstance(address, MlflowAddress):
        raise UserError(f"{text}: results are looked up in the ledger; name the experiment (NAME or NAME/best)")
    else:
        name, which = address.name, address.which
        fetch_related(root, name)
    folder = root / name
    if not exists(folder):
        known = [other.name for other in result_folders(root)]
        close = nearest(name, known)
        hint = f"; did you mean {close}?" if close else f"; there are: {', '.join(known)}" if known else _how(name)
        raise AddressUnknown(f"no results of {name} in {storage_text(root)}{hint}")
    return ResultLocation(folder, load_state(folder), which, file)


def _how(name: str) -> str:
    file = Path(f"{name}.yaml")
    return f"; `{command_line('sweep', str(file) if file.exists() else 'FILE')}` makes some"


def has_live_driver(folder: Path) -> bool:
    """Whether a driver works on results right now, as far as its lock can tell from here.

    Args:
        folder: The experiment's folder.
    """
    holder = read_holder(folder / LEDGER_FOLDER)
    return holder is not None and holder.owner is not None and holder.owner.is_dead() is not True
