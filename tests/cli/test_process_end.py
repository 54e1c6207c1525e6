"""A command's process ends as Python ends one, except that it is not taken apart."""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
import threading

PROGRAM = """
import atexit, concurrent.futures, sys, threading, time
from expflow.cli.process_end import end_process

class Last:
    def __del__(self):
        print("taken apart")

last = Last()
atexit.register(lambda: print("registered"))
threading.Thread(target=lambda: (time.sleep(0.2), print("thread"))).start()
pool = concurrent.futures.ThreadPoolExecutor(1)
pool.submit(lambda: (time.sleep(0.1), print("pool")))
print("printed", end=" ")
end_process(3)
"""


BUFFERED = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}


def _ended(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, env=BUFFERED)


def test_threads_are_waited_for_and_what_is_registered_is_called_but_nothing_is_taken_apart() -> None:
    ended = _ended(PROGRAM)
    assert (ended.returncode, ended.stdout, ended.stderr) == (3, "printed pool\nthread\nregistered\n", "")


def test_python_ends_the_process_where_its_own_functions_are_not_there() -> None:
    ended = _ended(f"import atexit\ndel atexit._run_exitfuncs\n{PROGRAM}")
    assert (ended.returncode, ended.stderr) == (3, "")
    assert ended.stdout == "printed pool\nthread\nregistered\ntaken apart\n"


def test_what_cannot_be_written_is_said_as_python_says_it() -> None:
    program = [
        sys.executable,
        "-c",
        "from expflow.cli.process_end import end_process\nprint('printed')\nend_process(0)",
    ]
    with open("/dev/full", "w") as full:
        ended = subprocess.run(program, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, env=BUFFERED)
    assert ended.returncode == 120
    assert "No space left on device" in ended.stderr


def test_the_two_private_functions_are_there() -> None:
    assert callable(getattr(threading, "_shutdown", None))
    assert callable(getattr(atexit, "_run_exitfuncs", None))


def test_the_command_ends_in_this_way() -> None:
    ended = _ended(
        "import sys; from expflow.__main__ import run\n"
        "class Last:\n    def __del__(self): print('taken apart')\n"
        "last = Last(); sys.argv = ['expflow', '--version']; run()"
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("expflow ")
    assert "taken apart" not in ended.stdout
