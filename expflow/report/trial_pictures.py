"""The pictures of one finished trial: drawn from its checkpoint and its kept predictions, and saved beside them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from expflow.errors import StorageUnwritable, UserError
from expflow.files import write_atomically
from expflow.ledger.state import SweepState, TrialState
from expflow.report.formatting import trial_label
from expflow.report.overlap_draws import read_overlaps
from expflow.report.prediction_files import read_predictions
from expflow.sweep.finished_trial import FinishedTrial, load_finished_trial
from expflow.sweep.result_location import ResultLocation

if TYPE_CHECKING:
    from expflow.report.canvas import RenderedFigure
    from expflow.training.evaluation.evaluator import Evaluator
    from expflow.training.evaluation.guided import InversionRule
    from expflow.training.evaluation.predictions import Predictions

FOLDER = "pictures"
"""Where a trial's pictures lie in its own folder."""
_ABOUT = "about.json"
_DRAWN_FROM = {"predictions": ("--worst", "--confusion"), "overlaps": ("--worst",), "detections": ("--worst",)}
"""What a trial keeps of val to the options of ``show`` that draw it."""
_TEXTS = ("title", "caption", "alt")


@dataclass(frozen=True)
class SavedPicture:
    """A picture that was saved.

    Attributes:
        path: The PNG file.
        title: Its title.
        caption: What a reader must know.
        alt: What it shows, in words.
    """

    path: Path
    title: str
    caption: str
    alt: str


@dataclass(frozen=True)
class InsidePictures:
    """What is drawn of the inside of a network; nothing where nothing is named.

    Attributes:
        top_patches: A layer, of whose feature maps the most exciting patches are drawn.
        invert: A layer whose units are projected back to the pixels.
        invert_by: The rule by which they are.
        dream: A class or a layer that an image is made for.
        attention: Whether the attention of a vision transformer is drawn.
    """

    top_patches: str | None = None
    invert: str | None = None
    invert_by: InversionRule = "guided"
    dream: str | None = None
    attention: bool = False

    def __bool__(self) -> bool:
        """Whether anything is drawn."""
        return self != InsidePictures()


def drawing_options(folder: Path, state: SweepState, trial: TrialState) -> tuple[str, ...]:
    """The options of ``show`` that draw what a trial has kept of val; none where it keeps nothing to be drawn.

    Args:
        folder: The results folder of the experiment.
        state: What its ledger adds up to.
        trial: The trial.
    """
    kept = ResultLocation(folder, state).trial_folder(trial)
    return next((options for what, options in _DRAWN_FROM.items() if (kept / f"{what}-val.npz").exists()), ())


def draw_trial_pictures(
    location: ResultLocation,
    trial: TrialState,
    *,
    filters: bool,
    confusion: bool,
    worst: bool,
    inside: InsidePictures | None = None,
) -> list[RenderedFigure]:
    """Pictures of a finished trial on val.

    Args:
        location: The results that the trial is of.
        trial: The trial.
        filters: Whether the first layer's filters or templates are drawn.
        confusion: Whether the confusion matrix is drawn.
        worst: Whether the best, the worst and the surest wrong predictions are drawn.
        inside: What is drawn of its inside.

    Raises:
        UserError: The trial has nothing of that kind to show.
        ExpflowError: What :func:`~expflow.sweep.finished_trial.load_finished_trial` raises.
    """
    from expflow.report.confusion_figure import confusion_figure  # matplotlib takes most of a second

    finished, drawn = load_finished_trial(location, trial), list["RenderedFigure"]()
    of = f"{location.name}, {trial_label(trial)}"
    with finished.open_evaluator() as evaluator:
        spec, classes = evaluator.data_spec, evaluator.data_spec.classes
        drawn += [_draw_filters(finished, evaluator, of)] if filters else []
        masks, boxes = (worst and bool(spec.of_kind(kind)) for kind in ("mask", "boxes"))
        drawn += [_draw_masks(location, finished, evaluator, of)] if masks else []
        drawn += [_draw_boxes(location, finished, evaluator, of)] if boxes else []
        if confusion or (worst and not masks and not boxes):
            predictions = _predictions(location, finished, evaluator)
        if confusion:
            drawn.append(confusion_figure(predictions, classes, of))
        if worst and not masks and not boxes:
            drawn.append(_draw_cases(predictions, evaluator, of))
        return drawn + (_draw_inside(finished, evaluator, inside, of) if inside else [])


