"""The weights that trials begin with: looked up once, when the plan is made, and kept with the results.

The address in ``init.from`` may lead to other weights tomorrow: a sweep gets a better trial, a file is written over, an
old checkpoint is removed. So a plan turns it into files with their sha256, which enter the ids of the trials; the first
trial copies the files (:mod:`~expflow.sweep.weight_copies`), and later drivers begin with those.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from expflow.architectures.torchvision_weights import PREFIX, hub_folder, weights_file
from expflow.config.address import NameAddress
from expflow.config.initial_weights import SCRATCH, SEEDED, source_of_seed
from expflow.config.loading import LoadedExperiment
from expflow.config.schema import Dimension, Sweep
from expflow.config.site import Site
from expflow.config.tree import Mark, problem_at
from expflow.errors import (
    AddressUnknown,
    CheckpointDamaged,
    ExperimentInvalid,
    LedgerMismatch,
    UserError,
    WeightsMissing,
)
from expflow.ledger import SweepState, TrialState, exists, load_state
from expflow.storage.blob_store import is_address
from expflow.sweep.objective import Objective
from expflow.sweep.result_location import ResultLocation, find_results
from expflow.sweep.storage_place import parse_result_address
from expflow.sweep.weight_copies import KEPT, STATE, WEIGHTS, kept_copies
from expflow.text import command_line
from expflow.training.checkpoints import list_checkpoints, verify_checkpoint
from expflow.training.checkpoints.selection import CHECKPOINTS_FOLDER
from expflow.training.checkpoints.storage import MANIFEST, read_checkpoint_manifest
from expflow.training.transfer.pretrained import PretrainedWeights, sha256_of

_FILES = (".pt", ".pth", ".ckpt", ".bin", ".tar")


class InitialWeights:
    """The weights of every ``init.from`` of a plan.

    Args:
        weights: ``init.from`` -> the weights that it leads to.
    """

    def __init__(self, weights: Mapping[str, PretrainedWeights]) -> None:
        self._by_source = dict(weights)

    def of(self, source: str, seed: int) -> PretrainedWeights:
        """What a trial begins with.

        Args:
            source: Its ``init.from``.
            seed: Its seed.

        Raises:
            UserError: Each seed has its own, and this one was not looked up.
        """
        weights = self._by_source.get(source_of_seed(source, seed))
        if weights is None:
            raise UserError(f"init.from: {source} was not looked up for seed {seed}: it is none of the sweep's seeds")
        return weights

    @property
    def files(self) -> list[Path]:
        """The files that hold them."""
        return [path for weights in self._by_source.values() for path, _ in weights.files]

    @property
    def facts(self) -> dict[str, Any]:
        """What the ledger's header holds of them."""
        return {source: _facts(weights) for source, weights in self._by_source.items()}


def _facts(weights: PretrainedWeights) -> dict[str, Any]:
    hashes = [sha256 for _, sha256 in weights.files]
    return {"id": weights.id, "origin": weights.origin, "trial": weights.trial, "files": hashes}


def resolve_all(loaded: LoadedExperiment, sweep: Sweep, *, site: Site, storage: Path, folder: Path) -> InitialWeights:
    """Look up every ``init.from`` of an experiment, of each seed where each has its own.

    Args:
        loaded: The experiment as it was read.
        sweep: What is searched, with which seeds.
        site: What differs between machines.
        storage: The folder of all results.
        folder: The experiment's folder.

    Raises:
        ExperimentInvalid: One leads nowhere; with file, line and column.
        WeightsMissing: Published weights are not on this machine.
        CheckpointDamaged: A checkpoint does not verify.
        LedgerMismatch: One leads to other weights than the results began with.
    """
    written = {
        source_of_seed(source, seed): mark for source, mark in _written(loaded, sweep.space) for seed in _seeds(sweep)
    }
    before = load_state(folder) if written and exists(folder) else SweepState()
    recorded = before.header.weights if before.header is not None else {}
    weights: dict[str, PretrainedWeights] = {}
    for source, mark in written.items():
        known = recorded.get(source)
        copies = kept_copies(folder, known) if known is not None else None
        siblings = [facts["trial"] for other, facts in recorded.items() if _base(other) == _base(source)]
        weights[source] = copies or _resolved(source, mark, loaded, storage, site, siblings)
        if known is not None and before.trials:
            _check_same(source, known, weights[source], folder)
    return InitialWeights(weights)


def _seeds(sweep: Sweep) -> tuple[int, ...]:
    return (*sweep.seeds, *(sweep.confirm.seeds if sweep.confirm else ()))


