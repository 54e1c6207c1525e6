"""How prepared data are shown."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from expflow.cli.answer import relative
from expflow.cli.live import seconds_text
from expflow.data.asked import asked
from expflow.data.build import OnProgress, Prepared
from expflow.data.manifest import how_to_rebuild
from expflow.data.read import verify
from expflow.errors import ShardCorrupt, UserError


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
        return Text(f"{rate:,.0f} {self._unit}/s, {seconds_text(left / rate)} left")


@contextmanager
def _progress(console: Console, what: str, unit: str) -> Iterator[OnProgress]:
    """A bar while the body works, on a terminal; it appears with the first report."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Pace(unit))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:

        def report(done: int, total: int) -> None:
            if not progress.tasks:
                progress.add_task(what, total=total, completed=done, first=done)
            progress.update(progress.tasks[0].id, completed=done, total=total)

        yield report


def show_build(what: str, sets: Sequence[str], files: Path | None, out: str | None, workers: int | None) -> None:
    """Build (or find) the shards and print what they hold."""
    console = Console()
    found = asked(what, sets, files=files)
    with _progress(console, f"building {found.spec.name}", "images") as report:
        data = found.build(out, workers or len(os.sched_getaffinity(0)), report)
    console.print(data.manifest.at or str(data.root), highlight=False, soft_wrap=True, markup=False)
    console.print(_summary(data), highlight=False, soft_wrap=True)
    if out is not None:
        line = f"to train from them: data: {{{found.spec.name}: {out}}} in expflow.site.yaml"
        console.print(line, highlight=False, soft_wrap=True, markup=False)


def _summary(data: Prepared) -> str:
    sizes = ", ".join(f"{count:,} {split}" for split, count in data.spec.samples.items())
    image = data.manifest.spec.fields["image"]
    shape = f"{image.shape[0]} channels, of their own sizes" if image.varies else str(image.shape)
    return f"{sizes}; {data.spec.num_classes} classes; images {shape}"


def show_verify(what: str, sets: Sequence[str]) -> None:
    """Check every shard; whatever differs is an error that names it."""
    console = Console()
    data = asked(what, sets).prepared()
    with _progress(console, "reading every shard", "bytes") as report:
        differences = verify(data.root, report)
    place = data.manifest.at or data.root
    if differences:
        mend = f"fetch them from {place} again" if data.manifest.at else how_to_rebuild(data.root)
        raise ShardCorrupt("\n".join([f"{place} is not what its manifest says; {mend}", *differences]))
    console.print(f"{place}: every shard is as its manifest says", highlight=False, soft_wrap=True, markup=False)


def show_stats(what: str, sets: Sequence[str]) -> None:
    """Print what was counted when the shards were built."""
    from expflow.data.summary import summary_lines

    data = asked(what, sets).prepared()
    console = Console()
    for line in summary_lines(data.root, data.manifest):
        console.print(line, highlight=False, soft_wrap=True, markup=False)


def show_sheet(what: str, sets: Sequence[str], split: str, samples: int, seed: int, out: Path | None) -> None:
    """Write the contact sheet and say where it is."""
    from expflow.data.sheet import contact_sheet

    found = asked(what, sets)
    data = found.prepared()
    path = out or Path(f"{found.spec.name}-{split}.png")
    if path.suffix != ".png":
        raise UserError(f"--out {path}: expected a file that ends in .png")
    sheet = contact_sheet(data.root, data.manifest, split, samples=samples, seed=seed, cache=found.cache)
    try:
        sheet.save(path, "PNG")
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from error
    Console().print(f"picture  {relative(path)}", highlight=False, soft_wrap=True, markup=False)
