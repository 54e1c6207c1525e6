"""A training that was cut and goes on is, bit for bit, the training that was not cut."""

import signal
import subprocess
import sys
from dataclasses import asdict

import pytest
import torch

from expflow.architectures.specs.mlp import MLP
from expflow.config.schema import Recipe, Trainer
from expflow.config.spec import Foreign
from expflow.data.build import prepare
from expflow.data.specs import Digits
from expflow.errors import CheckpointMismatch, Diverged, Preempted
from expflow.losses.specs import CrossEntropy
from expflow.optim.specs import SGD, Adam, Constant, OneCycle
from expflow.tasks.specs import Classification
from expflow.training import Attempt, Began, Saved, World, run_trial
from expflow.training.checkpoints import adopt
from expflow.training.checkpoints import state as training_state
from expflow.training.checkpoints.tensors import weights_of
from tests.training import resumed_code
from tests.training.comparing import comparable
from tests.training.resumed_code import Rated

CODE = resumed_code.__name__
STEPS = 4
"""Optimizer steps of an epoch."""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return prepare(Digits(name="digits"), cache=tmp_path_factory.mktemp("cache")).root


def recipe(epochs=2, *, trainer=None, checkpoint=None, **changes):
    usual = {
        "data": Digits(name="digits", batch_size=50, limit=200),
        "model": Foreign(name=f"{CODE}:Dropped"),
        "task": Classification(name="classification"),
        "loss": CrossEntropy(name="cross_entropy"),
        "optimizer": SGD(name="sgd", lr=0.1, momentum=0.9),
        "schedule": OneCycle(name="one_cycle"),
    }
    filled = {key: value for key, value in (usual | changes).items() if value is not None}
    settings = {"epochs": epochs, "checkpoint": checkpoint or {}} | (trainer or {})
    return Recipe(**filled, trainer=Trainer.model_validate(settings))


def own(task, epochs=2, task_arguments=None, **changes):
    none = {"model": None, "loss": None, "optimizer": None, "schedule": None}
    return recipe(epochs, task=Foreign(name=f"{CODE}:{task}", **(task_arguments or {})), **(none | changes))


class Told:
    """Everything a trial says, over all of its attempts."""

    def __init__(self, leave_at=None):
        self.reports, self.notices, self.asked = {}, [], 0
        self.leave_at = leave_at

    def on_report(self, report):
        self.reports[report.step] = (comparable(report.metrics), report.progress)
        return True

    def leave(self):
        self.asked += 1
        return self.asked == self.leave_at

    def began(self):
        return [each for each in self.notices if isinstance(each, Began)][-1]

    def saved(self):
        return [each.step for each in self.notices if isinstance(each, Saved)]


def train(recipe, root, folder=None, told=None, seed=0, **attempt):
    told = told or Told()
    outcome = run_trial(
        Attempt(recipe, seed, root, folder, **attempt),
        World(),
        told.on_report,
        on_notice=told.notices.append,
        leave=told.leave,
    )
    return outcome, told


def cut(recipe, root, folder, question):
    """Train until the ``question``-th time that the trial asks whether to leave."""
    told = Told(leave_at=question)
    with pytest.raises(Preempted):
        train(recipe, root, folder, told)
    told.leave_at = None
    return told


# between any two steps


@pytest.mark.parametrize("question", [*range(1, STEPS), STEPS + 1, *range(STEPS + 9, 2 * STEPS + 8)])
def test_a_trial_that_was_cut_anywhere_is_the_trial_that_was_not(root, tmp_path, question):
    """Streaming data, dropout, momentum, a schedule over the whole course; weights and reports are equal.

    A trial asks after each of its 4 training and 8 validation batches; asked while it validates, it ends that first.
    """
    whole, heard = train(recipe(), root)
    told = cut(recipe(), root, tmp_path, question)
    step = question if question < STEPS else max(STEPS, question - 8)
    assert told.saved()[-1] == step
    again, _ = train(recipe(), root, tmp_path, told)
    assert told.began().step == step
    assert again == whole
    assert told.reports == heard.reports