def _base(source: str) -> str:
    """``NAME/best`` of ``NAME/best@3``; "" of anything else, which has no other seeds."""
    match = SEEDED.fullmatch(source)
    return match["best"] if match else ""


def _resolved(
    source: str, mark: Mark, loaded: LoadedExperiment, storage: Path, site: Site, siblings: Sequence[str]
) -> PretrainedWeights:
    try:
        return resolve(source, folder=loaded.experiment.file.parent, storage=storage, site=site, siblings=siblings)
    except UserError as error:
        raise ExperimentInvalid([problem_at(mark, "init.from", str(error))]) from error


def _check_same(source: str, known: Mapping[str, Any], now: PretrainedWeights, folder: Path) -> None:
    if now.id != known["id"]:
        raise LedgerMismatch(
            f"{folder.name} began with the weights of {known['origin']}, whose copy in {folder / KEPT} is gone, and "
            f"init.from: {source} now leads to {now.origin}. Put the copy back, or begin anew with --fresh"
        )


def _written(loaded: LoadedExperiment, space: tuple[Dimension, ...]) -> Iterator[tuple[str, Mark]]:
    """Every place in the file that names weights, in the base recipe or among the searched values."""
    base = loaded.experiment.init
    if base is not None and base.pretrained:
        yield base.source, loaded.location("init.from")
    for dimension in space:
        if dimension.key not in ("init", "init.from"):
            continue
        for value in dimension.values:
            source = value.get("from") if isinstance(value, Mapping) else value
            if isinstance(source, str) and source != SCRATCH:
                yield source, loaded.location_of_value(dimension.key, value, "from")


def resolve(source: str, *, folder: Path, storage: Path, site: Site, siblings: Sequence[str] = ()) -> PretrainedWeights:
    """The weights that an ``init.from`` leads to today.

    Args:
        source: Its text; ``NAME/best@3`` is the trial with seed 3 of the best config.
        folder: Folder of the YAML file, from which relative paths are seen.
        storage: The folder of all results.
        site: What differs between machines.
        siblings: Trials that other seeds begin with: the config that is taken is theirs, whatever is best today.

    Raises:
        UserError: It leads nowhere.
        WeightsMissing: Published weights are not on this machine.
        CheckpointDamaged: A checkpoint does not verify.
    """
    if source.startswith(PREFIX):
        return published_weights(source, site)
    if match := SEEDED.fullmatch(source):
        return _of_seed(source, match["best"], int(match["seed"]), folder, storage, siblings)
    path = folder / Path(source).expanduser()
    if source.startswith((".", "/", "~")) or (path.suffix in _FILES and not is_address(source)):
        return _of_path(path, source)
    try:
        address = parse_result_address(source)
    except AddressUnknown as error:
        if path.exists():
            return _of_path(path, source)
        raise UserError(
            f"expected NAME/best, NAME/best@seed, NAME/ and the first characters of a trial's id, the path of a file"
            f" of weights, or {PREFIX}<name of weights>; found {source!r}"
        ) from error
    if not isinstance(address, NameAddress):
        raise UserError(f"expected a trial's weights; found {source!r}, which names none (NAME/best does)")
    return _of_trial(source, address, folder, storage)


def _of_path(path: Path, source: str) -> PretrainedWeights:
    if (path / MANIFEST).is_file():
        return PretrainedWeights(checkpoint_files(path, averaged=False), source)
    if path.is_dir():
        inside = list_checkpoints(path) or list_checkpoints(path / CHECKPOINTS_FOLDER)
        if not inside:
            raise UserError(f"{source} is a folder without a checkpoint in it")
        return PretrainedWeights(checkpoint_files(inside[0], averaged=False), source)
    if not path.exists():
        raise UserError(f"there is no file {path}; correct the path, or put the weights there")
    if not path.is_file():
        raise UserError(f"{source} is a device, a pipe or a socket; expected is a file of weights or a folder")
    return PretrainedWeights(((path.resolve(), sha256_of(path)),), source)


def published_weights(source: str, site: Site) -> PretrainedWeights:
    """Published weights in the site's folder or where torch's hub keeps what it fetched.

    Args:
        source: Their name, ``torchvision/`` before it.
        site: What differs between machines.

    Raises:
        WeightsMissing: They are in neither.
        CheckpointDamaged: The file is not what was published.
        UserError: There are no weights of that name.
    """
    wanted = weights_file(source)
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
    return PretrainedWeights(((path, sha256),), source)


