"""A training that was cut and goes on is, bit for bit, the training that was not cut."""

import signal
import subprocess
import sys
from dataclasses import asdict

import pytest
import torch

from expflow.architectures.specs.mlp import MLPSpec
from expflow.config.schema import Recipe, Trainer
from expflow.config.spec import UserComponent
from expflow.data.prepare.build import prepare
from expflow.data.specs import DigitsSpec
from expflow.errors import CheckpointMismatch, Diverged, Preempted
from expflow.losses.specs import CrossEntropySpec
from expflow.optim.specs import AdamSpec, ConstantSpec, OneCycleSpec, SGDSpec
from expflow.tasks.specs import ClassificationSpec
from expflow.training import Attempt, Began, Saved, World, run_trial
from expflow.training.checkpoints import adopt_checkpoint, training_state
from expflow.training.checkpoints.tensor_files import read_weights
from tests.training import resumed_code
from tests.training.comparing import comparable
from tests.training.resumed_code import Rated

CODE = resumed_code.__name__
STEPS = 4
"""Optimizer steps of an epoch."""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return prepare(DigitsSpec(name="digits"), cache=tmp_path_factory.mktemp("cache")).root


def recipe(epochs=2, *, trainer=None, checkpoint=None, **changes):
    usual = {
        "data": DigitsSpec(name="digits", batch_size=50, limit=200),
        "model": UserComponent(name=f"{CODE}:Dropped"),
        "task": ClassificationSpec(name="classification"),
        "loss": CrossEntropySpec(name="cross_entropy"),
        "optimizer": SGDSpec(name="sgd", lr=0.1, momentum=0.9),
        "schedule": OneCycleSpec(name="one_cycle"),
    }
    filled = {key: value for key, value in (usual | changes).items() if value is not None}
    settings = {"epochs": epochs, "checkpoint": checkpoint or {}} | (trainer or {})
    return Recipe(**filled, trainer=Trainer.model_validate(settings))


def own(task, epochs=2, task_arguments=None, **changes):
    none = {"model": None, "loss": None, "optimizer": None, "schedule": None}
    return recipe(epochs, task=UserComponent(name=f"{CODE}:{task}", **(task_arguments or {})), **(none | changes))


class TrialMessages:
    """All reports and notices of a trial, over all of its attempts."""

    def __init__(self, leave_at=None):
        self.reports, self.notices = {}, []
        self.asked = -1  # the first question comes before the first step
        self.leave_at = leave_at

    def on_report(self, report):
        self.reports[report.step] = (comparable(report.metrics), report.progress)
        return True

    def leave(self):
        self.asked += 1
        return self.asked == self.leave_at

    def began(self):
        return [notice for notice in self.notices if isinstance(notice, Began)][-1]

    def saved(self):
        return [notice.step for notice in self.notices if isinstance(notice, Saved)]


def train(recipe, root, folder=None, messages=None, seed=0, **attempt):
    messages = messages or TrialMessages()
    outcome = run_trial(
        Attempt(recipe, seed, root, folder, **attempt),
        World(),
        messages.on_report,
        on_notice=messages.notices.append,
        leave=messages.leave,
    )
    return outcome, messages


def cut(recipe, root, folder, question):
    """Train until the ``question``-th time that the trial asks whether to leave."""
    messages = TrialMessages(leave_at=question)
    with pytest.raises(Preempted):
        train(recipe, root, folder, messages)
    messages.leave_at = None
    return messages


def test_what_killed_saves_left_half_written_goes_whatever_is_loaded(root, tmp_path):
    cut(recipe(), root, tmp_path, 2)
    folder = tmp_path / "checkpoints"
    (folder / ".step-000000003-e0-a9.tmp").mkdir()
    (folder / ".step-000000001-77.gone").mkdir()
    _, messages = train(recipe(), root, tmp_path)
    assert messages.began().step == 2
    assert not list(folder.glob(".step-*"))


# between any two steps


@pytest.mark.parametrize("question", [*range(1, STEPS), STEPS + 1, *range(STEPS + 9, 2 * STEPS + 8)])
def test_a_trial_that_was_cut_anywhere_is_the_trial_that_was_not(root, tmp_path, question):
    """Streaming data, dropout, momentum, a schedule over the whole course; weights and reports are equal.

    A trial asks after each of its 4 training and 8 validation batches; asked while it validates, it ends that first.
    """
    whole, expected = train(recipe(), root)
    messages = cut(recipe(), root, tmp_path, question)
    step = question if question < STEPS else max(STEPS, question - 8)
    assert messages.saved()[-1] == step
    again, _ = train(recipe(), root, tmp_path, messages)
    assert messages.began().step == step
    assert again == whole
    assert messages.reports == expected.reports


