"""Analyses, exploratory contrasts and variants, read off ledgers of several drivers (docs/inference.md)."""

import pytest

from expflow import ledger as ledgers
from expflow.events import DriverStopped, TrialEnded, TrialProposed, TrialReported, TrialStarted
from expflow.ledger.state import SweepState, fold
from expflow.report import answers
from tests.report.states import header

CONTRAST = {"metric": "score", "of": {"a": 2}, "against": {"a": 1}, "where": {}, "expect": "higher", "margin": None}
SPACE = ({"key": "a", "kind": "choice", "values": [1, 2]},)
FAR = {0: 3.0, 1: 3.1, 2: 3.2}
"""Seed -> a difference that is resolved at once."""


class Ledger:
    """The lines of a ledger, a second apart."""

    def __init__(self, metric="score"):
        self.metric = metric
        self.lines = []
        self.trained = set()

    def write(self, line):
        self.lines.append((1000.0 + len(self.lines), line))

    def start(self, seeds, contrasts=(CONTRAST,), **changes):
        changes.setdefault("space", SPACE)
        changes.setdefault("expected_trials", 0)
        self.write(
            header(
                plan=repr((seeds, changes)), seeds=tuple(seeds), metric=self.metric, mode="max",
                report={"contrasts": list(contrasts)}, **changes,
            )
        )  # fmt: skip

    def propose(self, values, seed, epochs=1, phase="search"):
        config = ",".join(f"{key}={value}" for key, value in values.items())
        budget = {"trainer.epochs": epochs}
        self.write(TrialProposed(f"{config}/{seed}", config, seed, values, {}, budget, phase=phase))
        return f"{config}/{seed}"

    def end(self, trial, value):
        self.write(TrialStarted(trial, 1, "g"))
        self.write(TrialReported(trial, 1, 10, {self.metric: value}, 1.0))
        self.write(TrialEnded(trial, 1, "done", 10, 1.0))

    def train(self, values, seed, value, epochs=1, phase="search"):
        """Propose a trial, and train it unless it was trained for as long before."""
        trial = self.propose(values, seed, epochs, phase)
        if (trial, epochs) not in self.trained:
            self.trained.add((trial, epochs))
            self.end(trial, value)

    def pairs(self, differences, **options):
        """Train both configs with each seed; ``a=2`` is better by the seed's difference."""
        for seed, difference in differences.items():
            self.train({"a": 1}, seed, 0.1 * seed, **options)
            self.train({"a": 2}, seed, 0.1 * seed + difference, **options)

    @property
    def state(self):
        return fold(self.lines, SweepState())

    @property
    def answer(self):
        return answers(self.state)[0]


def test_a_further_planned_set_of_seeds_is_a_further_analysis():
    ledger = Ledger()
    ledger.start(range(3))
    ledger.pairs({0: 1.0, 1: 2.0, 2: 3.0})
    first = ledger.answer
    assert [analysis.seeds for analysis in first.analyses] == [(0, 1, 2)]
    assert first.p == pytest.approx(0.07418, abs=1e-5)
    assert first.p_holm == pytest.approx(first.p / 0.8)
    ledger.start(range(6))
    ledger.pairs({0: 1.0, 1: 2.0, 2: 3.0, 3: 1.5, 4: 2.5, 5: 2.0})
    second = ledger.answer
    assert [(len(analysis.seeds), analysis.share) for analysis in second.analyses] == [(3, 0.8), (6, 0.1)]
    assert second.n == 6
    assert second.p_holm == pytest.approx(min(first.p / 0.8, second.p / 0.1))
    assert second.level == pytest.approx(0.05 * 0.1)
    assert (second.verdict, second.resolution) == ("as_expected", "resolved")
    assert any(note.startswith("Analysis 2 of this contrast: seed sets of 3 and 6") for note in second.notes)


def test_before_its_trials_have_ended_there_is_no_p():
    ledger = Ledger()
    ledger.start(range(3))
    assert ledger.answer.verdict == "in_progress"
    assert "is in progress: no common seed" in ledger.answer.sentence
    ledger.pairs({0: 1.0, 1: 2.0})
    ledger.propose({"a": 1}, 2)
    ledger.propose({"a": 2}, 2)
    answer = ledger.answer
    assert (answer.verdict, answer.n, answer.p, answer.p_holm) == ("in_progress", 2, None, None)
    assert answer.difference.low is not None
    assert answer.sentence.endswith("In progress: it is tested when all its planned seeds have ended.")


def test_an_answer_stands_while_more_seeds_are_trained():
    ledger = Ledger()
    ledger.start(range(3))
    ledger.pairs(FAR)
    ledger.start(range(5))
    for a in (1, 2):
        for seed in range(5):
            ledger.propose({"a": a}, seed)
    answer = ledger.answer
    assert (answer.verdict, answer.n) == ("as_expected", 3)
    assert "In progress: a further analysis of 5 planned seeds." in answer.notes


