"""A cluster: the versions that its machines have, beside those that the project is locked to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from expflow.cluster.launcher import Launcher
from expflow.cluster.version_lock import LOCK_FILE, differences, locked_versions, packages_of
from expflow.doctor.check_result import CheckResult, CheckState


def check_versions(launcher: Launcher, project: Path) -> Iterator[CheckResult]:
    """One check for each package that differs, or one for a machine on which none does. Raises as the launcher.

    Args:
        launcher: The cluster.
        project: The project's folder.
    """
    locked = locked_versions(project)
    for machine, there in launcher.versions(packages_of(locked)).items():
        rows = differences(locked, there)
        for row in rows:
            finding = f"{row.there or 'not installed'}, {row.locked} in the project"
            state: CheckState = "warn" if row.there else "fail"
            yield CheckResult(f"{row.package} on {machine}", state, finding, _mend(project, row.package))
        if not rows:
            finding = f"Python and {len(locked) - 1} packages as in the project"
            yield CheckResult(f"versions on {machine}", "ok", finding)


def _mend(project: Path, package: str) -> str:
    """What to do on the machine."""
    if package == "python":
        return "make the environment there with this Python, and name it by the cluster's key python"
    pinned = (project / LOCK_FILE).is_file()
    return "there: pip install -c constraints.txt expflow" if pinned else "there: install the versions of this machine"
