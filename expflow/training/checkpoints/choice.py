"""Which checkpoint an attempt goes on from."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from expflow.config.identity import config_id
from expflow.errors import CheckpointDamaged
from expflow.training.checkpoints.folder import Draft, Manifest, found, step_of, storage_error, verify
from expflow.training.contract import Attempt

FOLDER = "checkpoints"
"""Where a trial's checkpoints lie in its folder."""


@dataclass(frozen=True)
class Choice:
    """A verified checkpoint, or none. ``refused`` says of each newer one why it was passed over.

    ``borrowed`` is true of what another trial saved: its weights and its course go on, under this trial's recipe.
    """

    path: Path | None = None
    manifest: Manifest | None = None
    refused: tuple[str, ...] = ()
    borrowed: bool = False

    @property
    def step(self) -> int:
        """The step to go on from; 0 for the beginning."""
        return self.manifest.step if self.manifest else 0


def choose(attempt: Attempt) -> Choice:
    """The newest checkpoint of ``attempt``'s own trial that verifies, else the one it shall take over, else none.

    Raises CheckpointDamaged where it shall take one over and neither that one nor any before it reads.
    """
    refused: list[str] = []
    config = config_id(attempt.recipe)
    for path in found(attempt.folder / FOLDER) if attempt.folder else ():
        manifest = _verified(path, refused)
        if manifest is None or manifest.forks != attempt.forks:
            continue
        if (manifest.config, manifest.seed) == (config, attempt.seed):
            return Choice(path, manifest, tuple(refused), borrowed=bool(manifest.origin))
        refused.append(f"{path} is of config {manifest.config}, seed {manifest.seed}: not this trial's")
    if attempt.resume is None:
        return Choice(refused=tuple(refused))
    for path in _from(attempt.resume):
        manifest = _verified(path, refused)
        if manifest is not None:
            return Choice(path, manifest, tuple(refused), borrowed=True)
    raise CheckpointDamaged("; ".join([*refused, f"nothing to go on from at {attempt.resume}"]))


def _verified(path: Path, refused: list[str]) -> Manifest | None:
    try:
        return verify(path)
    except CheckpointDamaged as error:
        refused.append(str(error))
        return None


def _from(resume: Path) -> Iterator[Path]:
    """``resume`` and what was saved before it; all of them where it is the folder that holds them."""
    inside = found(resume)
    if inside:
        yield from inside
        return
    yield resume
    try:
        step = step_of(resume)
    except ValueError:
        return
    yield from (path for path in found(resume.parent) if step_of(path) < step)


def adopt(source: Path, folder: Path, *, attempt: Attempt) -> Path:
    """Give the trial in ``folder`` another trial's checkpoint as its own, for ``attempt``'s recipe, seed and forks.

    So that a fork does not depend on what its source prunes later. Files are linked where the file system can.
    Raises CheckpointDamaged where ``source`` does not verify, DiskFull and StorageUnwritable.
    """
    manifest = verify(source)
    draft = Draft(folder / FOLDER, manifest.step, f"-f{attempt.forks}")
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
