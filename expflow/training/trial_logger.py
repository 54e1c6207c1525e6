"""``self.logger`` of a trial: what a module or callback logs by it joins the trial's reports and artifacts.

It answers to what modules call on Lightning's loggers: ``log_metrics``, ``log_hyperparams``, ``log_image``,
``log_table``, and, by ``experiment``, to the writing methods of TensorBoard's ``SummaryWriter``.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import re
import sys
from argparse import Namespace
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pytorch_lightning.loggers import Logger

from expflow.errors import UserError
from expflow.training.artifacts import ArtifactWriter
from expflow.training.logged_images import as_array, as_image, as_it_is_now

logger = logging.getLogger(__name__)

LIGHTNING_FOLDER = "lightning"
"""Where files that Lightning's own callbacks write lie in a trial's folder."""

_MOST_WAITING = 32
"""Pictures that wait for the next report."""

_LONGEST_VALUE = 500
"""Characters of a hyperparameter's text that are kept."""


class TrialLogger(Logger):
    """The one logger of a trial's Trainer.

    Metrics that are logged by it (and not by ``self.log``, whose metrics are in the reports anyway) join the trial's
    next report; pictures, figures, tables, texts and hyperparameters become artifacts. Rank 0 keeps them.
    Pictures are written with the next report, the newest of each name and step: a module may log one in every step.

    Args:
        artifacts: Writes the artifacts; by default they are discarded.
        folder: The trial's folder; None where it keeps nothing.
        keeps: Whether anything is kept: false on other ranks than 0.
    """

    def __init__(
        self, artifacts: ArtifactWriter | None = None, folder: Path | None = None, *, keeps: bool = True
    ) -> None:
        super().__init__()
        self._artifacts, self._folder, self._keeps = artifacts or ArtifactWriter(), folder, keeps
        self._metrics: dict[str, float] = {}
        self._pictures: dict[tuple[str, int], tuple[Any, str]] = {}
        self._described = False
        self._step = 0
        self._experiment = _Experiment(self)

    @property
    def name(self) -> str:
        """First part of the folder for files of Lightning's callbacks."""
        return LIGHTNING_FOLDER

    @property
    def version(self) -> str:
        """None: a trial has one."""
        return ""

    @property
    def save_dir(self) -> str | None:
        """The trial's folder."""
        return str(self._folder) if self._folder is not None else None

    @property
    def root_dir(self) -> str | None:
        """Where Lightning's own callbacks write to."""
        return str(self._folder / LIGHTNING_FOLDER) if self._folder is not None else None

    @property
    def log_dir(self) -> str | None:
        """As :attr:`root_dir`."""
        return self.root_dir

    @property
    def experiment(self) -> _Experiment:
        """What takes the place of TensorBoard's ``SummaryWriter``."""
        return self._experiment

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Keep metrics for the next report.

        Args:
            metrics: Name to number; the newest value counts.
            step: Where in the training they are from.

        Raises:
            UserError: A value is no number.
        """
        self._step = step if step is not None else self._step
        if self._keeps:
            self._metrics |= {name: _number(name, value) for name, value in metrics.items()}

    def flush(self) -> None:
        """Write the pictures that wait."""
        pictures, self._pictures = self._pictures, {}
        for (name, step), (image, formats) in pictures.items():
            self._artifacts.write_image(name, as_image(image, formats), step)

    def take_metrics(self) -> dict[str, float]:
        """The metrics since the last call, without Lightning's own ``epoch`` and ``step``; pictures are written."""
        self.flush()
        metrics, self._metrics = self._metrics, {}
        return {name: value for name, value in metrics.items() if name not in ("epoch", "step")}

    def log_hyperparams(
        self,
        params: Mapping[str, Any] | Namespace,
        metrics: Mapping[str, Any] | None = None,
        step: int | None = None,
        **more: Any,
    ) -> None:
        """Write hyperparameters as the text ``hyperparameters``, a line for each. The trial's first ones count.

        Args:
            params: Name to value.
            metrics: Metrics that TensorBoard shows beside them; they join the next report.
            step: Where in the training they are from.
            more: Nothing else is looked at.
        """
        given = dict(params if isinstance(params, Mapping) else vars(params))
        if given and not self._described:
            self._described = True
            lines = [f"{name}: {_text(value)}\n" for name, value in given.items()]
            self.write_text("hyperparameters", "".join(lines), step or 0)
        self.log_metrics(metrics or {}, step)

    def log_image(self, key: str, images: Any, step: int | None = None, **more: Any) -> None:
        """Write pictures as artifacts.

        Args:
            key: Their name.
            images: One picture or a list: arrays or tensors (h, w), (h, w, c) or (c, h, w) of uint8 or of numbers from
                0 to 1, PIL images, or figures of matplotlib.
            step: Which step they show.
            more: Captions are not kept.
        """
        several = list(images) if isinstance(images, list | tuple) else [images]
        for number, image in enumerate(several):
            self.write_image(key if len(several) == 1 else f"{key}.{number}", image, step)

    def log_figure(self, key: str, figure: Any, step: int | None = None, **more: Any) -> None:
        """Write a figure of matplotlib as an artifact.

        Args:
            key: Its name.
            figure: The figure.
            step: Which step it shows.
            more: Nothing else is looked at.
        """
        self.write_image(key, figure, step)

    def log_table(
        self,
        key: str,
        columns: Sequence[str] | None = None,
        data: Iterable[Sequence[Any]] | None = None,
        dataframe: Any = None,
        step: int | None = None,
    ) -> None:
        """Write a table as an artifact.

        Args:
            key: Its name.
            columns: Names of the columns.
            data: Its rows.
            dataframe: A pandas DataFrame instead of these.
            step: Which step it shows.
        """
        if dataframe is not None:
            columns, data = list(dataframe.columns), dataframe.itertuples(index=False)
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(columns or [])
        rows.writerows(data or [])
        self._artifacts.write_table(_artifact_name(key), text.getvalue(), self._at(step))

    def log_text(self, key: str, *arguments: Any, **more: Any) -> None:
        """Write a text, or a table of texts as in :meth:`log_table`.

        Args:
            key: Its name.
            arguments: The text and its step, or what :meth:`log_table` takes.
            more: As for :meth:`log_table`.
        """
        if arguments and isinstance(arguments[0], str):
            self.write_text(key, arguments[0], arguments[1] if len(arguments) > 1 else more.get("step"))
        else:
            self.log_table(key, *arguments, **more)

    def write_image(self, key: str, image: Any, step: int | None, formats: str = "") -> None:
        """Write one picture.

        Args:
            key: Its name.
            image: As in :meth:`log_image`.
            step: Which step it shows.
            formats: Order of the axes, such as CHW; "" where the shape tells.
        """
        if not self._keeps:
            return
        self._pictures[_artifact_name(key), self._at(step)] = as_it_is_now(image), formats
        if len(self._pictures) >= _MOST_WAITING:
            self.flush()

    def write_text(self, key: str, text: str, step: int | None) -> None:
        """Write one text.

        Args:
            key: Its name.
            text: The text.
            step: Which step it is from.
        """
        self._artifacts.write_text(_artifact_name(key), text, self._at(step))

    def _at(self, step: int | None) -> int:
        return int(step) if step is not None else self._step


