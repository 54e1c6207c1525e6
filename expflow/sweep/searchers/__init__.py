"""Searchers: who proposes configs. What one must do is here; the members are in the modules beside.

Replay is nothing but calling a searcher again in the same order, so its proposals may depend on its arguments and on
what it was told, and on nothing else: no clock, no global random state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

Values = dict[str, Any]
"""Searched key -> chosen value; an inactive key is absent."""


@dataclass(frozen=True)
class Learned:
    """What became of a config. ``score`` is the mean over its seeds, in the metric's own direction.

    ``complete``: all seeds at their full budget. ``stopped``: a scheduler ended one of them early; ``score`` is over
    the last reports, and ``progress`` the share of the budget that was spent. ``infeasible``: the config itself fails
    (it diverges, it does not fit in memory, the schema refuses it). ``failed``: nothing can be learned.
    """

    kind: Literal["complete", "stopped", "infeasible", "failed"]
    score: float | None = None
    progress: float = 1.0


class SearchAlgorithm(Protocol):
    """A searcher. Built as ``builder(spec, space, mode)``, where ``mode`` is ``max`` or ``min``."""

    def suggest(self, recorded: Values | None = None) -> Values | None:
        """The next config's searched values; None when there is nothing more to propose.

        ``recorded`` is what it proposed here before, while a ledger is replayed: it wins over what it would say now.
        """

    def complete(self, values: Values, learned: Learned) -> None:
        """What became of a config, told once: one it suggested, or one of an earlier sweep."""