def _draw_inside(
    finished: FinishedTrial, evaluator: Evaluator, inside: InsidePictures, of: str
) -> list[RenderedFigure]:
    from expflow.architectures.transformer import Transformer
    from expflow.report.inside_figures import attention_figure, dream_figure, patches_figure, text_attention_figure
    from expflow.training.evaluation.attention_maps import attention_maps
    from expflow.training.evaluation.dreams import dream
    from expflow.training.evaluation.text_attention import text_attention
    from expflow.training.evaluation.top_patches import network_of, top_patches

    if inside.top_patches or inside.invert or inside.attention:
        _require_val(finished)
    weights, drawn = finished.load_weights(evaluator).weights, list["RenderedFigure"]()
    if inside.top_patches:
        drawn.append(patches_figure(top_patches(evaluator, weights, inside.top_patches), of))
    if inside.invert:
        top = top_patches(evaluator, weights, inside.invert, inverted_by=inside.invert_by)
        drawn.append(patches_figure(top, of))
    if inside.dream:
        drawn.append(dream_figure(dream(evaluator, weights, inside.dream), of))
    if inside.attention and isinstance(network_of(evaluator.task), Transformer):
        drawn.append(text_attention_figure(text_attention(evaluator, weights), of))
    elif inside.attention:
        drawn.append(attention_figure(attention_maps(evaluator, weights), of))
    return drawn


def _draw_cases(predictions: Predictions, evaluator: Evaluator, of: str) -> RenderedFigure:
    from expflow.report.case_figure import case_figure, case_rows, select_cases
    from expflow.training.evaluation.network_inspection import sample_images

    chosen = select_cases(predictions)
    ids = [int(predictions.ids[row]) for row in case_rows(chosen)]
    images = sample_images(evaluator, "val", ids)
    return case_figure(predictions, chosen, images, evaluator.data_spec.classes, of)


def _draw_filters(finished: FinishedTrial, evaluator: Evaluator, of: str) -> RenderedFigure:
    from expflow.report.filter_figure import filter_figure
    from expflow.training.evaluation.network_inspection import first_layer_with

    layer = first_layer_with(evaluator, finished.load_weights(evaluator).weights)
    if layer is None:
        raise UserError(f"{of} has no first layer to draw: no convolution and no linear layer takes the image as it is")
    return filter_figure(layer, evaluator.data_spec.classes, of)


def _draw_masks(location: ResultLocation, finished: FinishedTrial, evaluator: Evaluator, of: str) -> RenderedFigure:
    """The best and the worst masks on val."""
    from expflow.report.mask_figure import CASES, mask_figure
    from expflow.training.evaluation.mask_cases import mask_cases, ranked_images

    _require_val(finished)
    overlaps = read_overlaps(location.folder, location.state, finished.trial, "val")
    if overlaps is None:
        raise UserError(f"trial {finished.trial.trial} has no kept overlaps of masks; the same sweep trains it again")
    ranked = ranked_images(overlaps)
    best, worst = ranked[:CASES], ranked[::-1][:CASES]
    cases = mask_cases(evaluator, finished.load_weights(evaluator).weights, "val", dict([*best, *worst]))
    best_cases, worst_cases = ([cases[sample] for sample, _ in part] for part in (best, worst))
    return mask_figure(best_cases, worst_cases, evaluator.data_spec.classes, "val", of)


