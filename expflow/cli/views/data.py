"""What the ``data`` commands print, and their progress bars."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from expflow.cli.documents.data import data_document
from expflow.cli.documents.printing import print_document
from expflow.cli.views.report import relative
from expflow.data.prepare.prepared import OnProgress, PreparedData
from expflow.data.shards.manifest import how_to_rebuild
from expflow.data.shards.verify import verify_shards
from expflow.data.target import resolve_target
from expflow.errors import ShardCorrupt, UserError
from expflow.live.console import LiteralConsole
from expflow.report.formatting import short_duration


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
    target = resolve_target(what, sets, files=files)
    with _progress(console, f"building {target.spec.name}", "images", wanted=not as_json) as report:
        data = target.build(out, workers or len(os.sched_getaffinity(0)), report)
    if as_json:
        print_document(data_document("build", data))
        return
    console.print(data.manifest.at or str(data.root), soft_wrap=True)
    console.print(_summary(data), soft_wrap=True)
    for line in data.manifest.remarks():
        console.print(line, soft_wrap=True)
    if out is not None:
        line = f"to train from them: data: {{{target.spec.name}: {out}}} in expflow.site.yaml"
        console.print(line, soft_wrap=True)


def _summary(data: PreparedData) -> str:
    sizes = ", ".join(f"{count:,} {split}" for split, count in data.spec.samples.items())
    texts = data.manifest.spec.of_kind("text")
    if texts:
        fields = (data.manifest.spec.fields[name] for name in texts)
        return f"{sizes}; " + ", ".join(
            f"{name} of {len(field.vocabulary)} tokens" for name, field in zip(texts, fields, strict=True)
        )
    image = data.manifest.spec.fields["image"]
    shape = f"{image.shape[0]} channels, of their own sizes" if image.varies else str(image.shape)
    return f"{sizes}; {data.spec.num_classes} classes; images {shape}"


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
    data = resolve_target(what, sets).prepared()
    with _progress(console, "reading every shard", "bytes", wanted=not as_json) as report:
        differences = verify_shards(data.root, report)
    place = data.manifest.at or data.root
    if differences:
        mend = f"fetch them from {place} again" if data.manifest.at else how_to_rebuild(data.root)
        raise ShardCorrupt("\n".join([f"{place} is not what its manifest says; {mend}", *differences]))
    if as_json:
        print_document(data_document("verify", data))
        return
    console.print(f"{place}: every shard is as its manifest says", soft_wrap=True)


def show_stats(what: str, sets: Sequence[str], *, as_json: bool = False) -> None:
    """Print what was counted when the shards were built.

    Args:
        what: A data source, an experiment's file, or a folder or address of shards.
        sets: ``--set`` arguments.
        as_json: Whether JSON is printed.
    """
    from expflow.data.shards.summary import summary_lines

    data = resolve_target(what, sets).prepared()
    if as_json:
        print_document(data_document("stats", data))
        return
    console = LiteralConsole()
    for line in summary_lines(data.root, data.manifest):
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
    from expflow.data.contact_sheet import contact_sheet

    target = resolve_target(what, sets)
    data = target.prepared()
    path = out or Path(f"{target.spec.name}-{split}.png")
    if path.suffix != ".png":
        raise UserError(f"--out {path}: expected a file that ends in .png")
    sheet = contact_sheet(data.root, data.manifest, split, samples=samples, seed=seed, cache=target.cache)
    try:
        sheet.save(path, "PNG")
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from error
    if as_json:
        print_document(data_document("show", data, str(path)))
        return
    LiteralConsole().print(f"picture  {relative(path)}", soft_wrap=True)
