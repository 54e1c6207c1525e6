"""Which checkpoint an attempt goes on from."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from expflow.config.identity import config_id
from expflow.errors import CheckpointDamaged
from expflow.training.checkpoints.storage import (
    CheckpointDraft,
    CheckpointManifest,
    checkpoint_step,
    list_checkpoints,
    storage_error,
    verify_checkpoint,
)
from expflow.training.contract import Attempt

CHECKPOINTS_FOLDER = "checkpoints"
"""Where a trial's checkpoints lie in its folder."""


@dataclass(frozen=True)
class CheckpointSelection:
    """A verified checkpoint, or none.

    Attributes:
        path: Its folder; None: from the beginning.
        manifest: What it is.
        refused: Of each newer one, why it was passed over.
        borrowed: Whether another trial saved it: then its training goes on under this trial's recipe.
    """

    path: Path | None = None
    manifest: CheckpointManifest | None = None
    refused: tuple[str, ...] = ()
    borrowed: bool = False

    @property
    def step(self) -> int:
        """The step to go on from; 0 for the beginning."""
        return self.manifest.step if self.manifest else 0


def select_checkpoint(attempt: Attempt) -> CheckpointSelection:
    """The newest checkpoint of the trial itself that is whole, else the one it shall take over, else none.

    Args:
        attempt: The trial, its folder, and the checkpoint of another trial that it shall take over (``resume``).

    Raises:
        CheckpointDamaged: It shall take one over, and neither that one nor any before it is whole.
    """
    refused: list[str] = []
    config = config_id(attempt.recipe)
    for path in list_checkpoints(attempt.folder / CHECKPOINTS_FOLDER) if attempt.folder else ():
        manifest = _verified(path, refused)
        if manifest is None or manifest.forks != attempt.forks:
            continue
        if (manifest.config, manifest.seed) == (config, attempt.seed):
            return CheckpointSelection(path, manifest, tuple(refused), borrowed=bool(manifest.origin))
        refused.append(f"{path} is of config {manifest.config}, seed {manifest.seed}: not this trial's")
    if attempt.resume is None:
        return CheckpointSelection(refused=tuple(refused))
    for path in _up_to(attempt.resume):
        manifest = _verified(path, refused)
        if manifest is not None:
            return CheckpointSelection(path, manifest, tuple(refused), borrowed=True)
    raise CheckpointDamaged("; ".join([*refused, f"nothing to go on from at {attempt.resume}"]))


def _verified(path: Path, refused: list[str]) -> CheckpointManifest | None:
    try:
        return verify_checkpoint(path)
    except CheckpointDamaged as error:
        refused.append(str(error))
        return None


def _up_to(resume: Path) -> Iterator[Path]:
    """``resume`` and what was saved before it; all of them where it is the folder of several."""
    inside = list_checkpoints(resume)
    if inside:
        yield from inside
        return
    yield resume
    try:
        step = checkpoint_step(resume)
    except ValueError:
        return
    yield from (path for path in list_checkpoints(resume.parent) if checkpoint_step(path) < step)


def adopt_checkpoint(source: Path, folder: Path, *, attempt: Attempt) -> Path:
    """Give a trial another trial's checkpoint as its own: a fork does not depend on what its source prunes later.

    Files are linked where the file system can.

    Args:
        source: The other trial's checkpoint.
        folder: The trial's own folder.
        attempt: Its recipe, seed and forks, which the copy's manifest names.

    Returns:
        The copy's folder.

    Raises:
        CheckpointDamaged: ``source`` is not whole.
        DiskFull: There is no room.
        StorageUnwritable: The copy cannot be written for another reason.
    """
    manifest = verify_checkpoint(source)
    draft = CheckpointDraft(folder / CHECKPOINTS_FOLDER, manifest.step, f"-f{attempt.forks}")
    draft.discard()
    try:
        draft.folder.mkdir(parents=True)
        for name in manifest.files:
            _link(source / name, draft.folder / name)
    except OSError as error:
        draft.discard()
        raise storage_error(draft.final, error) from error
    own = replace(
        manifest,
        config=config_id(attempt.recipe),
        seed=attempt.seed,
        forks=attempt.forks,
        origin=manifest.origin or manifest.config,
    )
    draft.commit(own, tuple(manifest.files), lambda: None)
    return draft.final


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)
        with target.open("rb+") as file:
            os.fsync(file.fileno())