def test_the_same_plan_again_and_reading_are_no_analyses():
    ledger = Ledger()
    ledger.start(range(3))
    ledger.pairs(FAR)
    ledger.start(range(3))
    assert len(ledger.answer.analyses) == 1
    state = ledger.state
    assert answers(state) == answers(state)


def test_a_single_seed_spends_nothing_of_the_level():
    ledger = Ledger()
    ledger.start([0])
    ledger.pairs({0: 1.0})
    assert (ledger.answer.verdict, ledger.answer.p) == ("not_resolved", None)
    ledger.start(range(3))
    ledger.pairs(FAR)
    assert [analysis.share for analysis in ledger.answer.analyses] == [0.8]


def test_fewer_seeds_than_were_planned_are_an_analysis_of_their_own():
    ledger = Ledger()
    ledger.start(range(6))
    ledger.pairs(FAR)
    ledger.start(range(3))
    ledger.pairs(FAR)  # proposed again; they have ended
    assert [analysis.seeds for analysis in ledger.answer.analyses] == [(0, 1, 2)]


def test_a_call_stays_and_is_marked_when_it_fades():
    ledger = Ledger()
    ledger.start(range(3))
    ledger.pairs(FAR)
    ledger.start(range(6))
    ledger.pairs({**FAR, 3: -2.0, 4: -3.0, 5: 0.0})
    answer = ledger.answer
    assert answer.p > 0.05
    assert (answer.verdict, answer.faded) == ("as_expected", True)
    assert "It has faded" in answer.sentence


def test_calls_in_opposite_directions_resolve_nothing():
    ledger = Ledger()
    ledger.start(range(3))
    ledger.pairs(FAR)
    ledger.start(range(40))
    ledger.pairs({**FAR, **{seed: -9.0 - 0.01 * seed for seed in range(3, 40)}})
    answer = ledger.answer
    assert all(analysis.p < 0.005 for analysis in answer.analyses)
    assert (answer.verdict, answer.faded) == ("not_resolved", False)


def test_a_contrast_that_was_taken_out_counts_on():
    other = {**CONTRAST, "of": {"a": 3}}
    ledger = Ledger()
    ledger.start(range(3), [CONTRAST, other])
    ledger.start(range(3), [CONTRAST])
    ledger.pairs(FAR)
    answer = ledger.answer
    assert answer.declared == 2
    assert answer.p_holm == pytest.approx(2 * answer.p / 0.8)


@pytest.mark.parametrize(
    ("changes", "declared"),
    [
        ({"expect": "lower"}, 1),  # what is expected is no part of a contrast
        ({"of": {"a": 1}, "against": {"a": 2}}, 1),  # the sides have no order
        ({"where": {"b": 1}}, 2),
        ({"metric": "other"}, 2),
        ({"expect": "not_worse", "margin": 0.1}, 2),
        ({"expect": "not_worse", "margin": 0.2}, 2),
    ],
)
def test_what_makes_it_another_contrast(changes, declared):
    ledger = Ledger()
    ledger.start(range(3), [{**CONTRAST, **changes}])
    ledger.start(range(3))
    assert ledger.answer.declared == declared


def test_other_margins_and_the_other_order_are_other_one_sided_contrasts():
    one_sided = {**CONTRAST, "expect": "not_worse", "margin": 0.1}
    ledger = Ledger()
    ledger.start(range(3), [one_sided])
    ledger.start(range(3), [{**one_sided, "margin": 0.2}])
    ledger.start(range(3), [{**one_sided, "of": {"a": 1}, "against": {"a": 2}}])
    assert ledger.answer.declared == 3


def test_a_contrast_that_is_declared_after_its_results_is_exploratory():
    ledger = Ledger()
    ledger.start(range(3), [])
    ledger.pairs(FAR)
    ledger.start(range(3))
    answer = ledger.answer
    assert (answer.verdict, answer.resolution, answer.n) == ("exploratory", "exploratory", 3)
    assert answer.p < 0.05
    assert answer.p_holm is None
    assert "nothing is claimed" in answer.sentence
    assert answer.next_command.endswith("--set sweep.seeds=6")
    assert any(answer.next_command in note for note in answer.notes)


def test_new_seeds_make_it_confirmatory_on_the_new_ones():
    ledger = Ledger()
    ledger.start(range(3), [])
    ledger.pairs(FAR)
    ledger.start(range(6))
    ledger.pairs({**FAR, 3: -1.0, 4: -1.1, 5: -1.05})
    answer = ledger.answer
    assert [analysis.seeds for analysis in answer.analyses] == [(3, 4, 5)]
    assert (answer.verdict, answer.n) == ("opposite", 3)
    assert answer.difference.mean == pytest.approx(-1.05)
    assert "Seeds 0, 1, 2 had ended when the contrast was declared; they are not in the test." in answer.notes


def test_results_of_one_side_alone_do_not_make_it_exploratory():
    ledger = Ledger()
    ledger.start(range(3), [])
    for seed in range(3):
        ledger.train({"a": 1}, seed, 0.1 * seed)
    ledger.start(range(3))
    ledger.pairs(FAR)
    assert ledger.answer.verdict == "as_expected"


