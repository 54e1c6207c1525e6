"""How far the sweeps of jobs are, read from their ledgers, on the machine that has them.

``python -m expflow.cluster.job_progress FOLDER...`` prints it as one marked line of JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path

from expflow.errors import Refused
from expflow.ledger import exists
from expflow.sweep.trial_counts import sweep_progress

_MARK = "expflow-progress: "
MODULE = "expflow.cluster.job_progress"


def read_progress(folders: Iterable[str]) -> dict[str, str]:
    """Folder of results -> how far its sweep is, in words; folders without results here are left out.

    Args:
        folders: The folders.
    """
    progress = {}
    for folder in folders:
        try:
            if folder and exists(Path(folder)):
                progress[folder] = sweep_progress(Path(folder))
        except Refused as error:
            progress[folder] = str(error).splitlines()[0]
    return progress


def parse_progress(text: str) -> dict[str, str]:
    """What this module's command printed somewhere; nothing where it printed nothing.

    Args:
        text: All that was printed.
    """
    for line in reversed(text.splitlines()):
        place = line.find(_MARK)
        if place >= 0:
            return {str(folder): str(words) for folder, words in json.loads(line[place + len(_MARK) :]).items()}
    return {}


if __name__ == "__main__":
    sys.stdout.write(f"{_MARK}{json.dumps(read_progress(sys.argv[1:]))}\n")
