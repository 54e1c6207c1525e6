"""What a sweep has shown: leaderboard, answers of the declared contrasts, figures and the HTML report.

Everything is computed from the ledger's state, by the rules of inference (design section 11), and what is said image by
image from the predictions that trials keep:

    board, found = leaderboard(state), answers(state)
    print(to_text(board, found))
    write(folder, state)
"""

from expflow.report.contrasts import Answer, answers
from expflow.report.images import with_images
from expflow.report.page import ReportFiles, write
from expflow.report.ranking import Leaderboard, Row, best, leaderboard
from expflow.report.results import Failure, Progress, failures, progress
from expflow.report.tables import Column, Table, stopped_table, table
from expflow.report.testing import Looks, looks
from expflow.report.text import looks_text, to_text

__all__ = [
    "Answer",
    "Column",
    "Failure",
    "Leaderboard",
    "Looks",
    "Progress",
    "ReportFiles",
    "Row",
    "Table",
    "answers",
    "best",
    "failures",
    "leaderboard",
    "looks",
    "looks_text",
    "progress",
    "stopped_table",
    "table",
    "to_text",
    "with_images",
    "write",
]