def test_cutting_it_after_every_step_changes_nothing(root, tmp_path):
    whole, expected = train(recipe(), root)
    messages = TrialMessages()
    for _ in range(2 * STEPS):
        messages.asked, messages.leave_at = -1, 1
        try:
            again, _ = train(recipe(), root, tmp_path, messages)
            break
        except Preempted:
            continue
    assert again == whole
    assert messages.reports == expected.reports


def test_the_comparison_can_fail(root, tmp_path, monkeypatch):
    """Without the random state, dropout draws other numbers, and the weights differ."""
    whole, _ = train(recipe(), root)
    messages = cut(recipe(), root, tmp_path, 3)
    monkeypatch.setattr(training_state, "restore_random_state", lambda state: None)
    again, _ = train(recipe(), root, tmp_path, messages)
    assert again.step == whole.step
    assert again.weights != whole.weights


def test_the_comparison_notices_forgotten_sums(root, tmp_path, monkeypatch):
    whole, expected = train(recipe(), root)
    messages = cut(recipe(), root, tmp_path, 2)
    monkeypatch.setattr(training_state, "restore_epoch_state", lambda task, state: None)
    again, _ = train(recipe(), root, tmp_path, messages)
    assert again == whole
    assert messages.reports != expected.reports


OTHERS = {
    "adam": lambda: recipe(optimizer=AdamSpec(name="adam", lr=0.01)),
    "running means and torchmetrics": lambda: own("Measuring", 3),
    "a plateau at each epoch's end": lambda: own("OnPlateau", 3),
    "two optimizers by hand": lambda: own("ByHand"),
    "accumulated gradients": lambda: recipe(3, trainer={"accumulate": 2}),
    "averaged weights": lambda: recipe(trainer={"ema": 0.9}),
    "rare validation": lambda: recipe(3, trainer={"validate_every": 2}),
    "a limit on steps": lambda: recipe(3, trainer={"lightning": {"max_steps": 10}}),
    "validation within the epoch": lambda: own("Measuring", trainer={"lightning": {"val_check_interval": 2}}),
}


