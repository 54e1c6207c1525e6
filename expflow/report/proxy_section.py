"""What zero-cost proxies would have told of the trained configs, beside what their size alone tells.

Source:
    White et al. 2022, "A Deeper Look at Zero-Cost Proxies for Lightweight NAS": parameters and multiply-adds are the
    baselines that a proxy has to beat.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from expflow.ledger.header import Header
from expflow.ledger.state import SweepState
from expflow.report import formatting
from expflow.report.leaderboard import Leaderboard, LeaderboardRow
from expflow.report.rank_correlation import RankCorrelation, partial_spearman, spearman
from expflow.report.text_table import TableColumn, TextTable
from expflow.search.arms import network_of
from expflow.search.specs import RANDOM_CHILDREN

PARAMETERS, MULTIPLY_ADDS = "parameters", "multiply-adds"


@dataclass(frozen=True)
class ProxyRow:
    """How one quantity, known before training, orders the trained configs.

    Attributes:
        name: The proxy, ``parameters`` or ``multiply-adds``.
        whole: Its rank correlation with the metric, signed such that more is better; None where there is none.
        partial: The same with the parameters held fixed; None of the parameters themselves.
    """

    name: str
    whole: RankCorrelation | None
    partial: RankCorrelation | None


@dataclass(frozen=True)
class ProxySection:
    """What was measured of networks before training, and what it was worth.

    Attributes:
        rows: The proxies, then the baselines.
        measured: Networks that were measured.
        passed_over: Those of them that were not trained.
        seconds: How long all measurements took.
        sentence: It in words.
    """

    rows: tuple[ProxyRow, ...]
    measured: int
    passed_over: int
    seconds: float
    sentence: str

    @property
    def table(self) -> TextTable:
        """The rows as text."""
        columns = (TableColumn("known before training", "left"), TableColumn("rank correlation", "left"))
        cells = tuple((row.name, _text(row.whole), _text(row.partial)) for row in self.rows)
        return TextTable((*columns, TableColumn("with the parameters held fixed", "left")), cells)


def _text(correlation: RankCorrelation | None) -> str:
    if correlation is None:
        return "-"
    return f"{correlation.value:.2f} [{correlation.low:.2f}, {correlation.high:.2f}] over {correlation.children}"


def proxy_section(state: SweepState, board: Leaderboard, header: Header) -> ProxySection | None:
    """What proxies were worth; of a proof, over its random children alone.

    Args:
        state: What the ledger adds up to.
        board: The leaderboard.
        header: The sweep's header.

    Returns:
        None where nothing was measured before training.
    """
    if not state.measured:
        return None
    rows = [row for row in _rows(board, header) if row.estimate is not None and row.config in state.measured]
    proxies = dict.fromkeys(
        name for event in state.measured.values() for name in event.metrics if not name.endswith("_ms")
    )
    sign = 1.0 if header.mode == "max" else -1.0
    ways: list[tuple[str, Callable[[LeaderboardRow], float | None]]] = [
        (name, lambda row, name=name: state.measured[row.config].metrics.get(name))  # type: ignore[misc]
        for name in proxies
    ]
    ways += [(PARAMETERS, lambda row: row.params), (MULTIPLY_ADDS, lambda row: row.macs)]
    trained = {trial.config for trial in state.trials.values()}
    passed, seconds = len(state.measured.keys() - trained), sum(event.seconds for event in state.measured.values())
    return ProxySection(
        tuple(_row(name, way, rows, sign) for name, way in ways) if proxies else (),
        len(state.measured),
        passed,
        seconds,
        _sentence(len(state.measured), passed, seconds, sum(trial.seconds for trial in state.trials.values())),
    )


def _rows(board: Leaderboard, header: Header) -> Sequence[LeaderboardRow]:
    if not header.arms:
        return board.rows
    drawn = {network_of(child["values"]) for child in header.arms["children"] if child["arm"] == RANDOM_CHILDREN}
    return [row for row in board.rows if network_of(row.values) in drawn]


def _row(
    name: str, way: Callable[[LeaderboardRow], float | None], rows: Sequence[LeaderboardRow], sign: float
) -> ProxyRow:
    known = [(value, row) for row in rows if (value := way(row)) is not None and row.params is not None]
    ones = [value for value, _ in known]
    twos = [sign * row.estimate.mean for _, row in known if row.estimate is not None]
    sizes = [float(row.params or 0) for _, row in known]
    partial = partial_spearman(ones, twos, sizes) if name != PARAMETERS else None
    return ProxyRow(name, spearman(ones, twos), partial)


def _sentence(measured: int, passed: int, seconds: float, trained: float) -> str:
    share = f", {100 * seconds / trained:.1f} % of the seconds of training" if trained else ""
    text = f"{formatting.plural(measured, 'network')} were measured before training, in {seconds:.1f} s{share}"
    return f"{text}; {passed} {'was' if passed == 1 else 'were'} passed over." if passed else f"{text}."
