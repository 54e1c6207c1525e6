"""What the ``data`` commands print, and their progress bars."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from expflow.cli.documents.data import described_data
from expflow.cli.documents.printing import print_document
from expflow.data.prepare.prepared import OnProgress, PreparedData
from expflow.data.shards.manifest import how_to_rebuild
from expflow.data.shards.verify import verify_shards
from expflow.data.slots import naming_slot
from expflow.data.target import DataTarget, only_target, resolve_targets
from expflow.errors import ShardCorrupt, UserError
from expflow.live.console import LiteralConsole
from expflow.report.formatting import short_duration
from expflow.text import relative

if TYPE_CHECKING:
    from PIL import Image


class _Pace(ProgressColumn):
    """Rate and time left, counted from where this process began."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        """``1,234 images/s, 2m05s left``."""
        done = task.completed - task.fields["first"]
        if not done or not task.elapsed:
            return Text("")
        rate = done / task.elapsed
        left = (task.total or 0) - task.completed
        return Text(f"{rate:,.0f} {self._unit}/s, {short_duration(left / rate)} left")


@contextmanager
def _progress(console: LiteralConsole, what: str, unit: str, *, wanted: bool = True) -> Iterator[OnProgress]:
    """A bar while the body works, on a terminal; it appears with the first report."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), _Pace(unit))
    with Progress(*columns, console=console, transient=True, disable=not (wanted and console.is_terminal)) as progress:

        def report(done: int, total: int) -> None:
            if not progress.tasks:
                progress.add_task(what, total=total, completed=done, first=done)
            progress.update(progress.tasks[0].id, completed=done, total=total)

        yield report


def show_build(
    what: str, sets: Sequence[str], files: Path | None, out: str | None, workers: int | None, *, as_json: bool = False
) -> None:
    """Build (or find) the shards and print what they hold.

    Args:
        what: A data source or an experiment's file.
        sets: ``--set`` arguments.
        files: Folder of the source's files; None: the file's or the site's.
        out: Where the shards go; None: the cache.
        workers: Processes that read images; None: one per core.
        as_json: Whether JSON is printed.
    """
    console = LiteralConsole()
    targets = resolve_targets(what, sets, files=files)
    if out is not None:
        only_target(targets, "--out")
    prepared = dict[str, PreparedData]()
    for target in targets:
        with _progress(console, f"building {target.spec.name}", "images", wanted=not as_json) as report:
            prepared[target.slot] = target.build(out, workers or len(os.sched_getaffinity(0)), report)
    if as_json:
        print_document(described_data("build", prepared))
        return
    for target in targets:
        data = prepared[target.slot]
        console.print(f"{_heading(target)}{data.manifest.at or data.root}", soft_wrap=True)
        console.print(_summary(data), soft_wrap=True)
        for line in (*data.manifest.remarks(), *_labels_note(target)):
            console.print(f"{_heading(target)}{line}", soft_wrap=True)
    if out is not None:
        line = f"to train from them: data: {{{targets[0].spec.name}: {out}}} in expflow.site.yaml"
        console.print(line, soft_wrap=True)


def _heading(target: DataTarget) -> str:
    """What stands before the line about a source that is one of several."""
    return f"{target.slot}: " if target.slot else ""


def _labels_note(target: DataTarget) -> list[str]:
    """Whose labels trials see, where a recipe gives the train split those of a classifier."""
    if not target.spec.labels_from:
        return []
    return [
        f"labels: trials train on those that {target.spec.labels_from} gives to the train split (data.labels_from);"
        " here they are the source's own"
    ]


def _summary(data: PreparedData) -> str:
    spec = data.manifest.spec
    parts = [", ".join(f"{count:,} {split}" for split, count in data.spec.samples.items())]
    if data.spec.num_classes:
        parts.append(f"{data.spec.num_classes} classes")
    if (image := spec.fields.get("image")) is not None:
        shape = f"{image.shape[0]} channels, of their own sizes" if image.varies else str(image.shape)
        parts.append(f"images {shape}")
    if texts := spec.of_kind("text"):
        parts.append(", ".join(f"{name} of {len(spec.fields[name].vocabulary)} tokens" for name in texts))
    return "; ".join(parts)


