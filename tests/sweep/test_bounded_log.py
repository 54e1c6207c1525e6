"""A trial's log has a limit; its beginning and its end are kept."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from expflow.sweep.bounded_log import BoundedLog
from expflow.sweep.rank_end import end_in_words, exits_noted, log_size

LIMIT = 20_000
MARK = re.compile(r"\[\.\.\. (\d+) bytes of this log were left out \.\.\.\]\n")


def numbered(first: int, last: int) -> str:
    return "".join(f"line {number}\n" for number in range(first, last))


def test_a_short_log_is_whole(tmp_path: Path) -> None:
    with BoundedLog(tmp_path / "deep" / "log.txt", LIMIT):
        os.write(1, b"out\n")
        os.write(2, b"err\n")
        subprocess.run(["echo", "from a child"], check=True)
    with BoundedLog(tmp_path / "deep" / "log.txt", LIMIT):
        os.write(1, b"the next attempt\n")
    assert (tmp_path / "deep" / "log.txt").read_text() == "out\nerr\nfrom a child\nthe next attempt\n"


@pytest.mark.parametrize("attempts", [1, 3])
def test_of_a_long_one_beginning_and_end_are_kept_and_the_rest_is_counted(tmp_path: Path, attempts: int) -> None:
    path, written = tmp_path / "log.txt", ""
    for attempt in range(attempts):
        with BoundedLog(path, LIMIT) as log:
            for block in range(10):
                text = numbered(10_000 * attempt + 1000 * block, 10_000 * attempt + 1000 * (block + 1))
                os.write(1, text.encode())
                written += text
                if block % 3 == 0:
                    log.trim()
                    assert path.stat().st_size <= LIMIT
    text = path.read_text()
    assert len(text) <= LIMIT
    (left_out,) = MARK.findall(text)
    beginning, end = MARK.sub("|", text).split("|")
    assert beginning == written[: len(beginning)]
    assert len(beginning) > LIMIT / 2 - 20
    assert end == written[-len(end) :]
    assert len(end) > LIMIT / 4 - 20
    assert len(beginning) + int(left_out) + len(end) == len(written)


def test_a_closed_log_is_left_alone_whoever_has_its_descriptor_now(tmp_path: Path) -> None:
    with BoundedLog(tmp_path / "log.txt", LIMIT) as log:
        number = log._file
    other = os.open(tmp_path / "checkpoint", os.O_RDWR | os.O_CREAT)
    try:
        os.dup2(other, number)
        os.write(number, b"x" * 2 * LIMIT)
        log.trim()
        assert (tmp_path / "checkpoint").stat().st_size == 2 * LIMIT
    finally:
        os.close(other)
        if number != other:
            os.close(number)


def test_one_endless_line_is_cut_too(tmp_path: Path) -> None:
    with BoundedLog(tmp_path / "log.txt", LIMIT):
        os.write(1, b"x" * 10 * LIMIT)
    text = (tmp_path / "log.txt").read_text()
    assert len(text) <= LIMIT
    assert MARK.search(text)


ENDS = {
    "import ctypes; ctypes.string_at(0)": "was ended by SIGSEGV (segmentation fault; its log has the stack)",
    "import os; os.abort()": "was ended by SIGABRT (aborted; its log has the stack)",
    "import os, signal; os.kill(os.getpid(), signal.SIGBUS)": "was ended by SIGBUS (bus error; its log has the stack)",
    "import os; os._exit(7)": "was left with exit code 7 (os._exit)",
    "import os, signal; os.kill(os.getpid(), signal.SIGKILL)": "was killed by SIGKILL",
}


@pytest.mark.parametrize("code", ENDS)
def test_how_a_process_ended_is_told_by_its_log(tmp_path: Path, code: str) -> None:
    log = tmp_path / "log.txt"
    log.write_text("Fatal Python error: Illegal instruction\n")  # of the attempt before
    before = log_size(log)
    script = (
        "import sys\nfrom pathlib import Path\nfrom expflow.sweep.bounded_log import BoundedLog\n"
        "from expflow.sweep.rank_end import exits_noted\n"
        f"with BoundedLog(Path({str(log)!r}), {LIMIT}), exits_noted():\n    print('training')\n    {code}\n"
    )
    subprocess.run([sys.executable, "-X", "faulthandler", "-c", script], check=False)
    assert end_in_words(log, before).startswith(ENDS[code])


def test_a_child_that_leaves_says_nothing_and_the_function_is_put_back(tmp_path: Path, capfd) -> None:
    leave = os._exit
    with exits_noted():
        child = os.fork()
        if child == 0:
            os._exit(3)
        _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 3
    assert os._exit is leave
    assert capfd.readouterr() == ("", "")


def test_a_log_that_is_missing_tells_what_is_left(tmp_path: Path) -> None:
    assert log_size(tmp_path / "none") == 0
    assert end_in_words(tmp_path / "none", 0).startswith("was killed by SIGKILL")