def _of_trial(source: str, address: NameAddress, folder: Path, storage: Path) -> PretrainedWeights:
    if address.which is None:
        raise UserError(f"{source}: which of its trials? {source}/best, or {source}/3fa9")
    results = results_of(source, address.name, folder, storage)
    trial = best_trial(results.state) if address.which == "best" else results.trial()
    if trial is None:
        raise UserError(f"{source}: no trial of {address.name} has finished yet; its sweep has to end first")
    return weights_of_finished(source, results, trial)


def _of_seed(
    source: str, best: str, seed: int, folder: Path, storage: Path, siblings: Sequence[str]
) -> PretrainedWeights:
    """The trial of a seed, of the config that other seeds have begun with, else of the best."""
    name = best.removesuffix("/best")
    results = results_of(best, name, folder, storage)
    of_config = [results.state.trials[trial] for trial in siblings if trial in results.state.trials]
    leader = of_config[0] if of_config else best_trial(results.state)
    if leader is None:
        raise UserError(f"{source}: no trial of {name} has finished yet; its sweep has to end first")
    seeds = {trial.seed: trial for trial in results.state.plan_trials() if trial.config == leader.config}
    if seed not in seeds:
        there = ", ".join(map(str, sorted(seeds)))
        raise UserError(
            f"{source}: of its best config, {name} has trials with seeds {there} and none with seed {seed}; each"
            f" seed begins with the pretraining of its own number. Train {name} with it (sweep.seeds)"
        )
    return weights_of_finished(source, results, seeds[seed])


def results_of(source: str, name: str, folder: Path, storage: Path) -> ResultLocation:
    """The results that an address speaks of.

    Args:
        source: The address.
        name: The name in it.
        folder: Folder of the YAML file.
        storage: The folder of all results.

    Raises:
        UserError: There are none yet, with the command that makes them where its file is here.
    """
    try:
        return find_results(source, storage)
    except AddressUnknown as error:
        file = folder / f"{name}.yaml"
        if not file.is_file():
            raise
        how = f"first run: {command_line('sweep', os.path.relpath(file))}"
        raise UserError(f"there are no results of {name} in {storage} yet; {how}") from error


def weights_of_finished(source: str, results: ResultLocation, trial: TrialState) -> PretrainedWeights:
    """The weights that a trial ended with.

    Args:
        source: The address that leads to it, for messages.
        results: The results that it belongs to.
        trial: The trial.

    Raises:
        UserError: It has not finished, or keeps no checkpoint of its last step.
        CheckpointDamaged: Its checkpoint does not verify.
    """
    if trial.status != "done":
        raise UserError(
            f"{source}: trial {trial.trial} is {trial.status}; only a finished one's weights are taken over"
        )
    checkpoint = _last_checkpoint(results, trial)
    averaged = bool(trial.recipe.get("trainer", {}).get("ema") or trial.latest_values.get("trainer.ema"))
    origin = f"{results.name}/{trial.trial}, step {trial.reports[-1].step}"
    return PretrainedWeights(checkpoint_files(checkpoint, averaged=averaged), origin, trial.trial)


def best_trial(state: SweepState) -> TrialState | None:
    """Of the config with the best mean over its finished trials, the best of these; None before one has finished.

    Args:
        state: The state of a sweep.
    """
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
    chosen = max(configs.values(), key=lambda members: sum(value for value, _ in members) / len(members))
    return max(chosen, key=lambda member: (member[0], -member[1].seed))[1]


def _last_checkpoint(results: ResultLocation, trial: TrialState) -> Path:
    """The checkpoint of the trial's last step: what its metrics are of."""
    last = trial.reports[-1].step if trial.reports else 0
    for path in list_checkpoints(results.trial_folder(trial, checkpoints=True) / CHECKPOINTS_FOLDER):
        if read_checkpoint_manifest(path).step == last:
            return path
    raise UserError(
        f"{results.name}/{trial.trial} has no checkpoint of its last step, {last}: none was kept "
        "(trainer.checkpoint.at_end), or it was removed. Train it again with --fresh"
    )


def checkpoint_files(path: Path, *, averaged: bool) -> tuple[tuple[Path, str], ...]:
    """The files of a checkpoint that hold weights, with their sha256.

    Args:
        path: The checkpoint's folder.
        averaged: Whether the mean of the weights is what counts.

    Raises:
        CheckpointDamaged: It does not verify, or lacks one.
    """
    files = verify_checkpoint(path).files
    names = [WEIGHTS, STATE] if averaged else [WEIGHTS]
    if missing := [name for name in names if name not in files]:
        raise CheckpointDamaged(f"{path} is a checkpoint without {' and '.join(missing)}")
    return tuple((path / name, files[name]["sha256"]) for name in names)
