"""How the process of a command ends: at once, when everything is said and done.

Python ends a process in two parts. First it waits for threads, calls what was registered for the end and writes out
what it has printed. Then it takes apart every module and object, which takes a second once Ray or matplotlib is
imported, while the user waits for the prompt and the system gets all memory back anyway. The first part is done here;
the second is left out.

No public function does the first part alone, thus the two private names here, and here alone. multiprocessing ends its
processes with the same two.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
from typing import NoReturn


def end_process(code: int) -> NoReturn:
    """End this process, with threads waited for, everything written out, and what atexit has called.

    Args:
        code: The exit code.

    Raises:
        SystemExit: For Python to end the process: what was printed cannot be written, which Python says as it does for
            every program, or this Python lacks what is needed.
    """
    wait_for_threads = getattr(threading, "_shutdown", None)
    call_registered = getattr(atexit, "_run_exitfuncs", None)
    if wait_for_threads is None or call_registered is None:
        sys.exit(code)
    for finish in (wait_for_threads, call_registered):
        with contextlib.suppress(KeyboardInterrupt):  # whoever is in a hurry waits no longer
            finish()
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except (OSError, ValueError):
        sys.exit(code)
    os._exit(code)
