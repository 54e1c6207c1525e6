"""The pictures of one finished trial: drawn from its checkpoint and its kept predictions, and kept beside them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from expflow.errors import StorageUnwritable, UserError
from expflow.files import replace_whole
from expflow.ledger.state import SweepState, TrialState
from expflow.report import words
from expflow.report.images import predictions_of
from expflow.sweep.finished import Finished, finished
from expflow.sweep.results import Found

if TYPE_CHECKING:
    from expflow.report.drawing import Drawing
    from expflow.training.protocol.evaluating import Bench
    from expflow.training.protocol.predictions import Predictions

FOLDER = "pictures"
"""Where a trial's pictures lie in its own folder."""
_ABOUT = "about.json"


@dataclass(frozen=True)
class Kept:
    """A picture that was kept: a PNG file, and what is to be said of it."""

    path: Path
    title: str
    caption: str
    alt: str


def draw_inside(found: Found, trial: TrialState, *, filters: bool, confusion: bool, worst: bool) -> list[Drawing]:
    """The pictures that are asked for, of ``trial`` on val.

    Raises UserError where the trial has no such thing to show, and what
    :func:`~expflow.sweep.finished.finished` raises.
    """
    from expflow.report import pictures  # matplotlib takes most of a second

    ready, drawn = finished(found, trial), list["Drawing"]()
    of = f"{found.name}, {_label(trial)}"
    with ready.bench() as bench:
        classes = bench.data_spec.classes
        if filters:
            drawn.append(_filters(ready, bench, of))
        if confusion or worst:
            predictions = _predictions(found, ready, bench)
        if confusion:
            drawn.append(pictures.confusion_matrix(predictions, classes, of))
        if worst:
            from expflow.training.protocol.inside import images_of

            chosen = pictures.cases(predictions)
            images = images_of(bench, "val", [int(predictions.ids[row]) for row in pictures.case_rows(chosen)])
            drawn.append(pictures.case_pictures(predictions, chosen, images, classes, of))
    return drawn


def _label(trial: TrialState) -> str:
    return f"{words.config_label(trial.values)} s{trial.seed}"


def _filters(ready: Finished, bench: Bench, of: str) -> Drawing:
    from expflow.report.pictures import filters
    from expflow.training.protocol.inside import layer_of

    layer = layer_of(bench, ready.held(bench).weights)
    if layer is None:
        raise UserError(f"{of} has no first layer to draw: no convolution and no linear layer takes the image as it is")
    return filters(layer, bench.data_spec.classes, of)


def _predictions(found: Found, ready: Finished, bench: Bench) -> Predictions:
    """Those that the trial kept on val; made again where they are not there any more."""
    if not ready.has_val:
        raise UserError(
            f"trial {ready.trial.trial} has no val: it was trained on it (trainer.fit_on), or there is none"
        )
    kept = predictions_of(found.folder, found.state, ready.trial.trial, "val")
    made = kept or bench.measure(ready.held(bench).weights, "val").predictions
    if made is None:
        raise UserError("the task gives no scores for its samples, so there are no predictions to show")
    return made


def keep(drawings: Sequence[Drawing], found: Found, trial: TrialState) -> list[Path]:
    """Write the pictures into the trial's folder, beside those that were kept before; where each one lies.

    Raises StorageUnwritable.
    """
    folder = found.trial_folder(trial) / FOLDER
    about = {name: each for name, each in _about(folder).items() if each.get("weights") == trial.weights}
    paths = write_pictures(drawings, folder)
    said = ("title", "caption", "alt")
    about |= {each.name: {**{key: getattr(each, key) for key in said}, "weights": trial.weights} for each in drawings}
    _replace(folder / _ABOUT, json.dumps(about, indent=1).encode())
    return paths


def write_pictures(drawings: Sequence[Drawing], folder: Path) -> list[Path]:
    """Write each picture as PNG into ``folder``, each whole or not at all. Raises StorageUnwritable."""
    return [_replace(folder / f"{each.name}.png", each.png) for each in drawings]


def _replace(path: Path, content: bytes) -> Path:
    try:
        return replace_whole(path, content, durable=True)
    except OSError as error:
        raise StorageUnwritable(f"{path} cannot be written: {error.strerror or error}") from error


def _about(folder: Path) -> dict[str, dict[str, str]]:
    try:
        found: dict[str, dict[str, str]] = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # none yet, or somebody's own file: pictures are drawn anew at will
        return {}
    return found if isinstance(found, dict) else {}


def kept_pictures(folder: Path, state: SweepState, trial: TrialState) -> list[Kept]:
    """The pictures of ``trial`` that were kept and are of its present weights, in the order they were first drawn."""
    place = Found(folder, state).trial_folder(trial) / FOLDER
    return [
        Kept(place / f"{name}.png", each["title"], each["caption"], each["alt"])
        for name, each in _about(place).items()
        if each.get("weights") == trial.weights and (place / f"{name}.png").is_file()
    ]