def test_more_epochs_are_another_contrast():
    ledger = Ledger()
    ledger.start(range(3))
    ledger.pairs(FAR)
    ledger.start(range(3), recipe={"trainer": {"epochs": 2}})
    ledger.pairs(FAR, epochs=2)
    answer = ledger.answer
    assert (answer.declared, answer.variants) == (2, 2)
    assert [analysis.share for analysis in answer.analyses] == [0.8]
    assert answer.p_holm == pytest.approx(2 * answer.p / 0.8)
    assert any("Asked of 2 variants" in note for note in answer.notes)


def test_another_recipe_is_another_contrast():
    ledger = Ledger()
    ledger.start(range(3))
    for seed, difference in FAR.items():
        for a, value in ((1, 0.0), (2, difference)):
            name = f"narrow {a}/{seed}"
            ledger.write(TrialProposed(name, f"narrow {a}", seed, {"a": a}, {}, {}))
            ledger.end(name, value)
    ledger.start(range(3), recipe={"model": {"width": 16}})
    ledger.pairs(FAR)
    assert (ledger.answer.declared, ledger.answer.variants) == (2, 2)


def test_variants_of_set_and_fresh_are_counted_and_printed(tmp_path):
    """Results of ``--set`` and of ``--fresh`` lie beside those of the file; ``other`` is another experiment."""
    for name in ("exp", "exp+optimizer.lr=1", "exp.2", "other"):
        ledger = Ledger()
        ledger.start(range(3), name=name, file=f"{name.partition('+')[0].partition('.')[0]}.yaml")
        ledger.pairs(FAR)
        (_, head), *lines = ledger.lines
        written = ledgers.Ledger.open(tmp_path / name, head)
        for _, event in lines:
            written.append(event)
        written.close("finished")
    (answer,) = answers(ledgers.load_state(tmp_path / "exp"), tmp_path / "exp")
    assert (answer.declared, answer.variants, answer.verdict) == (1, 3, "as_expected")
    assert any("Asked of 3 variants" in note for note in answer.notes)


def test_configs_that_join_the_sides_make_a_further_analysis():
    space = ({"key": "a", "kind": "choice", "values": [1, 2]}, {"key": "b", "kind": "choice", "values": [1]})
    ledger = Ledger()
    ledger.start(range(3), space=space, expected_trials=6)
    for b in (1, 2):
        if b == 2:
            ledger.start(range(3), space=(space[0], {**space[1], "values": [1, 2]}), expected_trials=12)
        for known in range(1, b + 1):
            for seed, difference in FAR.items():
                ledger.train({"a": 1, "b": known}, seed, 0.0)
                ledger.train({"a": 2, "b": known}, seed, difference)
    assert [analysis.n for analysis in ledger.answer.analyses] == [3, 3]
    assert ledger.answer.variants == 1


def test_while_configs_may_still_join_the_sides_it_is_in_progress():
    space = ({"key": "a", "kind": "choice", "values": [1, 2]}, {"key": "b", "kind": "uniform", "low": 0, "high": 1})
    ledger = Ledger()
    ledger.start(range(3), space=space, expected_trials=12)
    for seed, difference in FAR.items():
        ledger.train({"a": 1, "b": 0.5}, seed, 0.0)
        ledger.train({"a": 2, "b": 0.5}, seed, difference)
    assert ledger.answer.verdict == "in_progress"
    ledger.write(DriverStopped("finished", {"seconds": 1.0, "why": "the budget of 1 h is spent"}))
    assert ledger.answer.verdict == "in_progress"
    ledger.start(range(3), space=space, expected_trials=12)
    ledger.write(DriverStopped("finished", {"seconds": 1.0}))  # its searcher had no more to propose
    assert ledger.answer.verdict == "as_expected"


def test_confirming_seeds_are_an_analysis_of_their_own():
    ledger = Ledger()
    ledger.start([0], confirm={"seeds": [1, 2, 3], "top": 2})
    ledger.pairs({0: 9.0})
    ledger.pairs({1: 3.0, 2: 3.1, 3: 3.2}, phase="confirm")
    answer = ledger.answer
    assert [analysis.seeds for analysis in answer.analyses] == [(1, 2, 3)]
    assert answer.difference.mean == pytest.approx(3.1)


def test_one_sided_contrasts_spend_their_level_alike():
    asked = {**CONTRAST, "expect": "not_worse", "margin": 1.0}
    ledger = Ledger()
    ledger.start(range(3), [asked])
    ledger.pairs({0: 0.0, 1: 0.1, 2: -0.1})
    first = ledger.answer
    assert first.verdict == "as_expected"
    assert first.p_holm == pytest.approx(first.p / 0.8)
    ledger.start(range(6), [asked])
    ledger.pairs({0: 0.0, 1: 0.1, 2: -0.1, 3: -9.0, 4: -8.0, 5: -9.5})
    assert ledger.answer.faded