def show_verify(what: str, sets: Sequence[str], *, as_json: bool = False) -> None:
    """Check every shard.

    Args:
        what: A data source, an experiment's file, or a folder or address of shards.
        sets: ``--set`` arguments.
        as_json: Whether JSON is printed.

    Raises:
        ShardCorrupt: Some shards differ from their manifest; the message names them.
    """
    console = LiteralConsole()
    prepared = dict[str, PreparedData]()
    for target in resolve_targets(what, sets):
        data = prepared[target.slot] = target.prepared()
        with (
            naming_slot(target.slot),
            _progress(console, "reading every shard", "bytes", wanted=not as_json) as report,
        ):
            _verify(data, report)
        if not as_json:
            place = data.manifest.at or data.root
            console.print(f"{_heading(target)}{place}: every shard is as its manifest says", soft_wrap=True)
    if as_json:
        print_document(described_data("verify", prepared))


def _verify(data: PreparedData, report: OnProgress) -> None:
    """Raises ShardCorrupt where shards differ from their manifest."""
    place = data.manifest.at or data.root
    if differences := verify_shards(data.root, report):
        mend = f"fetch them from {place} again" if data.manifest.at else how_to_rebuild(data.root)
        raise ShardCorrupt("\n".join([f"{place} is not what its manifest says; {mend}", *differences]))


def show_stats(what: str, sets: Sequence[str], *, as_json: bool = False) -> None:
    """Print what was counted when the shards were built.

    Args:
        what: A data source, an experiment's file, or a folder or address of shards.
        sets: ``--set`` arguments.
        as_json: Whether JSON is printed.
    """
    from expflow.data.shards.summary import summary_lines

    targets = resolve_targets(what, sets)
    prepared = {target.slot: target.prepared() for target in targets}
    if as_json:
        print_document(described_data("stats", prepared))
        return
    console = LiteralConsole()
    for target in targets:
        data = prepared[target.slot]
        for number, line in enumerate(summary_lines(data.root, data.manifest)):
            console.print(line if number else f"{_heading(target)}{line}", soft_wrap=True)
        for line in _labels_note(target):
            console.print(line, soft_wrap=True)


def show_sheet(
    what: str, sets: Sequence[str], split: str, samples: int, seed: int, out: Path | None, *, as_json: bool = False
) -> None:
    """Write a picture of some samples and print where it is.

    Args:
        what: A data source, an experiment's file, or a folder or address of shards.
        sets: ``--set`` arguments.
        split: Which split the samples are of.
        samples: How many samples.
        seed: Seed of the draw.
        out: The picture; None: ``NAME-SPLIT.png`` in the working folder.
        as_json: Whether JSON is printed.

    Raises:
        UserError: The file is no PNG, or cannot be written.
    """
    targets = resolve_targets(what, sets)
    prepared = {target.slot: target.prepared() for target in targets}
    several = bool(targets[0].slot)
    path = out or Path(f"{Path(what).stem if several else targets[0].spec.name}-{split}.png")
    if path.suffix != ".png":
        raise UserError(f"--out {path}: expected a file that ends in .png")
    sheet = _sheet(targets, prepared, split, samples, seed)
    try:
        sheet.save(path, "PNG")
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from error
    if as_json:
        print_document(described_data("show", prepared, str(path)))
        return
    console = LiteralConsole()
    for target in targets:
        data = prepared[target.slot]
        if several:
            console.print(f"{target.slot}: {target.spec.name} {data.key}: {_summary(data)}", soft_wrap=True)
        for line in _labels_note(target):
            console.print(line, soft_wrap=True)
    console.print(f"picture  {relative(path)}", soft_wrap=True)


def _sheet(
    targets: Sequence[DataTarget], prepared: Mapping[str, PreparedData], split: str, samples: int, seed: int
) -> Image.Image:
    """The picture of some samples; of several sources a part for each, under its slot and name."""
    from expflow.data.contact_sheet import contact_sheet, titled_sheets

    sheets = {}
    for target in targets:
        data = prepared[target.slot]
        with naming_slot(target.slot):
            sheet = contact_sheet(data.root, data.manifest, split, samples=samples, seed=seed, cache=target.cache)
        sheets[f"{_heading(target)}{target.spec.name}, {split}"] = sheet
    return titled_sheets(sheets) if targets[0].slot else sheet
