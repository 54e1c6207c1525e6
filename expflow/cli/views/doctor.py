"""What ``doctor`` prints: each check as it comes, and how to mend what is wrong."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from expflow.cli.documents.doctor import doctor_document
from expflow.cli.documents.printing import print_document
from expflow.config import load_site

if TYPE_CHECKING:
    from expflow.doctor import CheckResult, DoctorTargets

_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def show_checks(*, quick: bool, as_json: bool, on: str | None = None) -> str:
    """Run all checks and print them.

    Args:
        quick: Whether the check that imports torch is left out.
        on: A cluster, whose versions are checked instead of this machine.
        as_json: Whether JSON is printed.

    Returns:
        The worst state: ``ok``, ``warn`` or ``fail``.
    """
    from expflow.doctor import run_checks, worst_state

    results = run_checks(_targets(), quick=quick) if on is None else _cluster_checks(on)
    checks = list(results) if as_json else _print_checks(results)
    if as_json:
        print_document(doctor_document(checks))
    return worst_state(checks)


def _cluster_checks(on: str) -> Iterable[CheckResult]:
    from expflow.cluster.launchers import choose_launcher
    from expflow.cluster.project_package import project_folder
    from expflow.doctor.cluster_checks import check_versions

    launcher = choose_launcher(load_site(), on=on)
    return check_versions(launcher, project_folder(Path("here")))


def _targets() -> DoctorTargets:
    from expflow.doctor import DoctorTargets
    from expflow.sweep.storage_place import storage_folder
    from expflow.tracking import resolve_uri

    site = load_site()
    tracking = resolve_uri(storage_folder(site=site), environ=os.environ, site=site.mlflow)
    ray = os.environ.get("RAY_API_SERVER_ADDRESS") or site.ray or ""
    return DoctorTargets(storage=site.storage, cache=site.cache, tracking=tracking, ray=ray)


def _print_checks(results: Iterable[CheckResult]) -> list[CheckResult]:
    from rich.text import Text

    from expflow.live.console import LiteralConsole, literal

    console = LiteralConsole()
    checks = []
    for check in results:
        checks.append(check)
        line = Text.assemble((f"{check.state:5}", _STYLES[check.state]), literal(f"{check.name}: {check.finding}"))
        console.print(line, soft_wrap=True)
        if check.mend:
            console.print(f"      -> {check.mend}", soft_wrap=True)
    bad = sum(check.state == "fail" for check in checks)
    doubtful = sum(check.state == "warn" for check in checks)
    console.print("all is well" if not bad + doubtful else f"{bad} to mend, {doubtful} to look at")
    return checks
