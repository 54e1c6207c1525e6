"""The machine: cores, memory, disk, shared memory, open files, git, a GPU that torch may have missed."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from expflow.doctor.check_result import CheckResult

GB = 1_000_000_000
LITTLE_MEMORY = 4 * GB
LITTLE_DISK, NO_DISK = 5 * GB, 0.5 * GB
LITTLE_SHARED_MEMORY = 1 * GB
FEW_OPEN_FILES = 4096
_CGROUP = Path("/sys/fs/cgroup")
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  looked at, not written to


def check_cores() -> CheckResult:
    """Cores that this process may use; in a container those of its quota."""
    cores = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    quota, _, period = _read(_CGROUP / "cpu.max").partition(" ")
    if quota.isdigit() and int(quota) / int(period) < cores:
        limit = int(quota) / int(period)
        mend = f"`resources: {{max_concurrent: {max(1, int(limit))}}}` keeps a sweep inside the quota"
        return CheckResult("cores", "warn", f"{cores:.0f}, of which this container may use {limit:g}", mend)
    return CheckResult("cores", "ok", f"{cores:.0f}")


def check_memory() -> CheckResult:
    """Memory that is free, in a container that of its limit."""
    lines = dict(line.split(":", 1) for line in _read(Path("/proc/meminfo")).splitlines() if ":" in line)
    if "MemAvailable" not in lines:
        return CheckResult("memory", "ok", "unknown on this system")
    free = int(lines["MemAvailable"].split()[0]) * 1024
    limit, used = _read(_CGROUP / "memory.max"), _read(_CGROUP / "memory.current")
    if limit.isdigit() and used.isdigit():
        free = min(free, max(0, int(limit) - int(used)))
    if free < LITTLE_MEMORY:
        mend = "each running trial takes about 1 GB before its data: lower resources.max_concurrent"
        return CheckResult("memory", "warn", f"{free / GB:.1f} GB free", mend)
    return CheckResult("memory", "ok", f"{free / GB:.1f} GB free")


def check_folder(name: str, folder: Path) -> CheckResult:
    """Whether a folder (or the nearest that exists above it) can be written to and has room.

    Args:
        name: What the folder is for.
        folder: The folder.
    """
    there = next(candidate for candidate in (folder, *folder.parents) if candidate.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        return CheckResult(
            name, "fail", f"{folder} cannot be written to", f"chmod u+rwx {there}, or choose another folder"
        )
    free = shutil.disk_usage(there).free
    finding = f"{folder}, {free / GB:.1f} GB free"
    if free < LITTLE_DISK:
        mend = "free some space, or choose a folder on another disk in expflow.site.yaml"
        return CheckResult(name, "fail" if free < NO_DISK else "warn", finding, mend)
    return CheckResult(name, "ok", finding)


def check_ray_limits() -> Iterator[CheckResult]:
    """What Ray needs of the system to be quick and to hold many processes."""
    if _SHARED_MEMORY.is_dir():
        size = shutil.disk_usage(_SHARED_MEMORY).total
        little = size < LITTLE_SHARED_MEMORY
        mend = "Ray falls back to the disk; in Docker: --shm-size=4g" if little else ""
        yield CheckResult("shared memory", "warn" if little else "ok", f"{_SHARED_MEMORY}: {size / GB:.1f} GB", mend)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = soft != resource.RLIM_INFINITY and soft < FEW_OPEN_FILES
    mend = f"ulimit -n {FEW_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, 65536)}" if few else ""
    yield CheckResult("open files", "warn" if few else "ok", f"at most {soft}", mend)


def check_git() -> CheckResult:
    """git itself: without it results carry no commit, and submit cannot pack the project."""
    version = _first_line("git", "--version")
    if not version:
        return CheckResult(
            "git", "warn", "not installed", "apt install git; results then record the commit, and submit works"
        )
    return CheckResult("git", "ok", version.removeprefix("git version "))


def check_driver(gpus_of_torch: bool) -> Iterator[CheckResult]:
    """A warning where the NVIDIA driver sees a GPU and torch does not; nothing else.

    Args:
        gpus_of_torch: Whether torch sees a GPU.
    """
    listed = _first_line("nvidia-smi", "--list-gpus")
    if listed and not gpus_of_torch:
        mend = "this torch was built without CUDA or for a newer driver: install the wheel for your driver's CUDA"
        yield CheckResult("GPU driver", "warn", f"the driver has {listed.split(' (')[0]}, torch sees none", mend)


def _first_line(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return ""
    lines = done.stdout.splitlines()
    return lines[0].strip() if done.returncode == 0 and lines else ""


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
