"""Commands about data: data build, data verify."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from expflow.cli.options import File, Sets

if TYPE_CHECKING:
    from expflow.sweep.plan import Plan


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    group = typer.Typer(help="Turn data sources into shards, and check shards.", no_args_is_help=True)
    group.command()(build)
    group.command()(verify)
    app.add_typer(group, name="data")


def _plan(file: Path, sets: list[str] | None) -> Plan:
    from expflow.sweep.plan import make_plan

    return make_plan(file, sets or ())


def build(file: File, set_: Sets = None) -> None:
    """Write the experiment's data as shards, once; later calls find them."""
    from expflow.cli.shards import show_build

    show_build(_plan(file, set_))


def verify(file: File, set_: Sets = None) -> None:
    """Read every shard of the experiment's data and compare it with the manifest."""
    from expflow.cli.shards import show_verify

    show_verify(_plan(file, set_))
