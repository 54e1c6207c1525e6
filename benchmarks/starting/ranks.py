"""Sixteen ranks at once, forked or not: until they are ready to train, and what each of them holds.

PYTHONPATH=benchmarks python -m starting.ranks forked|imported FOLDER
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from starting.programs import EXPERIMENT
from starting.terminal import fresh, until

RANKS = 16


def run_ranks(way: str, folder: Path) -> None:
    """Body of the process that starts 16 ranks, forked or not; prints the seconds and the memory as JSON."""
    import ray

    from expflow.sweep.plan import make_plan
    from expflow.sweep.trial_expansion import planned_trials
    from expflow.training.template.process import RankTemplate

    place = fresh(folder, "one.yaml", EXPERIMENT)
    trial = next(planned_trials(make_plan(place / "one.yaml", storage=place / "runs")))
    assert trial.data is not None
    ray.init(num_cpus=RANKS, include_dashboard=False, log_to_driver=False, logging_level="ERROR")

    @ray.remote(num_cpus=1)
    class Trained:
        def warm_up(self) -> int:
            import expflow.training.lightning_runner  # noqa: F401  what ranks import

            return os.getpid()

        def train(self, recipe: Any, root: str) -> None:
            from expflow.training import Attempt, World, run_trial

            run_trial(Attempt(recipe, 0, data_root=Path(root)), World(), lambda report: True)

    begun = time.perf_counter()
    with RankTemplate(wanted=way == "forked") as template:
        options = {"runtime_env": {"py_executable": template.executable}} if template.start() else {}
        actors = [Trained.options(**options).remote() for _ in range(RANKS)]
        pids = ray.get([actor.warm_up.remote() for actor in actors])
        seconds = time.perf_counter() - begun
        ray.get([actor.train.remote(trial.recipe, str(trial.data.root)) for actor in actors])
        group = [*pids, *([template.pid] if template.pid is not None else [])]
        whole = sum(map(pss_mib, group))
        ray.kill(actors[-1])
        until(lambda: not Path(f"/proc/{pids[-1]}").exists(), None)
        rest = sum(map(pss_mib, [pid for pid in group if pid != pids[-1]]))
        ray.shutdown()
    print(json.dumps({"seconds": seconds, "mib": whole - rest}))


def pss_mib(pid: int) -> float:
    """Proportional set size of a process in MiB."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


if __name__ == "__main__":
    run_ranks(sys.argv[1], Path(sys.argv[2]))