class _Experiment:
    """The writing methods of TensorBoard's ``SummaryWriter``, and the few of other services that modules call.

    What is no metric, picture, table or text is not kept, which is said once.

    Args:
        logger: The trial's logger.
    """

    def __init__(self, logger: TrialLogger) -> None:
        self._logger = logger
        self._refused: set[str] = set()

    def add_scalar(
        self, tag: str, scalar_value: Any, global_step: int | None = None, *more: Any, **others: Any
    ) -> None:
        """A metric for the next report."""
        self._logger.log_metrics({tag: scalar_value}, global_step)

    def add_scalars(self, main_tag: str, tag_scalar_dict: Mapping[str, Any], global_step: int | None = None) -> None:
        """Several metrics, under ``main_tag/``."""
        self._logger.log_metrics({f"{main_tag}/{tag}": value for tag, value in tag_scalar_dict.items()}, global_step)

    def add_image(
        self, tag: str, img_tensor: Any, global_step: int | None = None, walltime: Any = None, dataformats: str = "CHW"
    ) -> None:
        """A picture."""
        self._logger.write_image(tag, img_tensor, global_step, dataformats)

    def add_images(
        self, tag: str, img_tensor: Any, global_step: int | None = None, walltime: Any = None, dataformats: str = "NCHW"
    ) -> None:
        """Several pictures of one size, side by side in one."""
        self._logger.write_image(tag, img_tensor, global_step, dataformats)

    def add_figure(self, tag: str, figure: Any, global_step: int | None = None, close: bool = True, *more: Any) -> None:
        """A figure of matplotlib, or several, which pyplot then forgets, as it does with TensorBoard."""
        self._logger.log_image(tag, figure, global_step)
        pyplot = sys.modules.get("matplotlib.pyplot")  # not imported here: who draws has done so
        if close and pyplot is not None:
            for drawn in figure if isinstance(figure, list) else [figure]:
                pyplot.close(drawn)

    def add_text(self, tag: str, text_string: str, global_step: int | None = None, *more: Any) -> None:
        """A text."""
        self._logger.write_text(tag, text_string, global_step)

    def add_histogram(self, tag: str, values: Any, global_step: int | None = None, bins: Any = 64, *more: Any) -> None:
        """A table of how many values fall between which bounds."""
        counts, edges = np.histogram(as_array(values), bins if isinstance(bins, int) else 64)
        rows = zip(edges[:-1].tolist(), edges[1:].tolist(), counts.tolist(), strict=True)
        self._logger.log_table(tag, ["from", "to", "count"], rows, step=global_step)

    def add_hparams(self, hparam_dict: Mapping[str, Any], metric_dict: Mapping[str, Any], *more: Any, **o: Any) -> None:
        """Hyperparameters, and metrics beside them."""
        self._logger.log_hyperparams(hparam_dict, metric_dict)

    def log(self, values: Mapping[str, Any], step: int | None = None, **more: Any) -> None:
        """Metrics and figures, as wandb's runs take them; its own media are not kept."""
        for name, value in values.items():
            if hasattr(value, "savefig"):
                self._logger.log_figure(name, value, step)
            elif np.ndim(value) == 0 and not isinstance(value, str) and hasattr(value, "__float__"):
                self._logger.log_metrics({name: value}, step)
            else:
                self._say_once(f"log({type(value).__name__})")

    def log_metric(self, name: str, value: Any, step: int | None = None, **more: Any) -> None:
        """A metric, as Comet's experiments take it."""
        self._logger.log_metrics({name: value}, step)

    def log_image(self, image_data: Any, name: Any = "image", step: int | None = None, **more: Any) -> None:
        """A picture and its name, in either order."""
        image, key = (name, image_data) if isinstance(image_data, str) else (image_data, name)
        self._logger.write_image(str(key), image, step)

    def log_figure(self, figure_name: str, figure: Any, step: int | None = None, **more: Any) -> None:
        """A figure of matplotlib."""
        self._logger.log_figure(figure_name, figure, step)

    def flush(self) -> None:
        """Nothing waits to be written."""

    def close(self) -> None:
        """Nothing is open."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        """Methods that write something else: training goes on, and it is said once that nothing is kept."""
        if not name.startswith(("add_", "log_")):
            raise AttributeError(
                f"the logger of a trial has no {name!r}; expflow.training.trial_logger says what it has"
            )

        return lambda *arguments, **more: self._say_once(name)

    def _say_once(self, what: str) -> None:
        if what not in self._refused:
            self._refused.add(what)
            logger.warning("self.logger.experiment.%s: nothing is kept of this; see trainer.artifacts", what)


def _number(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError) as error:
        kind = type(value).__name__
        raise UserError(f"self.logger was given {kind} as the metric {name!r}: a number is needed") from error


def _artifact_name(key: str) -> str:
    """A name that a file may have: TensorBoard's tags have slashes and spaces."""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "_", str(key)).lstrip("_.-")
    return name[:100] or "unnamed"


def _text(value: Any) -> str:
    try:
        text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    except (TypeError, ValueError):
        text = str(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}…"
