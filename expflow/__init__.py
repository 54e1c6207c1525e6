"""expflow: distributed experiment orchestration for vision research.

From Python, in a notebook for example::

    import expflow

    experiment = expflow.load("experiments/resnet_depth.yaml", {"sweep.seeds": 1})
    experiment.plan().trials  # a pandas DataFrame
    results = experiment.sweep()
    results.leaderboard

What is here is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from expflow.version import __version__

if TYPE_CHECKING:
    from expflow.api import load, results
    from expflow.hooks import register

__all__ = ["__version__", "load", "register", "results"]

_HOMES = {"load": "expflow.api", "results": "expflow.api", "register": "expflow.hooks"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'expflow' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
