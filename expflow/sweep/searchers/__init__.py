"""Searchers: what proposes configs. The protocol is here; its members are in the modules beside.

Replay is calling a searcher again in the same order, so its proposals may depend on its arguments and on the results it
got, and on nothing else: no clock, no global random state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

Values = dict[str, Any]
"""Searched key -> chosen value; an inactive key is absent."""


@dataclass(frozen=True)
class Learned:
    """What became of a config.

    Attributes:
        kind: ``complete``: all seeds at their full budget. ``stopped``: a scheduler ended one of them early.
            ``infeasible``: the config itself fails (it diverges, it does not fit in memory, the schema refuses it).
            ``failed``: nothing can be learned.
        score: Mean over its seeds, in the metric's own direction; of stopped ones by their last reports.
        progress: Share of the budget that was spent, 0 to 1.
        metrics: Every metric that all its seeds reported last, as the mean over them; costs (``cost/params``,
            ``cost/macs``) among them. Empty where nothing can be learned.
        refused: Why it was never proposed: the schema or a limit refuses it. Empty for what was trained.
    """

    kind: Literal["complete", "stopped", "infeasible", "failed"]
    score: float | None = None
    progress: float = 1.0
    metrics: Mapping[str, float] = field(default_factory=dict)
    refused: str = ""


class SearchAlgorithm(Protocol):
    """A searcher. Built as ``builder(spec, space, mode)``, where ``mode`` is ``max`` or ``min``.

    It may have an attribute ``parents``: the values that its last suggestion was made from, the one whose weights the
    suggestion may begin with first.
    """

    def suggest(self, recorded: Values | None = None) -> Values | None:
        """The next config's searched values; None when there is nothing more to propose.

        Args:
            recorded: What it proposed here before, while a ledger is replayed: it wins over what it would propose now.
        """

    def complete(self, values: Values, learned: Learned) -> None:
        """Take in what became of a config, once: one it suggested, or one of an earlier sweep.

        Args:
            values: The config's searched values.
            learned: What became of it.
        """
