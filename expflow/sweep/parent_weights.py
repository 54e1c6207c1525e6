"""Children that begin with the weights of the config that they were made from (``sweep.searcher.inherit``).

The searched values of such a child name the parent's config (``init.parent``), which so enters the child's id. The
weights are those of the parent's trial with the same seed. They are copied when the child is proposed, so that a sweep
which deletes checkpoints, or is continued, begins with the same ones.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from expflow.config.component_specs import task_spec
from expflow.config.loading import LoadedExperiment
from expflow.config.schema import Recipe, Sweep
from expflow.config.spec import UserComponent
from expflow.config.tree import problem_at
from expflow.errors import ExperimentInvalid, WeightsMissing
from expflow.files import write_atomically
from expflow.ledger import SweepState, TrialState
from expflow.search.specs import ParentSearcherSpec
from expflow.storage.blob_store import is_address
from expflow.sweep.initial_weights import checkpoint_files
from expflow.sweep.weight_copies import KEPT, keep_copies, kept_copies
from expflow.training.transfer.pretrained import PretrainedWeights


def inherits(sweep: Sweep) -> bool:
    """Whether children begin with their parents' weights.

    Args:
        sweep: The sweep.
    """
    return isinstance(sweep.searcher, ParentSearcherSpec) and sweep.searcher.inherit


def check_inheritance(loaded: LoadedExperiment, sweep: Sweep, storage: str) -> None:
    """Refuse what does not go with children that take weights over, and a parent that a file names by itself.

    Args:
        loaded: The experiment as it was read.
        sweep: Its sweep.
        storage: The folder of all results, or its address.

    Raises:
        ExperimentInvalid: With the key and what to do.
    """
    experiment = loaded.experiment
    init, keys = experiment.init, {dimension.key for dimension in sweep.space}
    problems: list[tuple[str, str]] = []
    if (init is not None and init.parent) or "init.parent" in keys:
        problems.append(
            ("init.parent", "searchers with inherit: true fill it in; use init.from for weights of your own")
        )
    if inherits(sweep):
        place = "sweep.searcher"
        if init is not None or any(key.partition(".")[0] == "init" for key in keys):
            problems.append((place, "inherit: children cannot begin with two trainings; remove inherit, or init"))
        if not experiment.trainer.checkpoint.at_end:
            problems.append((place, "inherit needs the weights of a trial's end: trainer.checkpoint.at_end: true"))
        if isinstance(experiment.task, UserComponent) or "model" not in task_spec(experiment.task).slots:
            problems.append((place, "inherit takes over the network under model, which this task has none of"))
        if is_address(storage):
            problems.append((place, "inherit reads a parent's weights from the driver's disk; use a folder as storage"))
    if problems:
        raise ExperimentInvalid([problem_at(loaded.location(key), key, message) for key, message in problems])


def can_inherit(folder: Path, trial: TrialState) -> bool:
    """Whether the weights of a trial can be taken over: it ended, and its checkpoint or a copy is there.

    Args:
        folder: The experiment's folder.
        trial: The trial.
    """
    if trial.status not in ("done", "stopped") or trial.checkpoint is None:
        return False
    return (folder / trial.checkpoint.path).is_dir() or _note(folder, trial).is_file()


def parent_of(state: SweepState, recipe: Recipe, seed: int) -> TrialState | None:
    """The trial whose weights a config begins with: of the same seed, else, for seeds that are added later, the first.

    Args:
        state: The sweep's state.
        recipe: The config's recipe.
        seed: The seed.
    """
    if recipe.init is None or not recipe.init.parent:
        return None
    trials = [trial for trial in state.trials.values() if trial.config == recipe.init.parent and trial.checkpoint]
    return next((trial for trial in trials if trial.seed == seed), trials[0] if trials else None)


def keep_parents(folder: Path, recipe: Recipe, state: SweepState, seeds: Iterable[int]) -> None:
    """Copy the weights that a config begins with, which is being proposed.

    Args:
        folder: The experiment's folder.
        recipe: The config's recipe.
        state: The sweep's state.
        seeds: Its seeds.
    """
    for seed in seeds:
        parent = parent_of(state, recipe, seed)
        if parent is not None and can_inherit(folder, parent):
            first_weights(folder, recipe, None, parent)


def first_weights(
    folder: Path, recipe: Recipe, weights: PretrainedWeights | None, parent: TrialState | None
) -> PretrainedWeights | None:
    """What a trial begins with, as copies in the results; None for fresh weights.

    Args:
        folder: The experiment's folder.
        recipe: What is trained.
        weights: What its ``init.from`` led to.
        parent: The trial whose weights it takes over.

    Raises:
        WeightsMissing: The parent's weights are not there any more.
        CheckpointDamaged: They are not what they were.
        DiskFull: There is no room for a copy.
    """
    if recipe.init is None or not recipe.init.parent:
        return keep_copies(weights, folder)
    if parent is None:
        raise WeightsMissing(
            f"the weights of {recipe.init.parent}, which this child begins with, are not there any more"
        )
    note = _note(folder, parent)
    if note.is_file() and (kept := kept_copies(folder, json.loads(note.read_bytes()))) is not None:
        return kept
    if parent.checkpoint is None or not (path := folder / parent.checkpoint.path).is_dir():
        raise WeightsMissing(f"the checkpoint of {parent.trial}, which this child begins with, is not there any more")
    files = checkpoint_files(path, averaged=bool(recipe.trainer.ema))
    made = PretrainedWeights(files, f"{folder.name}/{parent.trial}", parent.trial)
    copies = keep_copies(made, folder)
    facts = {"files": [sha256 for _, sha256 in files], "origin": made.origin, "trial": made.trial}
    write_atomically(note, json.dumps(facts).encode())
    return copies


def _note(folder: Path, trial: TrialState) -> Path:
    """The file that says which copies are a trial's."""
    return folder / KEPT / f"{trial.trial}.json"
