"""Saves a checkpoint beside earlier ones, and is killed at each step of it in turn. A program; imports no torch.

Prints a line of JSON for each death: what the process was about to do, and what a later attempt finds.
"""

import json
import os
import signal
import sys
from pathlib import Path

from expflow.training.checkpoints import list_checkpoints, verify_checkpoint
from expflow.training.checkpoints.storage import (
    CheckpointDraft,
    CheckpointManifest,
    HashingWriter,
    prune_checkpoints,
    remove_leftover_drafts,
)

STEPS = ("mkdir", "open", "fsync", "rename", "replace", "unlink", "rmdir")


def save(parent: Path, step: int) -> None:
    """As a trial does it: write, put into place, verify, prune."""
    draft = CheckpointDraft(parent, step, "-e1-a1")
    draft.write("weights.pt", lambda file: file.write(b"weights" * step * 1000))
    draft.write("state-0.pt", lambda file: file.write(b"state" * step))
    draft.commit(CheckpointManifest(step, "config", 0), (), lambda: None)
    verify_checkpoint(draft.final)
    prune_checkpoints(parent, 2, draft.final)


def die_at(death: int, tell: int) -> None:
    """Kill this process right before its ``death``-th step on the disk, having written to ``tell`` what that is."""
    count = 0

    def counted(name, act):
        def wrapped(*args, **kwargs):
            nonlocal count
            count += 1
            if count == death:
                os.write(tell, name.encode())
                if name == "write":  # half of it is there
                    data = bytes(args[1])
                    act(args[0], data[: len(data) // 2])
                    args[0].flush()
                os.kill(os.getpid(), signal.SIGKILL)
            return act(*args, **kwargs)

        return wrapped

    for name in STEPS:
        setattr(os, name, counted(name, getattr(os, name)))
    HashingWriter.write = counted("write", HashingWriter.write)


def one_death(parent: Path, death: int) -> dict:
    """A process that saves steps 2 and 3, and is killed at its ``death``-th step while it saves the latter."""
    save(parent, 1)
    save(parent, 2)
    hear, tell = os.pipe()
    child = os.fork()
    if child == 0:
        die_at(death, tell)
        save(parent, 3)
        os._exit(0)
    os.close(tell)
    _, status = os.waitpid(child, 0)
    named = os.read(hear, 100).decode()
    os.close(hear)
    left = list_checkpoints(parent)
    valid = [verify_checkpoint(path).step for path in left]
    hidden = [path.name for path in parent.iterdir() if path.name.startswith(".")]
    remove_leftover_drafts(parent, "-e1-a2")
    after = sorted(path.name for path in parent.iterdir())
    save(parent, 3)
    again = [verify_checkpoint(path).step for path in list_checkpoints(parent)]
    killed = os.WIFSIGNALED(status)
    return {"at": named, "killed": killed, "valid": valid, "hidden": hidden, "after": after, "again": again}


def main(folder: Path) -> None:
    """Until no step is left to be killed at."""
    for death in range(1, 1000):
        result = one_death(folder / str(death), death)
        sys.stdout.write(json.dumps(result) + "\n")
        if not result["killed"]:
            return


if __name__ == "__main__":
    main(Path(sys.argv[1]))
