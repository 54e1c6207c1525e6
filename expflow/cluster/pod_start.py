"""What the pods of a Kubernetes job run before anything of expflow's is there. Standard library only, since its source
is sent.

``unpack`` joins the parts of the packed project and unpacks them; ``run`` becomes the sweep.
"""

from __future__ import annotations

import io
import json
import os
import sys
import zipfile
from pathlib import Path

JOB = Path("/expflow/job")
"""Where a pod sees what was sent."""
PROJECT = Path("/expflow/project")
"""Where the project is unpacked, on each pod at the same place: ranks import modules by the driver's folder."""


def unpack(job: Path, project: Path) -> None:
    """Unpack the project.

    Args:
        job: Folder of what was sent.
        project: Folder that it is unpacked into.
    """
    parts = sorted((job / "package").iterdir()) if (job / "package").is_dir() else []
    if parts:
        with zipfile.ZipFile(io.BytesIO(b"".join(part.read_bytes() for part in parts))) as archive:
            archive.extractall(project)


def run(job: Path, project: Path) -> None:
    """Become the sweep.

    Args:
        job: Folder of what was sent.
        project: Folder of the project.
    """
    order = json.loads((job / "order.json").read_text(encoding="utf-8"))
    os.umask(0o077)
    os.chdir(project)
    os.execve(  # noqa: S606
        sys.executable, [sys.executable, *order["arguments"]], {**os.environ, **order["variables"]}
    )


if __name__ == "__main__":
    {"unpack": unpack, "run": run}[sys.argv[1]](JOB, PROJECT)
