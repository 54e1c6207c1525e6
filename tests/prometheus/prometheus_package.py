"""Prometheus and promtool from Debian's package, unpacked once and without being installed."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "expflow-tests"


@functools.cache
def prometheus_programs() -> tuple[dict[str, Path], str]:
    """``prometheus`` and ``promtool``, or nothing and why they cannot be had."""
    names = ("prometheus", "promtool")
    installed = {name: Path(path) for name in names if (path := shutil.which(name))}
    if len(installed) == len(names):
        return installed, ""
    folder = CACHE / "prometheus"
    programs = {name: folder / "usr/bin" / name for name in names}
    if all(program.exists() for program in programs.values()):
        return programs, ""
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        return {}, "Prometheus is not installed, and there is no apt-get to take Debian's package with"
    return _unpacked(folder, programs)


def _unpacked(folder: Path, programs: dict[str, Path]) -> tuple[dict[str, Path], str]:
    downloads = folder.with_name(f"prometheus-download-{os.getpid()}")
    downloads.mkdir(parents=True, exist_ok=True)
    try:
        subprocess.run(
            ["apt-get", "download", "prometheus"], cwd=downloads, check=True, capture_output=True, timeout=300
        )
        (package,) = downloads.glob("prometheus_*.deb")
        subprocess.run(["dpkg-deb", "-x", package, downloads / "files"], check=True, capture_output=True, timeout=120)
        if not folder.exists():
            (downloads / "files").rename(folder)
    except (subprocess.SubprocessError, OSError, ValueError) as error:
        return {}, f"Debian's package of Prometheus cannot be had: {error}"
    finally:
        shutil.rmtree(downloads, ignore_errors=True)
    return programs, ""
