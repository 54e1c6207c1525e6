"""Nobody looks for garbage in a body, and afterwards everybody who did looks again."""

from __future__ import annotations

import gc
import threading
from pathlib import Path

import pytest

from expflow.garbage import MANY_OBJECTS, nothing_collected
from expflow.registry import load_dotted


def test_python_looks_again_after_the_body_and_after_an_error() -> None:
    with nothing_collected(), nothing_collected():
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(KeyError), nothing_collected():
        raise KeyError
    assert gc.isenabled()


def test_what_was_made_in_the_body_counts_as_old() -> None:
    gc.collect()
    with nothing_collected():
        kept = [[] for _ in range(MANY_OBJECTS + 1)]
    assert any(kept[0] is known for known in gc.get_objects(generation=2))
    assert len(gc.get_objects(generation=0)) < len(kept)


def test_what_somebody_has_frozen_stays_frozen() -> None:
    gc.freeze()
    try:
        with nothing_collected():
            kept = [[] for _ in range(MANY_OBJECTS + 1)]
        assert gc.get_freeze_count()
        assert kept
    finally:
        gc.unfreeze()


def test_a_body_that_makes_little_costs_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise AssertionError

    monkeypatch.setattr(gc, "get_freeze_count", refuse)
    gc.collect()
    with nothing_collected():
        pass


def test_who_had_switched_it_off_finds_it_off() -> None:
    gc.disable()
    try:
        with nothing_collected():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_a_body_that_ends_leaves_those_of_other_threads_alone() -> None:
    inside, leave = threading.Event(), threading.Event()

    def body() -> None:
        with nothing_collected():
            inside.set()
            leave.wait()

    thread = threading.Thread(target=body)
    with nothing_collected():
        thread.start()
        inside.wait()
    assert not gc.isenabled()
    leave.set()
    thread.join()
    assert gc.isenabled()


def test_a_users_module_may_switch_it_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "switches_off.py").write_text("import gc\ngc.disable()\nNAME = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    try:
        assert load_dotted("switches_off:NAME") == 1
        assert not gc.isenabled()
    finally:
        gc.enable()
