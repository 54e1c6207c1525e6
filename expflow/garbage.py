"""When Python looks for references in cycles that nobody holds.

It looks whenever some hundred objects more have been made, and then at times through all of them. While objects are
made that all stay, as in an import of torch and Lightning, that finds nothing and takes a good part of the time.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_LOCK = threading.Lock()
_OUTER: list[bool] = []
"""Whether Python looked before each body that some thread is in; the first one's answer is what is put back."""


@contextmanager
def nothing_collected() -> Iterator[None]:
    """In the body, and in those of other threads, no thread of this process looks for garbage in cycles.

    What was made in it counts as old afterwards, else the next search would go through all of it at once, and the two
    after that again.
    """
    with _LOCK:
        _OUTER.append(_OUTER[0] if _OUTER else gc.isenabled())
        gc.disable()
    try:
        yield
    finally:
        with _LOCK:
            looked = _OUTER.pop()
            if looked and not _OUTER:
                if not gc.get_freeze_count():  # unfreezing would let go of what somebody else has frozen
                    gc.freeze()
                    gc.unfreeze()  # into the oldest generation
                gc.enable()
