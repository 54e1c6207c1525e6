"""Trainings on photographs by one and two ranks, cut and gone on with, or beside each other. A program.

All processes that train are forks of this one, which has imported everything. It prints one line of JSON for each rank
of each course: the course, what was reported, and the final weights.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from expflow import cli, ledger, tracking
from expflow.cli.views import run as views
from expflow.config import load
from expflow.config.schema import Recipe
from expflow.data.prepare import shard_plan
from expflow.data.prepare.build import prepare
from expflow.data.shards.manifest import read_manifest
from expflow.sweep import in_process, plan
from expflow.training import Attempt, Began, World, lightning_runner, ranks, run_trial
from tests.training import photographs
from tests.training.comparing import comparable

IMPORTED = (views, in_process, plan, lightning_runner)
"""Once, by the parent of all courses."""


def print_course(name: str, **content: Any) -> None:
    """A line about a course, written whole."""
    os.write(sys.stdout.fileno(), (json.dumps({"course": name, **content}) + "\n").encode())


def train(name: str, recipe: Recipe, root: Path, folder: Path | None, world: World, killed_at: int) -> None:
    """One rank's part; it kills itself after its batch number ``killed_at``, before that is saved."""
    reports: dict[int, Any] = {}
    began, asked = 0, -1  # the first question comes before the first step

    def on_report(report: Any) -> bool:
        reports[report.step] = comparable(report.metrics)
        return True

    def on_notice(notice: Any) -> None:
        nonlocal began
        began = notice.step if isinstance(notice, Began) else began

    def leave() -> bool:
        nonlocal asked
        asked += 1
        if killed_at and asked == killed_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return False

    outcome = run_trial(Attempt(recipe, 0, root, folder), world, on_report, on_notice=on_notice, leave=leave)
    print_course(name, rank=world.rank, began=began, step=outcome.step, weights=outcome.weights, reports=reports)


