"""The weights that trials begin with: looked up once, when the plan is made, and kept with the results.

What ``init.from`` says may mean another thing tomorrow: a sweep gets a better trial, a file is written over, an old
checkpoint is removed. So a plan turns it into files with their sha256, which enter the ids of the trials; the first
trial copies the files into ``NAME/weights/<sha256>``, and whoever continues begins with those.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from expflow.architectures.pretrained import PREFIX, hub_folder, published
from expflow.config.address import NameAddress, parse_address
from expflow.config.initial import SCRATCH
from expflow.config.loading import Loaded
from expflow.config.schema import Dimension
from expflow.config.site import Site
from expflow.config.tree import Mark, problem
from expflow.errors import (
    AddressUnknown,
    CheckpointDamaged,
    ExperimentInvalid,
    LedgerMismatch,
    UserError,
    WeightsMissing,
)
from expflow.files import sync
from expflow.ledger import SweepState, TrialState, exists, load
from expflow.sweep.course import Objective
from expflow.sweep.results import Found, find
from expflow.training.checkpoints import found as checkpoints_in
from expflow.training.checkpoints import verify
from expflow.training.checkpoints.choice import FOLDER
from expflow.training.checkpoints.folder import MANIFEST, read_manifest, storage_error
from expflow.training.transfer.source import Pretrained, sha256_of

KEPT = "weights"
"""Where an experiment's folder keeps what its trials begin with."""

WEIGHTS, STATE = "weights.pt", "state-0.pt"
"""Files of a checkpoint; the second holds the mean of the weights, where one was kept."""

_FILES = (".pt", ".pth", ".ckpt", ".bin", ".tar")


class Sources:
    """What every ``init.from`` of a plan leads to."""

    def __init__(self, found: Mapping[str, Pretrained]) -> None:
        self._found = dict(found)

    def __getitem__(self, source: str) -> Pretrained:
        return self._found[source]

    @property
    def facts(self) -> dict[str, Any]:
        """What the ledger's header holds of them."""
        return {source: _facts(each) for source, each in self._found.items()}


def _facts(weights: Pretrained) -> dict[str, Any]:
    hashes = [sha256 for _, sha256 in weights.files]
    return {"id": weights.id, "origin": weights.origin, "trial": weights.trial, "files": hashes}


def look_up(loaded: Loaded, space: tuple[Dimension, ...], *, site: Site, storage: Path, folder: Path) -> Sources:
    """Look up every ``init.from`` of an experiment whose results lie in ``folder``.

    Raises ExperimentInvalid, with file, line and column, where one leads nowhere, WeightsMissing where published
    weights are not on this machine, CheckpointDamaged where a checkpoint does not verify, and LedgerMismatch where one
    leads to other weights than the results began with.
    """
    written = dict(_written(loaded, space))
    before = load(folder) if written and exists(folder) else SweepState()
    found: dict[str, Pretrained] = {}
    for source, mark in written.items():
        known = before.header.weights.get(source) if before.header is not None else None
        copies = kept(folder, known) if known is not None else None
        found[source] = copies or _resolved(source, mark, loaded, storage, site)
        if known is not None and before.trials:
            _check_same(source, known, found[source], folder)
    return Sources(found)


def _resolved(source: str, mark: Mark, loaded: Loaded, storage: Path, site: Site) -> Pretrained:
    try:
        return resolve(source, folder=loaded.experiment.file.parent, storage=storage, site=site)
    except UserError as error:
        raise ExperimentInvalid([problem(mark, "init.from", str(error))]) from error


def _check_same(source: str, known: Mapping[str, Any], now: Pretrained, folder: Path) -> None:
    if now.id != known["id"]:
        raise LedgerMismatch(
            f"{folder.name} began with the weights of {known['origin']}, whose copy in {folder / KEPT} is gone, and "
            f"init.from: {source} now leads to {now.origin}. Put the copy back, or begin anew with --fresh"
        )


