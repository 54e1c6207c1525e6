"""Starts two ranks, prints their process ids with the first report, and never answers it."""

from __future__ import annotations

import subprocess
import threading
from typing import Any

from expflow.config.schema import Recipe, Trainer
from expflow.events import Report
from expflow.tasks.specs import Action, ScriptedSpec
from expflow.training.contract import Attempt, World
from expflow.training.local_ranks import run_local_ranks

started: list[int] = []


class Noted(subprocess.Popen[bytes]):
    def __init__(self, *words: Any, **options: Any) -> None:
        super().__init__(*words, **options)
        started.append(self.pid)


def hear(report: Report) -> bool:
    print(*started, flush=True)
    threading.Event().wait()
    return True


if __name__ == "__main__":
    subprocess.Popen = Noted  # type: ignore[misc]
    script = tuple(Action.model_validate({"report": {"val/top1": 0.5}}) for _ in range(3))
    recipe = Recipe(task=ScriptedSpec(name="scripted", script=script), trainer=Trainer(epochs=1))
    run_local_ranks(Attempt(recipe, 0), World(ranks=2), hear, on_notice=lambda notice: None, leave=lambda: False)