def test_cutting_it_after_every_step_changes_nothing(root, tmp_path):
    whole, heard = train(recipe(), root)
    told = Told()
    for _ in range(2 * STEPS):
        told.asked, told.leave_at = 0, 1
        try:
            again, _ = train(recipe(), root, tmp_path, told)
            break
        except Preempted:
            continue
    assert again == whole
    assert told.reports == heard.reports


def test_the_comparison_can_fail(root, tmp_path, monkeypatch):
    """Without the random state, dropout draws other numbers, and the weights differ."""
    whole, _ = train(recipe(), root)
    told = cut(recipe(), root, tmp_path, 3)
    monkeypatch.setattr(training_state, "restore_random_state", lambda state: None)
    again, _ = train(recipe(), root, tmp_path, told)
    assert again.step == whole.step
    assert again.weights != whole.weights


def test_the_comparison_notices_forgotten_sums(root, tmp_path, monkeypatch):
    whole, heard = train(recipe(), root)
    told = cut(recipe(), root, tmp_path, 2)
    monkeypatch.setattr(training_state, "restore_epoch_state", lambda task, state: None)
    again, _ = train(recipe(), root, tmp_path, told)
    assert again == whole
    assert told.reports != heard.reports


OTHERS = {
    "adam": lambda: recipe(optimizer=Adam(name="adam", lr=0.01)),
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
    whole, heard = train(OTHERS[name](), root)
    for question in (1, 2, STEPS // 2 + 1, STEPS, STEPS + 10):
        folder = tmp_path / str(question)
        told = Told(leave_at=question)
        try:
            train(OTHERS[name](), root, folder, told)
        except Preempted:
            told.leave_at = None
        again, _ = train(OTHERS[name](), root, folder, told)
        assert again == whole, question
        assert told.reports == heard.reports, question


def test_a_loader_without_a_position_is_saved_between_epochs(tmp_path):
    """torch's DataLoader, shuffled by the global generator, as users write it."""
    plain = {"data": Foreign(name="tests.training.user_code:Blobs"), "model": MLP(name="mlp", hidden=8)}
    whole, heard = train(recipe(4, **plain), None)
    told = cut(recipe(4, **plain), None, tmp_path, 2)
    assert told.saved() == [4]
    again, _ = train(recipe(4, **plain), None, tmp_path, told)
    assert again == whole
    assert told.reports == heard.reports


# killed


def test_killed_after_n_steps_and_started_again(root, tmp_path):
    """kill -9 of the process, at no step that was prepared for it."""
    every = {"every_steps": 1}
    whole, heard = train(recipe(3, checkpoint=every), root)
    code = (
        "import sys; from pathlib import Path;"
        "from tests.training import test_checkpoint_resume as t;"
        "from tests.training.resumed_code import Dropped;"
        "Dropped.killed_at = 6;"
        "t.train(t.recipe(3, checkpoint={'every_steps': 1}), Path(sys.argv[1]), Path(sys.argv[2]))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(root), str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    again, told = train(recipe(3, checkpoint=every), root, tmp_path)
    assert told.began().step == 5
    assert again == whole
    assert told.reports == {step: each for step, each in heard.reports.items() if step > 5}


# the end, and beyond


@pytest.mark.parametrize("trainer", [{}, {"ema": 0.9}, {"validate_every": 3}], ids=str)
def test_a_finished_trial_repeats_only_its_last_report(root, tmp_path, trainer):
    """It was killed, say, between its end and what the driver wrote down of it."""
    whole, heard = train(recipe(trainer=trainer), root, tmp_path)
    again, told = train(recipe(trainer=trainer), root, tmp_path)
    assert again == whole
    assert told.began().step == whole.step
    assert told.reports == {whole.step: heard.reports[whole.step]}
    assert told.saved() == []


def test_a_longer_training_goes_on_where_the_shorter_one_ended(root, tmp_path):
    long, heard = train(recipe(3, schedule=Constant(name="constant")), root)
    train(recipe(2, schedule=Constant(name="constant")), root, tmp_path)
    again, told = train(recipe(3, schedule=Constant(name="constant")), root, tmp_path)
    assert told.began().step == 2 * STEPS
    assert again == long
    assert told.reports == {3 * STEPS: heard.reports[3 * STEPS]}


def test_an_early_end_is_an_end(root, tmp_path):
    early = {"early_stopping": {"metric": "train/loss", "mode": "max", "patience": 0}}
    whole, heard = train(recipe(5, trainer=early), root, tmp_path)
    assert whole.step < 5 * STEPS
    again, told = train(recipe(5, trainer=early), root, tmp_path)
    assert asdict(again) == asdict(whole)
    assert told.reports == {whole.step: heard.reports[whole.step]}


def test_a_schedule_that_torch_stretched_is_noticed(root, tmp_path):
    train(own("OnCosine", 2), root, tmp_path)
    with pytest.raises(CheckpointMismatch, match="built for T_max 2, and now would be for 4"):
        train(own("OnCosine", 4), root, tmp_path)


def test_a_stopped_trial_can_go_on_later(root, tmp_path):
    """As a scheduler pauses it."""
    whole, heard = train(recipe(3), root)
    told = Told()
    told.on_report = lambda report: Told.on_report(told, report) and report.step > STEPS
    stopped, _ = train(recipe(3), root, tmp_path, told)
    assert (stopped.step, stopped.stopped) == (STEPS, True)
    again, _ = train(recipe(3), root, tmp_path, told)
    assert told.began().step == STEPS
    assert again == whole
    assert told.reports == heard.reports


def test_a_diverged_trial_keeps_its_last_good_checkpoint(root, tmp_path):
    bad = own("NanAtSix", 3, checkpoint={"every_steps": 1})
    told = Told()
    with pytest.raises(Diverged, match="at step 6"):
        train(bad, root, tmp_path, told)
    assert told.saved()[-1] == 5
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
    kept = sorted(each.name for each in (tmp_path / "seconds" / "checkpoints").iterdir())
    assert kept == ["step-000000010", "step-000000011"]


def test_saving_changes_no_result(root, tmp_path):
    assert train(recipe(), root, tmp_path)[0] == train(recipe(), root)[0]
    every = recipe(checkpoint={"every_steps": 1})
    assert train(every, root, tmp_path / "every")[1].reports == train(recipe(), root)[1].reports


def test_nothing_is_written_without_a_folder(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told = Told(leave_at=2)
    with pytest.raises(Preempted):
        train(recipe(), root, None, told)
    assert list(tmp_path.iterdir()) == []


# taken over by another trial


def test_a_fork_keeps_the_weights_and_takes_its_own_rates(root, tmp_path):
    """Population based training: the state of one trial goes on under the recipe of another."""

    def with_rate(rate, decay):
        return own("Rated", task_arguments={"rate": rate, "decay": decay}, checkpoint={"every_epochs": 1})

    train(with_rate(0.1, 0.0), root, tmp_path / "donor")
    source = tmp_path / "donor" / "checkpoints" / "step-000000004"
    target = with_rate(0.04, 0.01)
    adopt(source, tmp_path / "target", attempt=Attempt(target, 1, forks=1))
    Rated.seen.clear()
    outcome, told = train(target, root, tmp_path / "target", seed=1, forks=1)
    assert told.began().step == STEPS
    assert outcome.step == 2 * STEPS
    [(weights, rate, decay)] = Rated.seen
    assert all(torch.equal(weights[name], value) for name, value in weights_of(source).items())
    assert (rate, decay) == (pytest.approx(0.04 / 2), 0.01)  # the schedule halves the rate each epoch
    again, _ = train(target, root, None, seed=1, forks=1, resume=source)
    assert again == outcome
    after, told = train(target, root, tmp_path / "target", seed=1, forks=1)
    assert (after, told.began().step) == (outcome, 2 * STEPS)