def _written(loaded: Loaded, space: tuple[Dimension, ...]) -> Iterator[tuple[str, Mark]]:
    """Every place in the file that says whose weights, in the base recipe or among the searched values."""
    base = loaded.experiment.init
    if base is not None and base.pretrained:
        yield base.source, loaded.place("init.from")
    for dimension in space:
        if dimension.key not in ("init", "init.from"):
            continue
        for value in dimension.values:
            source = value.get("from") if isinstance(value, Mapping) else value
            if isinstance(source, str) and source != SCRATCH:
                yield source, loaded.place_of(dimension.key, value, "from")


def resolve(source: str, *, folder: Path, storage: Path, site: Site) -> Pretrained:
    """The weights that ``source`` means today. Relative paths are seen from ``folder``, that of the YAML file.

    Raises UserError where it leads nowhere, WeightsMissing and CheckpointDamaged.
    """
    if source.startswith(PREFIX):
        return _published(source, site)
    path = folder / Path(source).expanduser()
    if source.startswith((".", "/", "~")) or path.suffix in _FILES:
        return _of_path(path, source)
    try:
        address = parse_address(source)
    except AddressUnknown as error:
        if path.exists():
            return _of_path(path, source)
        raise UserError(
            f"expected NAME/best, NAME/ and the first characters of a trial's id, the path of a file of weights, or "
            f"{PREFIX}<name of weights>; found {source!r}"
        ) from error
    if not isinstance(address, NameAddress):
        raise UserError(f"expected a trial's weights; found {source!r}, which names none (NAME/best does)")
    return _of_trial(source, address, folder, storage)


def _of_path(path: Path, source: str) -> Pretrained:
    if (path / MANIFEST).is_file():
        return Pretrained(_checkpoint_files(path, averaged=False), source)
    if path.is_dir():
        inside = checkpoints_in(path) or checkpoints_in(path / FOLDER)
        if not inside:
            raise UserError(f"{source} is a folder without a checkpoint in it")
        return Pretrained(_checkpoint_files(inside[0], averaged=False), source)
    if not path.exists():
        raise UserError(f"there is no file {path}; correct the path, or put the weights there")
    return Pretrained(((path.resolve(), sha256_of(path)),), source)


def _published(source: str, site: Site) -> Pretrained:
    """Published weights in the site's folder or where torch's hub keeps what it fetched."""
    wanted = published(source)
    folders = [*([site.weights] if site.weights is not None else []), hub_folder()]
    path = next((folder / wanted.file for folder in folders if (folder / wanted.file).is_file()), None)
    if path is None:
        raise WeightsMissing(
            f"{source}: {wanted.file} is not in {' nor in '.join(map(str, folders))}; get it from {wanted.address} and "
            "put it there, or say where it is with `weights:` in expflow.site.yaml"
        )
    sha256 = sha256_of(path)
    if not sha256.startswith(wanted.sha256):
        raise CheckpointDamaged(
            f"{path} is not what was published: its sha256 begins with {sha256[:8]}, and should with {wanted.sha256}. "
            f"Get it again from {wanted.address}"
        )
    return Pretrained(((path, sha256),), source)


def _of_trial(source: str, address: NameAddress, folder: Path, storage: Path) -> Pretrained:
    if address.which is None:
        raise UserError(f"{source}: which of its trials? {source}/best, or {source}/3fa9")
    try:
        results = find(source, storage)
    except AddressUnknown as error:
        file = folder / f"{address.name}.yaml"
        if not file.is_file():
            raise
        how = f"first run: expflow sweep {os.path.relpath(file)}"
        raise UserError(f"there are no results of {address.name} in {storage} yet; {how}") from error
    trial = best_trial(results.state) if address.which == "best" else results.trial()
    if trial is None:
        raise UserError(f"{source}: no trial of {address.name} has finished yet; its sweep has to end first")
    if trial.status != "done":
        raise UserError(
            f"{source}: trial {trial.trial} is {trial.status}; only a finished one's weights are taken over"
        )
    checkpoint = _last_checkpoint(results, trial)
    averaged = bool(trial.recipe.get("trainer", {}).get("ema") or trial.latest_values.get("trainer.ema"))
    origin = f"{results.name}/{trial.trial}, step {trial.reports[-1].step}"
    return Pretrained(_checkpoint_files(checkpoint, averaged=averaged), origin, trial.trial)


