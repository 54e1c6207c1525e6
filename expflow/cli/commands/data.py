"""Commands about data: data build, data verify, data stats, data show."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from expflow.cli.completion import complete_experiment_file
from expflow.cli.options import AsJson, Sets

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


_group = typer.Typer(help="Turn data sources into shards, and check and look at shards.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add this group's commands.

    Args:
        app: The command line's app.
    """
    app.add_typer(_group, name="data")


From = Annotated[
    Path | None,
    typer.Option(
        "--from",
        metavar="DIR",
        help="Folder of the source's files, instead of the key data.path or what the site file says under data.",
    ),
]
Out = Annotated[
    str | None,
    typer.Option(metavar="DIR|ADDRESS", help="Where the shards go (s3://…); by default the cache.", show_default=False),
]
MaxSide = Annotated[
    int | None,
    typer.Option(min=1, help="Shrink images with a longer side to it: the key data.max_side.", show_default=False),
]
Quality = Annotated[
    int | None,
    typer.Option(min=1, max=100, help="JPEG quality of what is shrunk: the key data.quality.", show_default=False),
]
Workers = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Processes that read images; by default one per core. (data.workers are threads of a training.)",
        show_default=False,
    ),
]
MaxBad = Annotated[
    int | None,
    typer.Option(
        min=0, help="Unreadable images to leave out; more are an error: the key data.bad_limit.", show_default=False
    ),
]


@_group.command()
def build(
    what: What,
    from_: From = None,
    out: Out = None,
    max_side: MaxSide = None,
    quality: Quality = None,
    workers: Workers = None,
    max_bad: MaxBad = None,
    set_: Sets = None,
    as_json: AsJson = False,
) -> None:
    """Write data as shards, once; later calls find them, and after a kill the same command goes on."""
    from expflow.cli.views.data import show_build

    own = {"max_side": max_side, "quality": quality, "bad_limit": max_bad}
    sets = [*(set_ or ()), *(f"data.{key}={value}" for key, value in own.items() if value is not None)]
    show_build(what, sets, from_, out, workers, as_json=as_json)


@_group.command()
def verify(what: Where, set_: Sets = None, as_json: AsJson = False) -> None:
    """Read every shard and compare it with its manifest."""
    from expflow.cli.views.data import show_verify

    show_verify(what, set_ or (), as_json=as_json)


@_group.command()
def stats(what: Where, set_: Sets = None, as_json: AsJson = False) -> None:
    """Print what the shards hold: samples, classes, sizes of images, mean and deviation, bad files."""
    from expflow.cli.views.data import show_stats

    show_stats(what, set_ or (), as_json=as_json)


@_group.command()
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
    as_json: AsJson = False,
) -> None:
    """Write a picture of some samples with their classes."""
    from expflow.cli.views.data import show_sheet

    show_sheet(what, set_ or (), split, samples, seed, out, as_json=as_json)
