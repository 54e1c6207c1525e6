"""Commands about data: data build, data verify, data stats, data show."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from expflow.cli.complete import complete_experiment_file
from expflow.cli.options import Sets

What = Annotated[
    str,
    typer.Argument(
        metavar="NAME|FILE",
        help="A data source (imagenet; keys may follow: folder,image_size=32) or an experiment's file.",
        show_default=False,
        autocompletion=complete_experiment_file,
    ),
]
Where = Annotated[
    str,
    typer.Argument(
        metavar="NAME|FILE|SHARDS",
        help="A data source, an experiment's file, or a folder or address of shards.",
        show_default=False,
        autocompletion=complete_experiment_file,
    ),
]


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    group = typer.Typer(help="Turn data sources into shards, and check and look at shards.", no_args_is_help=True)
    for command in (build, verify, stats, show):
        group.command()(command)
    app.add_typer(group, name="data")


def build(
    what: What,
    from_: Annotated[
        Path | None,
        typer.Option(
            "--from", metavar="DIR", help="Folder of the source's files; by default the file's or the site's."
        ),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            metavar="DIR|ADDRESS", help="Where the shards go (s3://…); by default the cache.", show_default=False
        ),
    ] = None,
    max_side: Annotated[
        int | None, typer.Option(min=1, help="Shrink images with a longer side to it.", show_default=False)
    ] = None,
    quality: Annotated[
        int | None, typer.Option(min=1, max=100, help="JPEG quality of what is shrunk.", show_default=False)
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that read images; by default one per core.", show_default=False)
    ] = None,
    max_bad: Annotated[
        int | None, typer.Option(min=0, help="Unreadable images to leave out; more are an error.", show_default=False)
    ] = None,
    set_: Sets = None,
) -> None:
    """Write data as shards, once; later calls find them, and after a kill the same command goes on."""
    from expflow.cli.shards import show_build

    own = {"max_side": max_side, "quality": quality, "bad_limit": max_bad}
    sets = [*(set_ or ()), *(f"data.{key}={value}" for key, value in own.items() if value is not None)]
    show_build(what, sets, from_, out, workers)


def verify(what: Where, set_: Sets = None) -> None:
    """Read every shard and compare it with its manifest."""
    from expflow.cli.shards import show_verify

    show_verify(what, set_ or ())


def stats(what: Where, set_: Sets = None) -> None:
    """Print what the shards hold: samples, classes, sizes of images, mean and deviation, bad files."""
    from expflow.cli.shards import show_stats

    show_stats(what, set_ or ())


def show(
    what: Where,
    split: Annotated[str, typer.Option(help="train, val or test.")] = "train",
    samples: Annotated[int, typer.Option(min=1, max=1000, help="How many samples.")] = 48,
    seed: Annotated[int, typer.Option(min=0, help="Another seed draws other samples.")] = 0,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The picture; by default NAME-SPLIT.png here.", show_default=False),
    ] = None,
    set_: Sets = None,
) -> None:
    """Write a picture of some samples with their classes."""
    from expflow.cli.shards import show_sheet

    show_sheet(what, set_ or (), split, samples, seed, out)
