"""A step is one update of all networks, also where a module moves its optimizers itself."""

import pytest

from expflow.config.schema import Recipe, Trainer
from expflow.config.spec import UserComponent
from expflow.data.prepare.build import prepare
from expflow.data.specs import DigitsSpec
from expflow.errors import Preempted, UserError
from expflow.training import Attempt, Saved, World, run_trial
from expflow.training.step_timing import measure_steps
from tests.training import manual_code

BATCHES, EPOCHS = 6, 3
STEPS = {
    # the count after each batch of an epoch of six, for three epochs
    "together": [*range(1, 19)],
    "first_twice": [*range(1, 19)],
    "second_every_third": [1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 5, 5, 5, 6, 6, 6],
    "in_turns": [1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9],
    "second_later": [*range(1, 19)],
    "one_after_the_other": [1, 2, 3, 4, 5, 6, 6, 6, 6, 6, 6, 6, 8, 9, 10, 11, 12, 13],
    "never": [0] * 18,
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return prepare(DigitsSpec(name="digits"), cache=tmp_path_factory.mktemp("cache")).root


def recipe(order, *, epochs=EPOCHS, **trainer):
    settings = {"epochs": epochs, "callbacks": [f"{manual_code.__name__}:Counting"]} | trainer
    return Recipe(
        data=DigitsSpec(name="digits", batch_size=8, limit=8 * BATCHES),
        task=UserComponent(name=f"{manual_code.__name__}:Players", order=order),
        trainer=Trainer.model_validate(settings),
    )


def train(trained, root, folder=None, leave=lambda: False):
    reports, notices = [], []
    attempt = Attempt(trained, 0, root, folder)
    outcome = run_trial(
        attempt,
        World(),
        lambda report: reports.append(report) or True,
        on_notice=notices.append,
        leave=leave,
    )
    return (
        outcome,
        [report.step for report in reports],
        [notice.step for notice in notices if isinstance(notice, Saved)],
    )


@pytest.mark.parametrize("order", STEPS)
def test_steps_by_the_order_in_which_optimizers_move(order, root):
    outcome, reported, _ = train(recipe(order), root)
    seen = manual_code.Counting.seen
    assert seen == STEPS[order]
    assert outcome.step == max(seen[-1], reported[-1])
    assert reported == sorted(reported)
    if order != "never":
        assert len(set(reported)) == EPOCHS  # a step at least in each epoch


def test_within_a_batch_the_step_stays(root, monkeypatch):
    """As where Lightning moves the optimizer: what the module logs by ``self.global_step`` has the step's number."""
    noted = []
    monkeypatch.setattr(manual_code.Players, "on_train_end", lambda module: noted.extend(module.steps), raising=False)
    train(recipe("together", epochs=1), root)
    assert noted == [step for step in range(BATCHES) for _ in range(2)]


@pytest.mark.parametrize("order", ["second_every_third", "in_turns", "second_later"])
@pytest.mark.parametrize("question", [3, 5, 8, 11])
def test_what_was_cut_goes_on_with_the_same_count(order, question, root, tmp_path):
    whole, reported, _ = train(recipe(order), root, tmp_path / "whole")
    asked = iter(range(-1, 100))
    with pytest.raises(Preempted):
        train(recipe(order), root, tmp_path / "cut", leave=lambda: next(asked) == question)
    outcome, rest, _ = train(recipe(order), root, tmp_path / "cut")
    assert (outcome.step, outcome.weights) == (whole.step, whole.weights)
    assert reported[-len(rest) :] == rest


def test_budgets_and_checkpoints_count_them(root, tmp_path):
    settings = {"checkpoint": {"every_steps": 4, "keep": 9}}
    assert train(recipe("together", epochs=2, **settings), root, tmp_path / "saved")[2] == [4, 8, 12]
    outcome, _, _ = train(recipe("together", lightning={"max_steps": 5}), root)
    assert outcome.step == 5


@pytest.mark.parametrize(
    ("key", "value", "advice"),
    [
        ("accumulate", 2, "raise the data's batch_size"),
        ("clip_norm", 1.0, "call self.clip_gradients"),
        ("clip_value", 1.0, "call self.clip_gradients"),
    ],
)
def test_what_lightning_cannot_do_is_refused_by_its_key(key, value, advice, root):
    for run in (train, measure_steps):
        with pytest.raises(UserError, match=rf"trainer\.{key}.*Players moves its optimizers itself.*{advice}"):
            run(recipe("together", **{key: value}), root)


def test_steps_that_are_timed_are_counted_as_those_of_a_trial(root):
    measure_steps(recipe("together"), root, steps=3)
    assert manual_code.Counting.seen == list(range(1, len(manual_code.Counting.seen) + 1))
    assert len(manual_code.Counting.seen) > 3
