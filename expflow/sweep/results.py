"""Finding results by address: NAME, NAME/best, NAME/3fa9, or the experiment file that made them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from expflow.config import load, load_site
from expflow.config.address import FileAddress, MlflowAddress, parse_address
from expflow.config.identity import folder_name
from expflow.errors import AddressUnknown, UserError, nearest
from expflow.ledger import SweepState, TrialState, exists
from expflow.ledger import load as load_state
from expflow.ledger.lock import read_holder
from expflow.sweep.generations import newest


@dataclass(frozen=True)
class Found:
    """What an address leads to: an experiment's results, and one trial of them where it names one."""

    folder: Path
    state: SweepState
    which: str | None = None

    @property
    def name(self) -> str:
        """The experiment's name."""
        return self.folder.name

    @property
    def experiment_folder(self) -> Path:
        """Where the experiment's file lay, for the user's own modules."""
        return Path(self.state.header.file).parent if self.state.header else Path.cwd()

    def trial(self) -> TrialState:
        """The one trial that the address names (``best`` is not one: it may have several seeds)."""
        matches = [trial for key, trial in self.state.trials.items() if self.which and key.startswith(self.which)]
        if len(matches) != 1:
            some = ", ".join(list(self.state.current)[:5])
            what = "names several trials" if matches else "names no trial"
            raise AddressUnknown(
                f"{self.name}/{self.which} {what}; `expflow status {self.name}` lists them ({some}, …)"
            )
        return matches[0]

    def trial_folder(self, trial: TrialState) -> Path:
        """The trial's own folder."""
        return self.folder / "trials" / folder_name(trial.values, trial.seed, trial.trial)


def storage_root(storage: Path | str | None = None) -> Path:
    """The folder of all results: what is asked for, else the site's."""
    return Path(storage or load_site().storage).absolute()


def experiments(root: Path) -> list[Path]:
    """Folders under ``root`` that hold a ledger, by name."""
    if not root.is_dir():
        return []
    return sorted(folder for folder in root.iterdir() if folder.is_dir() and exists(folder))


def find(text: str, storage: Path | str | None = None) -> Found:
    """What the address ``text`` leads to. Raises :class:`AddressUnknown` where nothing is there."""
    address = parse_address(text)
    root = storage_root(storage)
    which = None
    if isinstance(address, FileAddress):
        loaded = load(address.path)
        root = Path(storage or loaded.experiment.storage or root).absolute()
        name = newest(root, loaded.name, address.path)
    elif isinstance(address, MlflowAddress):
        raise UserError(f"{text}: results are looked up in the ledger; name the experiment (NAME or NAME/best)")
    else:
        name, which = address.name, address.which
    folder = root / name
    if not exists(folder):
        known = [each.name for each in experiments(root)]
        close = nearest(name, known)
        hint = f"; did you mean {close}?" if close else f"; there are: {', '.join(known)}" if known else _how(name)
        raise AddressUnknown(f"no results of {name} in {root}{hint}")
    return Found(folder, load_state(folder), which)


def _how(name: str) -> str:
    file = Path(f"{name}.yaml")
    return f"; `expflow sweep {file if file.exists() else 'FILE'}` makes some"


def running(folder: Path) -> bool:
    """Whether a driver works on these results right now, as far as its lock can tell from here."""
    holder = read_holder(folder / "ledger")
    return holder is not None and holder.owner is not None and holder.owner.is_dead() is not True