def best_trial(state: SweepState) -> TrialState | None:
    """Of the config with the best mean over its finished trials, the best of these; None before one has finished."""
    header = state.header
    if header is None:
        return None
    objective = Objective(header.metric, header.mode, header.select)
    sign = -1.0 if header.mode == "min" else 1.0
    configs: dict[str, list[tuple[float, TrialState]]] = {}
    for trial in state.plan_trials():
        value = objective.value(trial) if trial.status == "done" else None
        if value is not None:
            configs.setdefault(trial.config, []).append((sign * value, trial))
    if not configs:
        return None
    chosen = max(configs.values(), key=lambda each: sum(value for value, _ in each) / len(each))
    return max(chosen, key=lambda each: (each[0], -each[1].seed))[1]


def _last_checkpoint(results: Found, trial: TrialState) -> Path:
    """The checkpoint of the trial's last step: what its metrics are of."""
    last = trial.reports[-1].step if trial.reports else 0
    for path in checkpoints_in(results.trial_folder(trial) / FOLDER):
        if read_manifest(path).step == last:
            return path
    raise UserError(
        f"{results.name}/{trial.trial} has no checkpoint of its last step, {last}: none was kept "
        "(trainer.checkpoint.at_end), or it was removed. Train it again with --fresh"
    )


def _checkpoint_files(path: Path, *, averaged: bool) -> tuple[tuple[Path, str], ...]:
    files = verify(path).files
    names = [WEIGHTS, STATE] if averaged else [WEIGHTS]
    return tuple((path / name, files[name]["sha256"]) for name in names)


def _folder_of(folder: Path, hashes: list[str]) -> Path:
    return folder / KEPT / "-".join(each[:16] for each in hashes)


def kept(folder: Path, known: Mapping[str, Any]) -> Pretrained | None:
    """What an earlier driver began with, where its copy is still there. Its content is checked when it is read."""
    copies = _folder_of(folder, list(known["files"]))
    files = tuple((copies / name, sha256) for name, sha256 in zip((WEIGHTS, STATE), known["files"], strict=False))
    return Pretrained(files, known["origin"], known["trial"]) if copies.is_dir() else None


def keep(weights: Pretrained | None, folder: Path) -> Pretrained | None:
    """``weights`` as copies in ``folder``, the results of the experiment that begins with them.

    A checkpoint of ours is linked where the file system can. Raises DiskFull and StorageUnwritable.
    """
    if weights is None:
        return None
    target = _folder_of(folder, [sha256 for _, sha256 in weights.files])
    copies = tuple((target / name, sha256) for name, (_, sha256) in zip((WEIGHTS, STATE), weights.files, strict=False))
    if not target.is_dir():
        try:
            _copy(weights, copies, target)
        except OSError as error:
            raise storage_error(target, error) from error
    return Pretrained(copies, weights.origin, weights.trial)


def _copy(weights: Pretrained, copies: tuple[tuple[Path, str], ...], target: Path) -> None:
    draft = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    for (source, _), (copy, _) in zip(weights.files, copies, strict=True):
        _link(source, draft / copy.name, whole=bool(weights.trial))
    draft.rename(target)
    sync(target.parent)


def _link(source: Path, target: Path, *, whole: bool) -> None:
    """Link what nobody ever writes to again; copy anything else."""
    if whole:
        try:
            os.link(source, target)
        except OSError:  # another file system, or one without links
            pass
        else:
            return
    with source.open("rb") as theirs, target.open("wb") as ours:
        shutil.copyfileobj(theirs, ours)
        ours.flush()
        os.fsync(ours.fileno())
