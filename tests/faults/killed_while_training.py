"""Trains a trial that saves after every step, kills it some steps later, starts it again, and so on. A program.

The processes that are killed are forks of this one, which has imported everything. Prints the step of the newest
checkpoint after each death.
"""

import os
import signal
import sys
import time
from pathlib import Path

from expflow.training.checkpoints import list_checkpoints, verify_checkpoint
from tests.training.test_checkpoint_resume import recipe, train

LIVELY = recipe(20, checkpoint={"every_steps": 1})


def newest(folder: Path) -> int:
    """The step of the newest folder that bears a checkpoint's name; 0 without one."""
    paths = list_checkpoints(folder / "checkpoints")
    return int(paths[0].name.removeprefix("step-")) if paths else 0


def main(root: Path, folder: Path, deaths: int) -> None:
    """So many deaths, each when at least four more steps are saved."""
    for _ in range(deaths):
        wanted = newest(folder) + 4
        child = os.fork()
        if child == 0:
            train(LIVELY, root, folder)
            os._exit(0)
        while newest(folder) < wanted and os.waitpid(child, os.WNOHANG) == (0, 0):
            time.sleep(0.001)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        step = verify_checkpoint(list_checkpoints(folder / "checkpoints")[0]).step
        sys.stdout.write(f"{step}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
