"""What a sweep has shown: leaderboard, answers of the declared contrasts, figures and the HTML report.

Everything is computed from the ledger's state alone, by the rules of inference (design section 11):

    board, found = leaderboard(state), answers(state)
    print(to_text(board, found))
    write(folder, state)
"""

from expflow.report.contrasts import Answer, answers
from expflow.report.page import ReportFiles, write
from expflow.report.ranking import Leaderboard, Row, best, leaderboard
from expflow.report.results import Failure, Progress, failures, progress
from expflow.report.tables import Column, Table, stopped_table, table
from expflow.report.text import to_text

__all__ = [
    "Answer",
    "Column",
    "Failure",
    "Leaderboard",
    "Progress",
    "ReportFiles",
    "Row",
    "Table",
    "answers",
    "best",
    "failures",
    "leaderboard",
    "progress",
    "stopped_table",
    "table",
    "to_text",
    "write",
]
