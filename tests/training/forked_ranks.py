"""Two ranks train several recipes, one after another, as a warm gang does. A program, and what calls it.

The ranks are forks of a process that has imported everything, so that many trials cost little. Each recipe's result is
what rank 0 reported, or what all ranks were refused with.
"""

from __future__ import annotations

import faulthandler
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from expflow.config.schema import Recipe
from expflow.errors import ExpflowError
from expflow.registry import load_dotted
from expflow.training import Artifact, Attempt, World, ranks, run_trial
from tests.rank_forks import end_with

HANGS_SECONDS = 90
"""After which a rank says where it stands, and ends."""


def train_on_two_ranks(recipes: str, folder: Path, *, apart: bool = False) -> dict[str, Any]:
    """Train what a function returns.

    Args:
        recipes: Dotted path of the function, which takes a folder and returns name -> recipe.
        folder: Its argument; each trial's folder is one of the name below it.
        apart: Whether rank 1 has another folder, ``other`` below it, as on a machine with a disk of its own.
    """
    command = [sys.executable, "-m", __name__, recipes, str(folder), *(["apart"] if apart else [])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads((folder / "rank0.json").read_text()) | {"stderr": done.stderr}


def _train(recipe: Recipe, rank: int, folder: Path) -> dict[str, Any]:
    reports, artifacts = [], []

    def on_report(report: Any) -> bool:
        reports.append({"step": report.step, **report.metrics})
        return True

    def on_notice(notice: Any) -> None:
        if isinstance(notice, Artifact):
            artifacts.append([notice.name, notice.step])

    try:
        outcome = run_trial(Attempt(recipe, 0, folder=folder), World(rank, 2), on_report, on_notice=on_notice)
    except Exception as error:  # noqa: BLE001  the test decides what may be raised
        if not isinstance(error, ExpflowError):
            traceback.print_exc()
        return {"error": f"{type(error).__name__}: {error}"}
    return {"reports": reports, "artifacts": artifacts, "step": outcome.step, "weights": outcome.weights}


def _rank(rank: int, recipes: Mapping[str, Recipe], folder: Path, pipe: tuple[int, int], *, apart: bool) -> None:
    faulthandler.dump_traceback_later(HANGS_SECONDS, exit=True)
    if rank == 0:
        port = ranks.host_rendezvous("127.0.0.1", 2)
        os.write(pipe[1], f"{port}\n".encode())
    else:
        port = int(os.read(pipe[0], 100))
    ranks.join_group(rank, 2, "127.0.0.1", port, "127.0.0.1")
    disk = folder / "other" if apart and rank else folder
    results = {name: _train(recipe, rank, disk / name) for name, recipe in recipes.items()}
    ranks.leave_group()
    (folder / f"rank{rank}.json").write_text(json.dumps(results))


def main(path: str, folder: Path, *, apart: bool = False) -> None:
    """Fork both ranks, and wait for them."""
    recipes = load_dotted(path)(folder)
    pipe = os.pipe()
    children = []
    for rank in (0, 1):
        child = os.fork()
        if child == 0:
            end_with(partial(_rank, rank, recipes, folder, pipe, apart=apart))
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    sys.exit(max(abs(code) for code in codes))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), apart="apart" in sys.argv[3:])
