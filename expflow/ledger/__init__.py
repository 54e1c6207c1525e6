"""The ledger: the append-only record that is the truth about a sweep. Standard library only (and floor 0)."""

from expflow.ledger.header import Header
from expflow.ledger.lock import check_epoch
from expflow.ledger.reader import exists, load_state, read
from expflow.ledger.records import Cursor, Record, TornRecord
from expflow.ledger.state import SweepState, TrialState, fold
from expflow.ledger.writer import Ledger

__all__ = [
    "Cursor",
    "Header",
    "Ledger",
    "Record",
    "SweepState",
    "TornRecord",
    "TrialState",
    "check_epoch",
    "exists",
    "fold",
    "load_state",
    "read",
]
