"""Processes whose clock is wrong: what they take for the time of day, not what they measure or what a disk says.

libfaketime was tried first: under it Python's ``time.sleep`` fails.
"""

from __future__ import annotations

import atexit
import functools
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.debian_packages import need_programs

SOURCE = Path(__file__).with_name("wrong_clock.c")


def clock_variables(minutes: int) -> dict[str, str]:
    """Environment of a process whose clock is ahead, or behind; the test is skipped where no compiler can be had.

    Args:
        minutes: How many minutes it is ahead.
    """
    need_programs("gcc libc6-dev", "cc")
    return {"LD_PRELOAD": str(_library()), "CLOCK_AHEAD": str(60 * minutes)}


@functools.cache
def _library() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="expflow-clock-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    library = folder / "wrong_clock.so"
    options = ["-O1", "-Wall", "-Werror", "-shared", "-fPIC"]
    subprocess.run(["cc", *options, "-o", library, SOURCE, "-ldl"], check=True, capture_output=True, timeout=60)
    return library
