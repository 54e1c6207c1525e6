"""When a running attempt counts as hung, or as over its limit."""

from __future__ import annotations

from expflow.sweep.liveness import WARM_UP_SECONDS, AttemptLimits, Liveness


def test_an_attempt_is_judged_by_silence_steps_and_limit() -> None:
    liveness = Liveness.begin(2, now=0.0)
    limits = AttemptLimits(stall=100.0, limit=500.0, silent=30.0)
    assert liveness.fault(limits, 90.0) is None  # still warming up
    liveness.beat(0, 1, 90.0)
    liveness.beat(1, 1, 90.0)
    assert liveness.fault(limits, 110.0) is None
    liveness.beat(0, 1, 130.0)
    assert liveness.fault(limits, 130.0) == ("hung", "rank 1 gave no sign of life for 40 s")
    liveness.beat(1, 1, 195.0)
    liveness.beat(0, 1, 195.0)
    failure, words = liveness.fault(limits, 195.0) or ("", "")
    assert failure == "hung"
    assert words.startswith("no step for 105 s")
    liveness.waiting = True
    assert liveness.fault(limits, 195.0) is None
    for at in range(200, 520, 20):
        liveness.beat(0, at, float(at))
        liveness.beat(1, at, float(at))
    assert (liveness.fault(limits, 510.0) or ("",))[0] == "killed_by_limit"


def test_a_rank_that_falls_silent_after_the_first_report_does_not_count_as_warming_up() -> None:
    liveness, limits = Liveness.begin(2, now=0.0), AttemptLimits(silent=30.0)
    liveness.beat(0, 0, 10.0)
    liveness.reported(12.0)
    liveness.beat(0, 1, 41.0)
    assert liveness.fault(limits, 41.0) is None
    assert liveness.fault(limits, 43.0) == ("hung", "rank 1 gave no sign of life for 31 s")


def test_the_clock_of_a_stall_begins_with_the_first_step() -> None:
    liveness, limits = Liveness.begin(1, now=0.0), AttemptLimits(stall=5.0)
    for at in range(0, 300, 20):
        liveness.beat(0, 0, float(at))  # it imports, and reads its data
    assert liveness.fault(limits, 299.0) is None
    liveness.beat(0, 1, 300.0)
    assert liveness.fault(limits, 304.0) is None
    assert liveness.fault(limits, 306.0) == ("hung", "no step for 6 s (resources.stall_seconds)")


def test_a_trial_that_never_begins_is_hung_too() -> None:
    liveness, limits = Liveness.begin(1, now=0.0), AttemptLimits(stall=5.0)
    end = WARM_UP_SECONDS + 6.0
    liveness.beat(0, 0, end)
    assert liveness.fault(limits, end) == ("hung", "no first step for 606 s (resources.stall_seconds)")
