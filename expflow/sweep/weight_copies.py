"""Copies of the weights that trials begin with, in the results that begin with them: ``NAME/weights/<sha256>``."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from expflow.files import fsync_path
from expflow.training.checkpoints.storage import storage_error
from expflow.training.transfer.pretrained import PretrainedWeights
from expflow.training.transfer.trained_classifier import TrainedClassifier, recorded_classifier

KEPT = "weights"
"""Where an experiment's folder keeps what its trials begin with."""

WEIGHTS, STATE = "weights.pt", "state-0.pt"
"""Files of a checkpoint; the second holds the mean of the weights, where one was kept."""

FEATURES = "features:"
"""Before the address of ``task.features`` in the header's weights: the same one may be in ``init.from``."""

LABELS = "labels:"
"""Before the address of ``data.labels_from`` there."""


def _folder_of(folder: Path, hashes: list[str]) -> Path:
    return folder / KEPT / "-".join(sha256[:16] for sha256 in hashes)


def kept_copies(folder: Path, known: Mapping[str, Any]) -> PretrainedWeights | None:
    """The weights that an earlier driver began with, where their copy is still there. Its content is checked when it is
    read.

    Args:
        folder: The experiment's folder.
        known: What the ledger's header holds of them.
    """
    copies = _folder_of(folder, list(known["files"]))
    files = tuple((copies / name, sha256) for name, sha256 in zip((WEIGHTS, STATE), known["files"], strict=False))
    return PretrainedWeights(files, known["origin"], known["trial"]) if copies.is_dir() else None


def kept_classifier(folder: Path, known: Mapping[str, Any] | None) -> TrainedClassifier | None:
    """A classifier that an earlier driver used, where its copy is still there.

    Args:
        folder: The experiment's folder.
        known: What the ledger's header holds of it; None for nothing.
    """
    copies = kept_copies(folder, known) if known is not None else None
    return recorded_classifier(copies, known["network"]) if copies is not None and known is not None else None


def keep_copies(weights: PretrainedWeights | None, folder: Path) -> PretrainedWeights | None:
    """Weights as copies in the results that begin with them; None for none.

    A checkpoint of ours is linked where the file system can.

    Args:
        weights: The weights.
        folder: The experiment's folder.

    Raises:
        DiskFull: There is no room.
        StorageUnwritable: The folder cannot be written to.
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
    return PretrainedWeights(copies, weights.origin, weights.trial)


def with_copies(network: TrainedClassifier | None, folder: Path) -> TrainedClassifier | None:
    """A classifier whose weights are copies in the results that use it; None for none.

    Args:
        network: The classifier.
        folder: The experiment's folder.

    Raises:
        DiskFull: There is no room.
        StorageUnwritable: The folder cannot be written to.
    """
    weights = keep_copies(network.weights, folder) if network is not None else None
    return replace(network, weights=weights) if network is not None and weights is not None else None


def _copy(weights: PretrainedWeights, copies: tuple[tuple[Path, str], ...], target: Path) -> None:
    draft = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    for leftover in target.parent.glob(f".{target.name}.*.tmp"):  # of a driver that was killed; there is one at a time
        shutil.rmtree(leftover, ignore_errors=True)
    draft.mkdir(parents=True)
    for (source, _), (copy, _) in zip(weights.files, copies, strict=True):
        _link(source, draft / copy.name, whole=bool(weights.trial))
    draft.rename(target)
    fsync_path(target.parent)


def _link(source: Path, target: Path, *, whole: bool) -> None:
    """Link files that are never written to again; copy all others."""
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