@pytest.mark.parametrize("name", OTHERS)
def test_so_it_is_with(root, tmp_path, name):
    whole, expected = train(OTHERS[name](), root)
    for question in (1, 2, STEPS // 2 + 1, STEPS, STEPS + 10):
        folder = tmp_path / str(question)
        messages = TrialMessages(leave_at=question)
        try:
            train(OTHERS[name](), root, folder, messages)
        except Preempted:
            messages.leave_at = None
        again, _ = train(OTHERS[name](), root, folder, messages)
        assert again == whole, question
        assert messages.reports == expected.reports, question


def test_a_loader_without_a_position_is_saved_between_epochs(tmp_path):
    """torch's DataLoader, shuffled by the global generator, as users write it."""
    plain = {"data": UserComponent(name="tests.training.user_code:Blobs"), "model": MLPSpec(name="mlp", hidden=8)}
    whole, expected = train(recipe(4, **plain), None)
    messages = cut(recipe(4, **plain), None, tmp_path, 2)
    assert messages.saved() == [4]
    again, _ = train(recipe(4, **plain), None, tmp_path, messages)
    assert again == whole
    assert messages.reports == expected.reports


# killed


def test_killed_after_n_steps_and_started_again(root, tmp_path):
    """kill -9 of the process, at no step that was prepared for it."""
    every = {"every_steps": 1}
    whole, expected = train(recipe(3, checkpoint=every), root)
    code = (
        "import sys; from pathlib import Path;"
        "from tests.training import test_checkpoint_resume as t;"
        "from tests.training.resumed_code import Dropped;"
        "Dropped.killed_at = 6;"
        "t.train(t.recipe(3, checkpoint={'every_steps': 1}), Path(sys.argv[1]), Path(sys.argv[2]))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(root), str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    again, messages = train(recipe(3, checkpoint=every), root, tmp_path)
    assert messages.began().step == 5
    assert again == whole
    assert messages.reports == {step: report for step, report in expected.reports.items() if step > 5}


# the end, and beyond


@pytest.mark.parametrize("trainer", [{}, {"ema": 0.9}, {"validate_every": 3}], ids=str)
def test_a_finished_trial_repeats_only_its_last_report(root, tmp_path, trainer):
    """It was killed, say, between its end and what the driver wrote down of it."""
    whole, expected = train(recipe(trainer=trainer), root, tmp_path)
    again, messages = train(recipe(trainer=trainer), root, tmp_path)
    assert again == whole
    assert messages.began().step == whole.step
    assert messages.reports == {whole.step: expected.reports[whole.step]}
    assert messages.saved() == []


def test_a_longer_training_goes_on_where_the_shorter_one_ended(root, tmp_path):
    long, expected = train(recipe(3, schedule=ConstantSpec(name="constant")), root)
    train(recipe(2, schedule=ConstantSpec(name="constant")), root, tmp_path)
    again, messages = train(recipe(3, schedule=ConstantSpec(name="constant")), root, tmp_path)
    assert messages.began().step == 2 * STEPS
    assert again == long
    assert messages.reports == {3 * STEPS: expected.reports[3 * STEPS]}


def test_an_early_end_is_an_end(root, tmp_path):
    early = {"early_stopping": {"metric": "train/loss", "mode": "max", "patience": 0}}
    whole, expected = train(recipe(5, trainer=early), root, tmp_path)
    assert whole.step < 5 * STEPS
    again, messages = train(recipe(5, trainer=early), root, tmp_path)
    assert asdict(again) == asdict(whole)
    assert messages.reports == {whole.step: expected.reports[whole.step]}


def test_a_schedule_that_torch_stretched_is_noticed(root, tmp_path):
    train(own("OnCosine", 2), root, tmp_path)
    with pytest.raises(CheckpointMismatch, match="built for T_max 2, and now would be for 4"):
        train(own("OnCosine", 4), root, tmp_path)


def test_a_stopped_trial_can_go_on_later(root, tmp_path):
    """As a scheduler pauses it."""
    whole, expected = train(recipe(3), root)
    messages = TrialMessages()
    messages.on_report = lambda report: TrialMessages.on_report(messages, report) and report.step > STEPS
    stopped, _ = train(recipe(3), root, tmp_path, messages)
    assert (stopped.step, stopped.stopped) == (STEPS, True)
    again, _ = train(recipe(3), root, tmp_path, messages)
    assert messages.began().step == STEPS
    assert again == whole
    assert messages.reports == expected.reports


def test_a_diverged_trial_keeps_its_last_good_checkpoint(root, tmp_path):
    bad = own("NanAtSix", 3, checkpoint={"every_steps": 1})
    messages = TrialMessages()
    with pytest.raises(Diverged, match="at step 6"):
        train(bad, root, tmp_path, messages)
    assert messages.saved()[-1] == 5
    assert (tmp_path / "checkpoints" / "step-000000005" / "manifest.json").exists()


# when


def test_short_trials_save_once_and_keys_say_more(root, tmp_path):
    def steps(name, **checkpoint):
        return train(recipe(3, checkpoint=checkpoint), root, tmp_path / name)[1].saved()

    assert steps("usual") == [12]
    assert steps("none", at_end=False) == []
    assert steps("epochs", every_epochs=2) == [8, 12]
    assert steps("steps", every_steps=5, at_end=False) == [5, 10]
    assert steps("seconds", every_seconds=1e-9, at_end=False) == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]
    kept = sorted(path.name for path in (tmp_path / "seconds" / "checkpoints").iterdir())
    assert kept == ["step-000000010", "step-000000011"]


def test_saving_changes_no_result(root, tmp_path):
    assert train(recipe(), root, tmp_path)[0] == train(recipe(), root)[0]
    every = recipe(checkpoint={"every_steps": 1})
    assert train(every, root, tmp_path / "every")[1].reports == train(recipe(), root)[1].reports


def test_nothing_is_written_without_a_folder(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    messages = TrialMessages(leave_at=2)
    with pytest.raises(Preempted):
        train(recipe(), root, None, messages)
    assert list(tmp_path.iterdir()) == []


# taken over by another trial


def test_a_fork_keeps_the_weights_and_takes_its_own_rates(root, tmp_path):
    """Population based training: the state of one trial goes on under the recipe of another."""

    def with_rate(rate, decay):
        return own("Rated", task_arguments={"rate": rate, "decay": decay}, checkpoint={"every_epochs": 1})

    train(with_rate(0.1, 0.0), root, tmp_path / "donor")
    source = tmp_path / "donor" / "checkpoints" / "step-000000004"
    target = with_rate(0.04, 0.01)
    adopt_checkpoint(source, tmp_path / "target", attempt=Attempt(target, 1, forks=1))
    Rated.seen.clear()
    outcome, messages = train(target, root, tmp_path / "target", seed=1, forks=1)
    assert messages.began().step == STEPS
    assert outcome.step == 2 * STEPS
    [(weights, rate, decay)] = Rated.seen
    assert all(torch.equal(weights[name], value) for name, value in read_weights(source).items())
    assert (rate, decay) == (pytest.approx(0.04 / 2), 0.01)  # the schedule halves the rate each epoch
    again, _ = train(target, root, None, seed=1, forks=1, resume=source)
    assert again == outcome
    after, messages = train(target, root, tmp_path / "target", seed=1, forks=1)
    assert (after, messages.began().step) == (outcome, 2 * STEPS)
