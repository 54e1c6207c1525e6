"""Commands about expflow itself: doctor, schema."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from expflow.doctor import Check, Surroundings

_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command()(doctor)
    app.command()(schema)


def doctor(
    quick: Annotated[bool, typer.Option("--quick", help="Leave out the check that imports torch.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the checks as JSON.")] = False,
) -> None:
    """Say what is installed and reachable, what is missing, and how to mend it."""
    from expflow.doctor import examine, worst

    found = examine(_surroundings(), quick=quick)
    checks = list(found) if as_json else _show(found)
    if as_json:
        typer.echo(json.dumps([check.to_json() for check in checks], indent=2))
    raise typer.Exit(3 if worst(checks) == "fail" else 0)


def schema() -> None:
    """Print the JSON schema of experiment files, from which editors complete and check."""
    from expflow.config.jsonschema import json_schema

    typer.echo(json.dumps(json_schema(), indent=2))


def _surroundings() -> Surroundings:
    from expflow.config import load_site
    from expflow.doctor import Surroundings
    from expflow.tracking import resolve_uri

    site = load_site()
    tracking = resolve_uri(Path(site.storage).absolute(), environ=os.environ, site=site.mlflow)
    ray = os.environ.get("RAY_API_SERVER_ADDRESS") or site.ray or ""
    return Surroundings(storage=site.storage, cache=site.cache, tracking=tracking, ray=ray)


def _show(found: Iterable[Check]) -> list[Check]:
    """Print each check as it comes."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    checks = []
    for check in found:
        checks.append(check)
        console.print(
            Text.assemble((f"{check.state:5}", _STYLES[check.state]), f"{check.name}: {check.found}"), soft_wrap=True
        )
        if check.mend:
            console.print(Text(f"      -> {check.mend}"), soft_wrap=True)
    bad = sum(check.state == "fail" for check in checks)
    doubtful = sum(check.state == "warn" for check in checks)
    console.print("all is well" if not bad + doubtful else f"{bad} to mend, {doubtful} to look at")
    return checks
