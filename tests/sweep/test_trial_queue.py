"""Which trials are handed out again: resumed ones, those that redo their pause, failed ones that are retried."""

from __future__ import annotations

from expflow.ledger import TrialState
from expflow.ledger.state import TrialStatus
from expflow.sweep.trial_queue import TrialQueue


def trial(name: str, status: TrialStatus = "waiting") -> TrialState:
    return TrialState(name, "config", 0, {}, {}, status=status)


def test_resumed_trials_go_out_in_their_order_and_once() -> None:
    queue = TrialQueue()
    queue.resume("a")
    queue.resume("b")
    assert not queue.is_open(trial("a"))  # it is named by next_again alone
    assert queue.next_again() == "a"
    assert queue.hand_out("a")
    assert queue.next_again() == "b"
    queue.withdraw("b")
    assert queue.next_again() is None
    assert not queue.is_idle
    assert not queue.take_back("a")
    assert queue.is_idle
    assert queue.is_open(trial("a"))


def test_a_trial_that_redoes_its_pause_comes_first_and_is_back_when_it_returned() -> None:
    queue = TrialQueue()
    queue.resume("b")
    queue.redo("a", 4)
    assert (queue.next_again(), queue.redo_step("a"), queue.redo_step("b")) == ("a", 4, None)
    assert not queue.is_back("a")
    assert queue.hand_out("a")
    assert queue.redo_step("a") == 4
    assert queue.next_again() == "b"
    assert queue.take_back("a")
    queue.mark_redone("a")
    assert queue.is_back("a")
    assert (queue.was_redone("a"), queue.was_redone("b")) == (True, False)


def test_a_failed_trial_that_is_retried_is_open_until_it_is_handed_out() -> None:
    queue = TrialQueue(["a"])
    assert queue.is_open(trial("a", "failed"))
    assert not queue.is_open(trial("b", "failed"))
    assert not queue.hand_out("a")
    assert not queue.is_open(trial("a", "failed"))
    assert not queue.is_retried("a")
    queue.take_back("a")
    assert not queue.is_open(trial("a", "failed"))  # once
