"""A loader in a process of its own that makes a pass whenever it is told to, so that loaders can take short turns.

The processes start once; between its turns a loader does nothing, and its workers wait. Standard library only, because
the peers live in another environment.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable

READY = "ready"


def serve(batches: Iterable[object], count: Callable[[object], int]) -> None:
    """Make one pass, say so, and make and time one more for each line of input; ``count``: images of a batch."""
    sum(map(count, batches))
    print(READY, flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        images = sum(map(count, batches))
        print(json.dumps({"images": images, "seconds": time.perf_counter() - start}), flush=True)
