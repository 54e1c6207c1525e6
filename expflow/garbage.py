"""When Python looks for references in cycles that nobody holds.

It looks whenever some hundred objects more have been made, and then at times through all of them. While objects are
made that all stay, as in an import of torch and Lightning, that finds nothing and takes a good part of the time.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

MANY_OBJECTS = 50_000
"""More than so many are made by a body that imports a large package, or reads a large ledger."""

_LOCK = threading.Lock()
_OUTER: list[bool] = []
"""Whether Python looked before each body that some thread is in; the first one's answer is what is put back."""


@contextmanager
def nothing_collected() -> Iterator[None]:
    """In the body, and in those of other threads, no thread of this process looks for garbage in cycles.

    Where many objects were made in it they count as old afterwards, else the next search would go through all of them
    at once, and the two after that again.
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
                if gc.get_count()[0] > MANY_OBJECTS:
                    _make_old()
                gc.enable()


def _make_old() -> None:
    """Move all objects to the oldest generation, unless somebody has frozen some: unfreezing would let go of those."""
    if not gc.get_freeze_count():  # which counts them one by one
        gc.freeze()
        gc.unfreeze()
