"""A ledger that is older than what the store keeps: its runs were removed for good."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from expflow.events import TrialEnded, TrialStarted
from expflow.tracking.follower import catch_up
from tests.tracking.store_contents import everything
from tests.tracking.stories import reports, whole_sweep, whole_trial, write


def remove_for_good(uri: str, runs: list[str]) -> None:
    """Take runs out of a SQLite store, with all that hangs on them, as a server's clean-up does."""
    with contextlib.closing(sqlite3.connect(uri.removeprefix("sqlite:///"))) as database:
        tables = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            if "run_uuid" in {column[1] for column in database.execute(f"PRAGMA table_info({table})")}:
                database.executemany(f"DELETE FROM {table} WHERE run_uuid = ?", [(run,) for run in runs])
        database.commit()


def test_a_run_that_was_removed_for_good_does_not_come_back_in_part(tmp_path: Path, uri: str, runs) -> None:
    folder = tmp_path / "depth"
    write(folder, whole_sweep(depths=(20,), seeds=(0, 1)))
    assert catch_up(folder, uri)
    before = everything(uri)
    remove_for_good(uri, [runs("trial")["depth=20 s0"].info.run_id])
    again = [TrialStarted("t20s0", 2, "g"), *reports(20, 0, attempt=2), TrialEnded("t20s0", 2, "done", 30, 1.0)]
    write(folder, [*again, *whole_trial(20, 2)])
    assert catch_up(folder, uri)
    after = everything(uri)
    assert after.keys() - before.keys() == {"trial depth=20 s2"}
    assert before.keys() - after.keys() == {"trial depth=20 s0"}


def test_a_sweep_that_was_removed_for_good_is_written_whole(tmp_path: Path, uri: str, runs) -> None:
    folder = tmp_path / "depth"
    write(folder, whole_sweep(depths=(20,)))
    assert catch_up(folder, uri)
    remove_for_good(uri, [run.info.run_id for run in runs().values()])
    write(folder, whole_sweep(depths=(56,)))
    assert catch_up(folder, uri)
    other = f"sqlite:///{tmp_path / 'other.db'}"
    assert catch_up(folder, other)
    assert everything(uri) == everything(other)
