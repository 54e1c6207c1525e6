"""Which class an error of an attempt falls into."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from expflow.errors import DiskFull, Diverged, Preempted, RankLost, StorageUnwritable, TrialError
from expflow.sweep.failures import RULES, failure_class


def system(number: int, *names: str) -> OSError:
    return OSError(number, os.strerror(number), *names)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (TrialError("x"), "code"),
        (Diverged("x"), "diverged"),
        (Preempted("x"), "preempted"),
        (RankLost("x"), "worker_lost"),
        (DiskFull("x"), "disk_full"),
        (StorageUnwritable("x"), "storage"),
        (system(errno.ENOSPC), "disk_full"),
        (system(errno.EDQUOT, "/elsewhere/x"), "disk_full"),
        (system(errno.EROFS, "/results/exp/trials/a/log.txt"), "storage"),
        (system(errno.EPERM, "/results/exp/trials/a"), "storage"),
        (system(errno.EACCES, "/results/exp"), "storage"),
        (system(errno.ENOTDIR, "/results/exp/trials/a"), "storage"),
        (system(errno.EACCES, "/elsewhere/x"), "code"),
        (system(errno.EACCES, "/results/exp.old/x"), "code"),
        (system(errno.ENOENT, "x.json"), "code"),
        (system(errno.EACCES), "code"),
        (RuntimeError("x"), "code"),
        (KeyboardInterrupt("x"), "code"),
    ],
)
def test_the_class_of_an_error(error: BaseException, expected: str) -> None:
    assert failure_class(error, Path("/results/exp")) == expected
    assert expected in RULES


def test_without_results_only_the_error_itself_tells() -> None:
    assert failure_class(system(errno.EROFS, "/results/exp/x")) == "code"
    assert failure_class(system(errno.ENOSPC)) == "disk_full"