def _draw_boxes(location: ResultLocation, finished: FinishedTrial, evaluator: Evaluator, of: str) -> RenderedFigure:
    """The best and the worst detections on val, and the surest wrong boxes."""
    from expflow.report.detection_figure import detection_figure, select_detections
    from expflow.training.evaluation.network_inspection import sample_images

    _require_val(finished)
    from expflow.report.detection_draws import read_detections  # it imports Pillow

    arrays = read_detections(location.folder, location.state, finished.trial, "val")
    if arrays is None:
        raise UserError(f"trial {finished.trial.trial} has no kept detections; the same sweep trains it again")
    cases = select_detections(arrays)
    images = sample_images(evaluator, "val", [int(arrays.ids[row]) for row in cases.rows()])
    data = evaluator.data_spec
    return detection_figure(arrays, cases, images, data.classes, "val", of, data.points)


def _require_val(finished: FinishedTrial) -> None:
    if not finished.has_val:
        name = finished.trial.trial
        raise UserError(f"trial {name} has no val: it was trained on it (trainer.fit_on), or there is none")


def _predictions(location: ResultLocation, finished: FinishedTrial, evaluator: Evaluator) -> Predictions:
    """Those that the trial kept on val; made again where they are not there any more."""
    _require_val(finished)
    kept = read_predictions(location.folder, location.state, finished.trial.trial, "val")
    made = kept or evaluator.evaluate(finished.load_weights(evaluator).weights, "val").predictions
    if made is None:
        raise UserError(
            "confusions and wrong predictions are drawn of tasks that put each sample as a whole into one class, and "
            "this task does not"
        )
    return made


def save_trial_pictures(drawings: Sequence[RenderedFigure], location: ResultLocation, trial: TrialState) -> list[Path]:
    """Write pictures into the trial's folder, beside those that were saved before.

    Args:
        drawings: The pictures.
        location: The results that the trial is of.
        trial: The trial.

    Returns:
        Where each picture lies.

    Raises:
        StorageUnwritable: The folder cannot be written.
    """
    folder = location.trial_folder(trial) / FOLDER
    about = {name: entry for name, entry in _about(folder).items() if entry.get("weights") == trial.weights}
    paths = write_pictures(drawings, folder)
    about |= {
        drawing.name: {**{key: getattr(drawing, key) for key in _TEXTS}, "weights": trial.weights}
        for drawing in drawings
    }
    _replace(folder / _ABOUT, json.dumps(about, indent=1).encode())
    return paths


def write_pictures(drawings: Sequence[RenderedFigure], folder: Path) -> list[Path]:
    """Write each picture as PNG, each whole or not at all.

    Args:
        drawings: The pictures.
        folder: Where they go.

    Returns:
        Where each picture lies.

    Raises:
        StorageUnwritable: The folder cannot be written.
    """
    return [_replace(folder / f"{drawing.name}.png", drawing.png) for drawing in drawings]


def _replace(path: Path, content: bytes) -> Path:
    try:
        return write_atomically(path, content, durable=True)
    except OSError as error:
        raise StorageUnwritable(f"{path} cannot be written: {error.strerror or error}") from error


def _about(folder: Path) -> dict[str, dict[str, str]]:
    """What was saved in a trial's folder: picture -> its texts, and the weights that it was drawn from."""
    try:
        about: dict[str, dict[str, str]] = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # none yet, or a file of the user's own: pictures can be drawn again at any time
        return {}
    return about if isinstance(about, dict) else {}


def saved_pictures(folder: Path, state: SweepState, trial: TrialState) -> list[SavedPicture]:
    """The saved pictures of a trial that are of its present weights, in the order they were first drawn.

    Args:
        folder: The results folder of the experiment.
        state: What its ledger adds up to.
        trial: The trial.
    """
    place = ResultLocation(folder, state).trial_folder(trial) / FOLDER
    return [
        SavedPicture(place / f"{name}.png", entry["title"], entry["caption"], entry["alt"])
        for name, entry in _about(place).items()
        if entry.get("weights") == trial.weights and (place / f"{name}.png").is_file()
    ]
