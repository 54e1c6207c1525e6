"""Pictures and tables that trials of the selected config wrote, and samples of the others; files are verified."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from expflow.events import ArtifactWritten
from expflow.files import PNG_SIGNATURE
from expflow.ledger.state import SweepState, TrialState
from expflow.report import formatting
from expflow.report.formatting import plural, trial_label
from expflow.report.leaderboard import rank_configs, selected_row
from expflow.report.text_table import TableColumn, TextTable

IMAGE_BYTES = 20_000_000
"""Bytes of images that a page embeds; a browser takes long to open a larger one."""
SAMPLES = "samples"
"""Artifact of which the page shows one of each config."""
MOST_OTHERS = 12
"""Configs besides the selected one whose samples are shown."""
TABLE_BYTES = 1_000_000
"""Bytes of a table's file that is shown."""
TABLE_ROWS = 100
"""Rows of a table that are shown."""


@dataclass(frozen=True)
class ArtifactImage:
    """A picture that a trial wrote.

    Attributes:
        title: Its name, trial and step.
        source: The file's content as a ``data:`` address.
        path: The file, relative to the results folder.
    """

    title: str
    source: str
    path: str


@dataclass(frozen=True)
class ArtifactTable:
    """A table that a trial wrote.

    Attributes:
        title: Its name, trial and step.
        table: Its columns and rows.
        left_out: How many further rows the file has.
        path: The file, relative to the results folder.
    """

    title: str
    table: TextTable
    left_out: int
    path: str


@dataclass(frozen=True)
class ArtifactSection:
    """What the trials of the selected config wrote, the newest step of each name.

    Attributes:
        images: The pictures.
        tables: The tables.
        notes: Which files are missing, were changed or are left out.
    """

    images: tuple[ArtifactImage, ...] = ()
    tables: tuple[ArtifactTable, ...] = ()
    notes: tuple[str, ...] = ()


class ArtifactUnreadable(Exception):
    """An artifact's file is missing, or is another one than the trial wrote; the message says which."""


def newest_artifacts(trial: TrialState) -> list[ArtifactWritten]:
    """A trial's artifacts, the newest step of each name and kind, in the order in which these were first written.

    Args:
        trial: The trial.
    """
    newest: dict[tuple[str, str], ArtifactWritten] = {}
    for artifact in trial.artifacts.values():
        key = artifact.name, artifact.artifact_kind
        if key not in newest or artifact.step >= newest[key].step:
            newest[key] = artifact
    return list(newest.values())


def read_artifact(folder: Path, artifact: ArtifactWritten) -> bytes:
    """The content of an artifact's file, which is compared with what the ledger says of it.

    Args:
        folder: The results folder.
        artifact: The artifact.

    Raises:
        ArtifactUnreadable: The file is missing, lies outside of the folder, or is not what the trial wrote.
    """
    path = (folder / artifact.path).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise ArtifactUnreadable("lies outside of the results folder")
    try:
        if path.stat().st_size != artifact.size:
            raise ArtifactUnreadable("was changed since the trial wrote it (its size differs)")
        content = path.read_bytes()
    except FileNotFoundError:
        raise ArtifactUnreadable("is missing") from None
    except OSError as error:
        raise ArtifactUnreadable(f"cannot be read: {error.strerror or error}") from error
    if hashlib.sha256(content).hexdigest() != artifact.sha256:
        raise ArtifactUnreadable("was changed since the trial wrote it (its sha256 differs)")
    return content


def read_picture(folder: Path, artifact: ArtifactWritten) -> bytes:
    """:func:`read_artifact` of a picture.

    Args:
        folder: The results folder.
        artifact: The artifact.

    Raises:
        ArtifactUnreadable: As there, or it is no PNG file.
    """
    content = read_artifact(folder, artifact)
    if not content.startswith(PNG_SIGNATURE):
        raise ArtifactUnreadable("is no PNG file")
    return content


def newest_samples(state: SweepState) -> ArtifactWritten | None:
    """The picture of samples to look at while a sweep goes on: of the trial that began last, of those that drew any.

    Args:
        state: What the ledger adds up to.
    """
    trials = sorted(state.plan_trials(), key=lambda trial: trial.started_at)
    drawn = [
        artifact
        for trial in trials
        for artifact in newest_artifacts(trial)
        if artifact.name == SAMPLES and artifact.artifact_kind == "image"
    ]
    return drawn[-1] if drawn else None


