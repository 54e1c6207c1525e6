"""Which checkpoints of a sweep are deleted, and which never are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from expflow.config.schema import SweepCheckpoints
from expflow.events import (
    AttemptFailed,
    SchedulerDecided,
    SplitEvaluated,
    TrialEnded,
    TrialForked,
    TrialProposed,
    TrialReported,
    TrialStarted,
)
from expflow.ledger.header import Header
from expflow.ledger.state import fold
from expflow.report import selected_row
from expflow.training.checkpoints.retention import (
    RetentionDecision,
    StoredCheckpoint,
    decide_retention,
    delete_checkpoint,
    protected_trials,
    stored_checkpoints,
)
from tests.config.files import BASE, loaded, problems


def header(**changes):
    return Header(**{"name": "exp", "text": "", "file": "exp.yaml", "plan": "p", "metric": "val/top1", **changes})


HEADER = header()


def trial_events(trial, status="done", score=0.5):
    events = [TrialProposed(trial, trial, 0, {}, {}), TrialStarted(trial, 1, "g0")]
    if score is not None:
        events.append(TrialReported(trial, 1, 10, {"val/top1": score}, 1.0))
    if status == "paused":
        events.append(SchedulerDecided(trial, 1, 10, "pause"))
    elif status == "waiting":
        events.append(AttemptFailed(trial, 1, "lost", "its worker is gone"))
    elif status != "running":
        events.append(TrialEnded(trial, 1, status, 10, 1.0))
    return events


def state_after(*events, first=HEADER):
    return fold((float(at), line) for at, line in enumerate([first, *events]))


def on_disk(trial, *steps, size=10):
    return [StoredCheckpoint(trial, step, f"{trial}/checkpoints/step-{step:09d}", size) for step in steps]


def pruned(decision):
    return [(event.trial, event.step) for event in decision.prune]


def five_trials(first=HEADER):
    scores = {"a": 0.7, "b": 0.9, "c": 0.5, "d": 0.8, "e": 0.6}
    events = [event for trial, score in scores.items() for event in trial_events(trial, score=score)]
    stored = [checkpoint for trial in scores for checkpoint in on_disk(trial, 20, 10)]
    return state_after(*events, first=first), stored


def test_without_keys_nothing_is_deleted():
    assert decide_retention(*five_trials(), SweepCheckpoints()) == RetentionDecision()


def test_the_best_trials_keep_theirs():
    decision = decide_retention(*five_trials(), SweepCheckpoints(best=3))
    assert pruned(decision) == [("c", 20), ("c", 10), ("e", 20), ("e", 10)]
    assert decision.prune[0].path == "c/checkpoints/step-000000020"
    assert decision.prune[0].reason == "its config is not among the best 3 (sweep.checkpoints.best)"


def test_best_means_what_the_sweep_means_by_it():
    decision = decide_retention(*five_trials(header(mode="min")), SweepCheckpoints(best=1))
    assert {trial for trial, _ in pruned(decision)} == set("abde")

    rising_and_falling = [
        TrialProposed("x", "x", 0, {}, {}),
        TrialStarted("x", 1, "g0"),
        TrialReported("x", 1, 5, {"val/top1": 0.9}),
        TrialReported("x", 1, 10, {"val/top1": 0.1}),
        TrialEnded("x", 1, "done", 10, 1.0),
    ]
    stored = on_disk("x", 10) + on_disk("y", 10)
    for first, gone in ((header(select="best_epoch"), "y"), (header(select="last"), "x")):
        state = state_after(*rising_and_falling, *trial_events("y", score=0.5), first=first)
        assert pruned(decide_retention(state, stored, SweepCheckpoints(best=1))) == [(gone, 10)]


def config_events(config, scores, first=0):
    """Trials of one config, a seed each; a score of None is one that runs."""
    events = []
    for seed, score in enumerate(scores, first):
        trial = f"{config}{seed}"
        events += [TrialProposed(trial, config, seed, {}, {}), TrialStarted(trial, 1, "g0")]
        if score is not None:
            events += [TrialReported(trial, 1, 10, {"val/top1": score}, 1.0), TrialEnded(trial, 1, "done", 10, 1.0)]
    return events


def stored_of(state):
    return [checkpoint for trial in state.trials for checkpoint in on_disk(trial, 10)]


SEEDS = header(seeds=(0, 1, 2))


@pytest.mark.parametrize(("select", "mode"), [("last", "max"), ("best_epoch", "max"), ("last", "min")])
def test_the_best_are_configs_with_all_their_seeds_as_the_sweep_selects_them(select, mode):
    """``b`` has the best single trial, ``a`` the best mean: all seeds of ``a`` stay, as `test` needs them."""
    scores = {"a": (0.8, 0.82, 0.81), "b": (0.99, 0.6, 0.5), "c": (0.7, 0.7, 0.71)}
    sign = 1 if mode == "max" else -1
    events = [line for name, values in scores.items() for line in config_events(name, [sign * v for v in values])]
    state = state_after(*events, first=header(seeds=(0, 1, 2), select=select, mode=mode))
    kept = {selected_row(state).trials[0].config}
    assert kept == {"a"}
    gone = {trial for trial, _ in pruned(decide_retention(state, stored_of(state), SweepCheckpoints(best=1)))}
    assert gone == {"b0", "b1", "b2", "c0", "c1", "c2"}
    gone = {trial for trial, _ in pruned(decide_retention(state, stored_of(state), SweepCheckpoints(best=2)))}
    assert gone == {"b0", "b1", "b2"}, "c has the better mean"


@pytest.mark.parametrize("scores", [(0.1,), (0.1, 0.2), (0.1, 0.2, None)])
def test_a_config_whose_seeds_have_not_all_ended_keeps_its_checkpoints(scores):
    state = state_after(*config_events("good", (0.9, 0.9, 0.9)), *config_events("young", scores), first=SEEDS)
    assert pruned(decide_retention(state, stored_of(state), SweepCheckpoints(best=1))) == []


def test_what_will_be_confirmed_keeps_its_checkpoints():
    """The leaders get further seeds, and may change places by them."""
    events = [line for name, score in (("a", 0.9), ("b", 0.8), ("c", 0.7)) for line in config_events(name, (score,))]
    state = state_after(*events, first=header(seeds=(0,), confirm={"seeds": (1, 2), "top": 2}))
    assert pruned(decide_retention(state, stored_of(state), SweepCheckpoints(best=1))) == [("c0", 10)]


def test_a_full_disk_leaves_the_selected_config_whole():
    state = state_after(*config_events("a", (0.8, 0.8, 0.8)), *config_events("b", (0.99, 0.5, 0.5)), first=SEEDS)
    decision = decide_retention(state, stored_of(state), SweepCheckpoints(disk=0))
    assert {trial for trial, _ in pruned(decision)} == {"b0", "b1", "b2"}
    assert decision.excess == 30


def test_an_ended_trial_keeps_its_newest():
    decision = decide_retention(*five_trials(), SweepCheckpoints(per_trial=1))
    assert pruned(decision) == [(trial, 10) for trial in "abcde"]
    assert "has 1 newer" in decision.prune[0].reason


def test_a_full_disk_takes_older_ones_first_and_then_the_worst():
    state, stored = five_trials()
    assert pruned(decide_retention(state, stored, SweepCheckpoints(disk=80))) == [("c", 10), ("e", 10)]
    decision = decide_retention(state, stored, SweepCheckpoints(disk="25 B"))
    assert pruned(decision)[:5] == [("c", 10), ("e", 10), ("a", 10), ("d", 10), ("b", 10)]
    assert pruned(decision)[5:] == [("c", 20), ("e", 20), ("a", 20)]
    assert decision.excess == 0
    most = decide_retention(state, stored, SweepCheckpoints(disk=0))
    assert ("b", 20) not in pruned(most), "the newest of the best trial stays whatever the disk"
    assert (len(most.prune), most.excess) == (9, 10)


def test_trials_without_a_result_go_before_ranked_ones():
    state = state_after(
        *trial_events("a", score=0.1),
        *trial_events("b", "failed", score=None),
        *trial_events("c", "stopped", score=0.9),
    )
    stored = [checkpoint for trial in "abc" for checkpoint in on_disk(trial, 10)]
    assert pruned(decide_retention(state, stored, SweepCheckpoints(disk=10))) == [("b", 10), ("c", 10)]
    assert pruned(decide_retention(state, stored, SweepCheckpoints(best=1))) == [("b", 10), ("c", 10)]


@pytest.mark.parametrize("rules", [{"best": 1}, {"per_trial": 1}, {"disk": 0}])
@pytest.mark.parametrize("status", ["paused", "running", "waiting"])
def test_what_may_go_on_keeps_everything(rules, status):
    state = state_after(*trial_events("best", score=0.9), *trial_events("open", status, score=0.1))
    decision = decide_retention(state, on_disk("open", 20, 10), SweepCheckpoints(**rules))
    assert decision.prune == ()
    assert decision.excess == (20 if "disk" in rules else 0)


def looked(**named):
    return SplitEvaluated(config="c", split="test", data="d", number=1, again=False, **{"metrics": {}, **named})


@pytest.mark.parametrize(
    "use",
    [
        TrialForked("best", "used", 10, {}),
        looked(metrics={"used": {"test/top1": 0.1}}),
        looked(metrics={"uniform_soup": {}}, members={"uniform_soup": ["used", "best"]}),
    ],
)
def test_what_was_forked_from_or_evaluated_on_test_stays(use):
    events = [*trial_events("best", score=0.9), *trial_events("used", score=0.2), *trial_events("other", score=0.1)]
    state = state_after(*events, use)
    assert "used" in protected_trials(state)
    stored = on_disk("used", 20, 10) + on_disk("other", 20)
    for rules in (SweepCheckpoints(best=1, per_trial=1), SweepCheckpoints(disk=20)):
        assert pruned(decide_retention(state, stored, rules)) == [("other", 20)]


def test_what_init_from_names_stays():
    state, stored = five_trials()
    decision = decide_retention(state, stored, SweepCheckpoints(best=1), pinned={"c/checkpoints/step-000000010"})
    assert ("c", 20) in pruned(decision)
    assert ("c", 10) not in pruned(decision)


def test_trials_of_an_earlier_plan_keep_theirs_and_count_towards_the_disk():
    later = Header(name="exp", text="", file="exp.yaml", plan="p2", metric="val/top1", mode="max")
    state = state_after(
        *trial_events("old", score=0.9), later, *trial_events("new", score=0.1), *trial_events("worse", score=0)
    )
    stored = on_disk("old", 20, 10) + on_disk("new", 20, 10) + on_disk("worse", 20)
    assert pruned(decide_retention(state, stored, SweepCheckpoints(disk=40))) == [("new", 10)]
    assert pruned(decide_retention(state, stored, SweepCheckpoints(best=1))) == [("worse", 20)]


STATUSES = st.sampled_from(["done", "failed", "stopped", "paused", "running", "waiting"])
SCORES = st.none() | st.sampled_from([0.1, 0.5, 0.5, 0.9, float("nan")])


@given(
    trials=st.lists(st.tuples(STATUSES, SCORES), max_size=6),
    sizes=st.lists(st.integers(0, 20), min_size=18, max_size=18),
    rules=st.builds(
        SweepCheckpoints,
        best=st.none() | st.integers(1, 4),
        per_trial=st.none() | st.integers(1, 3),
        disk=st.none() | st.integers(0, 100),
    ),
    pins=st.sets(st.integers(0, 17)),
    source=st.none() | st.integers(0, 5),
)
def test_rules(trials, sizes, rules, pins, source):
    names = [f"t{number}" for number in range(len(trials))]
    events = [
        event
        for name, (status, score) in zip(names, trials, strict=True)
        for event in trial_events(name, status, score)
    ]
    if source is not None and source < len(names):
        events.append(TrialForked(names[-1], names[source], 10, {}))
    state = state_after(*events)
    stored = [
        StoredCheckpoint(name, step, f"{name}/{step}", size)
        for (name, step), size in zip(((name, step) for name in names for step in (30, 20, 10)), sizes, strict=False)
    ]
    pinned = {stored[index].path for index in pins if index < len(stored)}
    decision = decide_retention(state, stored, rules, pinned=pinned)
    gone = {event.path for event in decision.prune}
    left = [checkpoint for checkpoint in stored if checkpoint.path not in gone]

    assert decide_retention(state, reversed(stored), rules, pinned=pinned) == decision, "it depends on no order"
    assert decide_retention(state, left, rules, pinned=pinned).prune == (), "it asks for no more when it was done"
    assert len(gone) == len(decision.prune)
    assert not gone & pinned
    assert not {event.trial for event in decision.prune} & protected_trials(state)
    if rules == SweepCheckpoints():
        assert not gone
    if rules.disk is not None:
        assert decision.excess == max(0, sum(checkpoint.size for checkpoint in left) - rules.disk)
    if rules.disk is None and rules.best is None and rules.per_trial is not None:
        assert all(sum(checkpoint.trial == name for checkpoint in left) >= min(rules.per_trial, 3) for name in names)


def test_on_the_disk_they_are_listed_and_deleted_whole(tmp_path):
    folder = tmp_path / "trials" / "a" / "checkpoints"
    for step, content in ((1, b"12345"), (2, b"123")):
        (folder / f"step-{step:09d}").mkdir(parents=True)
        (folder / f"step-{step:09d}" / "weights.pt").write_bytes(content)
    (folder / ".step-000000003-e0-a1.tmp").mkdir()
    stored = stored_checkpoints(tmp_path, "a", tmp_path / "trials" / "a")
    assert [(checkpoint.step, checkpoint.size) for checkpoint in stored] == [(2, 3), (1, 5)]
    decision = decide_retention(state_after(*trial_events("a")), stored, SweepCheckpoints(per_trial=1))
    for _ in range(2):  # a driver that was killed after the first does it again
        for event in decision.prune:
            delete_checkpoint(tmp_path, event)
    assert stored_checkpoints(tmp_path, "a", tmp_path / "trials" / "a") == stored[:1]
    assert stored_checkpoints(tmp_path, "b", tmp_path / "trials" / "b") == []


SWEEP = BASE + "sweep: {space: {optimizer.lr: [0.1, 0.2]}, checkpoints: {%s}}\n"


def test_the_keys_are_read_from_the_file_and_change_no_id(tmp_path):
    plain = loaded(tmp_path, SWEEP % "")
    used = loaded(tmp_path, SWEEP % "best: 5, per_trial: 1, disk: 20 GB")
    assert plain.experiment.sweep.checkpoints == SweepCheckpoints()
    assert used.experiment.sweep.checkpoints == SweepCheckpoints(best=5, per_trial=1, disk=20_000_000_000)


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        ("best: 0", "sweep.checkpoints.best"),
        ("disk: lots", "sweep.checkpoints.disk: expected a size such as 50 GB, found 'lots'"),
        ("keep: 3", "sweep.checkpoints.keep"),
    ],
)
def test_a_wrong_key_is_named(tmp_path, keys, complaint):
    assert complaint in "\n".join(problems(tmp_path, SWEEP % keys))
