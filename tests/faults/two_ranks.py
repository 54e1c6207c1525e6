"""Two ranks train a trial whole, and again with one of them killed in the middle of it. A program.

The ranks are forks of this process, which has imported everything. Prints a line of JSON for each course: how it ended,
where it began, what it reported.
"""

import json
import os
import signal
import sys
from pathlib import Path

from expflow.training import Attempt, Began, Saved, World, ranks, run_trial
from tests.training.comparing import comparable
from tests.training.resumed_code import Dropped
from tests.training.test_checkpoint_resume import recipe

RECIPE = recipe(3, checkpoint={"every_steps": 1})


def train(rank: int, root: Path, folder: Path | None, tell: int) -> None:
    """One rank's part; rank 0 says what came of it."""
    result = {"began": 0, "reports": {}, "saved": []}

    def on_report(report):
        result["reports"][report.step] = comparable(report.metrics)
        return True

    def on_notice(notice):
        if isinstance(notice, Began):
            result["began"] = notice.step
        elif isinstance(notice, Saved):
            result["saved"].append(notice.step)

    outcome = run_trial(Attempt(RECIPE, 0, root, folder), World(rank, 2), on_report, on_notice=on_notice)
    ranks.leave_group()
    result |= {"rank": rank, "weights": outcome.weights, "step": outcome.step}
    os.write(tell, (json.dumps(result) + "\n").encode())


def course(root: Path, folder: Path | None, killed_at: int = 0) -> None:
    """Both ranks to their end, or until rank 1 is killed at its ``killed_at``-th forward pass, and rank 0 with it."""
    meet, tell = os.pipe()
    children = []
    for rank in (0, 1):
        child = os.fork()
        if child == 0:
            try:
                if rank == 0:
                    port = ranks.host_rendezvous("127.0.0.1", 2)
                    os.write(tell, f"{port}\n".encode())
                else:
                    port = int(os.read(meet, 100).split()[0])
                    Dropped.killed_at = killed_at
                ranks.join_group(rank, 2, "127.0.0.1", port, "127.0.0.1")
                train(rank, root, folder, sys.stdout.fileno())
            finally:
                sys.stdout.flush()
                os._exit(0)
        children.append(child)
    _, status = os.waitpid(children[1], 0)
    if os.WIFSIGNALED(status):
        os.kill(children[0], signal.SIGKILL)
    os.waitpid(children[0], 0)


def main(root: Path, folder: Path) -> None:
    """The whole course, the one that is killed, and what goes on after it."""
    course(root, None)
    course(root, folder, killed_at=6)
    course(root, folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