class Courses:
    """Runs courses on the data of one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root: Path | None = None

    def recipe(self, **changes: str) -> Recipe:
        loaded = load(photographs.written(self.folder, **changes)).experiment
        if self.root is None:  # prepared by this process: no course begins with it
            self.root = prepare(loaded.data, cache=self.folder / "cache", folder=self.folder).root
        return loaded.recipe

    def run(self, name: str, recipe: Recipe, count: int, keep: str = "", killed_at: int = 0) -> None:
        """``count`` ranks to their end, or until the last one kills itself, and the others with it."""
        folder = self.folder / keep if keep else None
        meet, tell = os.pipe()
        children = []
        for rank in range(count):
            child = os.fork()
            if child == 0:
                _as_child(
                    name, lambda rank=rank: self._rank(name, recipe, folder, rank, count, killed_at, (meet, tell))
                )
            children.append(child)
        _, status = os.waitpid(children[-1], 0)
        for child in children[:-1]:
            if os.WIFSIGNALED(status):
                os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)

    def _rank(
        self,
        name: str,
        recipe: Recipe,
        folder: Path | None,
        rank: int,
        count: int,
        killed_at: int,
        pipe: tuple[int, int],
    ) -> None:
        if count > 1:
            if rank == 0:
                port = ranks.host_rendezvous("127.0.0.1", count)
                os.write(pipe[1], f"{port}\n".encode() * (count - 1))
            else:
                port = int(os.read(pipe[0], 6).split()[0])
            ranks.join_group(rank, count, "127.0.0.1", port, "127.0.0.1")
        assert self.root is not None
        train(name, recipe, self.root, folder, World(rank, count), killed_at if rank == count - 1 else 0)
        ranks.leave_group()

    def command(self, name: str, file: Path, shorted: str = "") -> None:
        """``expflow train FILE`` in a process of its own.

        ``shorted``: the forward pass in training at which it gets a signal, and which.
        """
        child = os.fork()
        if child == 0:
            _as_child(name, lambda: self._typed(file, shorted))
        _, status = os.waitpid(child, 0)
        state = ledger.load_state(self.folder / "runs" / file.stem)
        [trial] = state.trials.values()
        print_course(
            name,
            exit=-os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status),
            status=trial.status,
            weights=trial.weights,
            reports={report.step: comparable(report.metrics) for report in trial.reports},
            failures=[failure.message for failure in trial.failures],
            saved=trial.checkpoint.step if trial.checkpoint else 0,
        )

    def _typed(self, file: Path, shorted: str) -> None:
        os.chdir(self.folder)
        os.environ |= {"EXPFLOW_CACHE": str(self.folder / "cache"), "SHORTED": shorted or "0 0"}
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
        start = tracking.start_follower
        for module in [loaded for loaded in sys.modules.values() if getattr(loaded, "start_follower", None) is start]:
            module.start_follower = lambda folder, uri, **named: Untracked()  # MLflow has tests of its own
        try:
            cli.main(["train", file.name])
        except SystemExit as left:
            os._exit(int(left.code or 0))


class Untracked:
    """No MLflow beside the trial."""

    def finish(self, seconds: float) -> bool:
        return True

    def stop(self) -> None:
        pass


def _as_child(name: str, act: Callable[[], None]) -> None:
    try:
        act()
    except BaseException as error:  # noqa: BLE001  printed; only a rank whose sister was killed may fail
        print_course("failed", of=name, error=f"{type(error).__name__}: {error}")
    finally:
        os._exit(0)


def main(folder: Path) -> None:
    """All courses."""
    photographs.make_folder(folder)
    shard_plan.SHARD_SAMPLES = 5  # nine shards of train, which are more than one window
    courses = Courses(folder)
    all_of_it = courses.recipe()
    for count in (1, 2):
        courses.run(f"{count} whole", all_of_it, count)
        courses.run(f"{count} killed", all_of_it, count, keep=f"{count}", killed_at=4)
        courses.run(f"{count} gone on", all_of_it, count, keep=f"{count}")
    without = dict.fromkeys(("model", "loss", "optimizer", "schedule"), "")
    seeing = f"{{name: 'tests.training.photographs:Seeing', path: '{folder}/seen.jsonl'}}"
    seen = courses.recipe(task=seeing, trainer="epochs: 2, checkpoint: {every_steps: 1}", **without)
    courses.run("seen killed", seen, 2, keep="seen", killed_at=4)
    (folder / "seen.jsonl").rename(folder / "seen by two.jsonl")
    courses.run("seen gone on", seen, 1, keep="seen")
    for name, count, trainer in (
        ("alone", 1, "epochs: 1"),
        ("synchronised", 2, "epochs: 1, sync_batchnorm: true"),
        ("each its own", 2, "epochs: 1"),
    ):
        courses.run(name, courses.recipe(data="", trainer=trainer), count)
    own = {"model": "{name: 'tests.training.photographs:Shorted'}"}
    courses.command("train", photographs.written(folder, "whole", **own))
    for name, number in (("killed", signal.SIGKILL), ("told", signal.SIGTERM)):
        file = photographs.written(folder, name, **own)
        courses.command(f"train, {name}", file, shorted=f"4 {int(number)}")
        courses.command(f"train again, {name}", file)
    damage(courses)


def damage(courses: Courses) -> None:
    """One bit of a shard turns over: its five photographs can no longer be trusted."""
    assert courses.root is not None
    first = courses.root / read_manifest(courses.root).splits["train"][0].name
    content = bytearray(first.read_bytes())
    content[len(content) // 2] ^= 1
    first.chmod(0o644)
    first.write_bytes(content)
    some = courses.recipe(data="on_bad_sample: skip\n  skip_limit: 0.5")
    courses.run("damaged, killed", some, 2, keep="damaged", killed_at=5)
    courses.run("damaged, gone on", some, 1, keep="damaged")
    for name, skip in (("damaged", "on_bad_sample: skip"), ("damaged, some", "on_bad_sample: skip\n  skip_limit: 0.5")):
        data = f"{photographs.AUGMENTED}\n  {skip}"
        courses.command(name, photographs.written(courses.folder, name.replace(", ", "_"), data=data))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