def artifact_section(folder: Path, state: SweepState) -> ArtifactSection:
    """The pictures and tables of the selected config's trials, and the samples of one trial of each other config.

    Args:
        folder: The results folder.
        state: What its ledger adds up to.

    Returns:
        An empty section before there is a selected config.
    """
    row = selected_row(state)
    if row is None:
        return ArtifactSection()
    written = [(trial, artifact) for trial in row.trials for artifact in newest_artifacts(trial)]
    written += _samples_of_others(state, row.config)
    notes: list[str] = []
    images = _images(folder, [pair for pair in written if pair[1].artifact_kind == "image"], notes)
    tables = _tables(folder, [pair for pair in written if pair[1].artifact_kind == "table"], notes)
    return ArtifactSection(tuple(images), tuple(tables), tuple(notes))


def _samples_of_others(state: SweepState, selected: str) -> list[tuple[TrialState, ArtifactWritten]]:
    """The newest samples of the first trial of each other config, the best configs first: to be compared by eye."""
    rows = [row for row in rank_configs(state).rows if row.config != selected]
    trials = [row.trials[0] for row in rows[:MOST_OTHERS] if row.trials]
    return [(trial, artifact) for trial in trials for artifact in newest_artifacts(trial) if artifact.name == SAMPLES]


def _title(trial: TrialState, artifact: ArtifactWritten) -> str:
    return f"{artifact.name} of {trial_label(trial)}, step {artifact.step}"


def _images(
    folder: Path, written: Sequence[tuple[TrialState, ArtifactWritten]], notes: list[str]
) -> list[ArtifactImage]:
    images, spent, left = [], 0, list[ArtifactWritten]()
    for trial, artifact in written:
        if spent + artifact.size > IMAGE_BYTES:
            left.append(artifact)
            continue
        try:
            content = read_picture(folder, artifact)
        except ArtifactUnreadable as error:
            notes.append(f"{_title(trial, artifact)}: {artifact.path} {error}.")
            continue
        spent += artifact.size
        source = f"data:image/png;base64,{base64.b64encode(content).decode()}"
        images.append(ArtifactImage(_title(trial, artifact), source, artifact.path))
    if left:
        size = formatting.size(sum(artifact.size for artifact in left))
        limit = formatting.size(IMAGE_BYTES)
        notes.append(
            f"{plural(len(left), 'further image')} of {size} in all: a page holds at most {limit} of images. "
            "`expflow show NAME/ID` lists a trial's files."
        )
    return images


def _tables(
    folder: Path, written: Sequence[tuple[TrialState, ArtifactWritten]], notes: list[str]
) -> list[ArtifactTable]:
    tables = []
    for trial, artifact in written:
        try:
            if artifact.size > TABLE_BYTES:
                raise ArtifactUnreadable(f"is not shown: it has more than {formatting.size(TABLE_BYTES)}")
            table, left_out = _parse_csv(read_artifact(folder, artifact))
        except ArtifactUnreadable as error:
            notes.append(f"{_title(trial, artifact)}: {artifact.path} {error}.")
            continue
        tables.append(ArtifactTable(_title(trial, artifact), table, left_out, artifact.path))
    return tables


def _parse_csv(content: bytes) -> tuple[TextTable, int]:
    """The table, and how many of its rows are left out. Rows that are too short are filled with empty cells."""
    try:
        rows = [row for row in csv.reader(io.StringIO(content.decode("utf-8", "replace"), newline="")) if row]
    except csv.Error as error:
        raise ArtifactUnreadable(f"is no table: {error}") from error
    if not rows:
        raise ArtifactUnreadable("is an empty table")
    width = max(map(len, rows))
    titles, *cells = ((*row, *[""] * (width - len(row))) for row in rows)
    columns = tuple(
        TableColumn(title, "right" if all(_is_number(row[at]) for row in cells) else "left")
        for at, title in enumerate(titles)
    )
    return TextTable(columns, tuple(cells[:TABLE_ROWS])), max(0, len(cells) - TABLE_ROWS)


def _is_number(cell: str) -> bool:
    try:
        float(cell or "0")
    except ValueError:
        return False
    return True
