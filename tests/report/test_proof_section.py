"""The proof of a search in the report: what is said, over what, and how it was made."""

import json

import pytest

from expflow.report import build_view, write_report
from expflow.report.charts.sections import chart_sections
from expflow.report.leaderboard import rank_configs
from expflow.report.proof_section import proof_section
from expflow.report.terminal import terminal_text
from tests.report.states import sweep, trial

SEEDS = (100, 101, 102, 103, 104)
RECIPE = {"data": {"name": "digits", "search_val": 0.2}}


def source(searcher, **changes):
    facts = {
        "searcher": searcher,
        "scheduler": "none",
        "configs": 200,
        "seconds": 100.0,
        "seeds": [0],
        "metric": "val/top1",
        "space": [],
        "limits": {"macs": 300},
        "recipe": RECIPE,
        "versions": {"expflow": "0.1.0", "python": "3.11.2", "torch": "2.15.0"},
        "code": {},
        "samples": {"train": 1040, "val": 260},
    }
    return {**facts, **changes}


def state_of(best=(0.95,), drawn=(0.94,), children=6, searches=None, seeds=SEEDS, **changes):
    """Children with a mean each; seeds add what is common to all arms."""
    listed, trials = [], []

    def add(arm, name, value, score):
        net = f"{arm} {name}"
        listed.append({"arm": arm, "source": name, "values": {"net": net}, "score": score})
        trials.extend(
            trial({"net": net}, seed, "done", {"val/top1": value + 0.001 * (seed % 3), "cost/macs": 200.0})
            for seed in seeds
        )

    sources = {}
    for place, value in enumerate(best):
        sources[f"s{place}"] = source("controller")
        add("search", f"s{place}", value, value + 0.01)
    for place, value in enumerate(drawn):
        sources[f"r{place}"] = source("random")
        add("random search", f"r{place}", value, value + 0.02)
    for place in range(children):
        add("random children", "r0", 0.8 + 0.01 * place, 0.7 + 0.02 * place)
        listed[-1]["values"]["net"] = net = f"child {place}"
        for entry in trials[-len(seeds) :]:
            entry.values = {"net": net}
            entry.trial, entry.config = f"{net}/{entry.seed}", net
    add("by hand", "", 0.9, None)
    listed[-1]["source"] = ""
    arms = {"asked": {}, "children": listed, "sources": searches or sources}
    space = ({"key": "net", "kind": "choice", "values": []},)
    facts = {"space": space, "report": {}, "seeds": seeds, "arms": arms, "limits": {"macs": 300}, "searcher": "arms"}
    return sweep(trials, **{**facts, **changes})


def section_of(state):
    return proof_section(state, rank_configs(state), state.header)


def answers_of(section):
    return {item.item: item.answer for item in section.checklist}


def test_a_sweep_without_arms_has_no_proof():
    assert section_of(sweep([trial({"net": 1}, 0, "done", {"val/top1": 0.5})])) is None


def test_one_search_is_spoken_of_as_this_search():
    section = section_of(state_of())
    assert section.sentence.startswith(
        "This search (controller, 200 configs, n = 1) found a child with val/top1 95.12 % ["
    )
    assert "Beside the child of random search: +1.00 points" in section.sentence
    assert "Beside the mean of 6 random children: +12.50 points" in section.sentence
    assert "Beside the net made by hand: +5.00 points" in section.sentence
    assert "That is about this search: a statement about the searcher takes at least 5 searches" in section.sentence
    assert [arm.name for arm in section.arms] == ["search", "random search", "random children", "by hand"]


def test_a_one_shot_search_is_not_called_by_the_searcher_that_ran_its_single_trial():
    state = state_of()
    state.header.arms["sources"]["s0"] |= {"searcher": "grid", "configs": 1, "recipe": {"task": {"name": "one_shot"}}}
    assert section_of(state).sentence.startswith("This search (one-shot search, n = 1) found a child with val/top1")


def test_five_searches_are_compared_over_searches_and_not_over_seeds():
    best, drawn = (0.95, 0.96, 0.94, 0.95, 0.97), (0.94, 0.94, 0.95, 0.93, 0.95)
    section = section_of(state_of(best, drawn))
    assert "5 searches (controller, 200 configs each) found children" in section.sentence
    assert "over 5 pairs of searches, p = " in section.sentence
    assert "a statement about the searcher takes" not in section.sentence
    difference = section.differences[0].difference
    assert (difference.n, difference.mean) == (5, pytest.approx(0.012))
    assert answers_of(section)["Several searches, so that something is said of the searcher"] == "yes"


def test_the_rank_correlation_is_of_the_random_children_alone():
    correlation = section_of(state_of()).correlation
    assert (correlation.value, correlation.children) == (pytest.approx(1.0), 6)
    assert correlation.low < 1.0 <= correlation.high + 1e-6
    assert section_of(state_of(children=3)).correlation is None


def test_the_checklist_says_yes_only_to_what_the_record_shows():
    good = answers_of(section_of(state_of()))
    expected_no = {
        "Several searches, so that something is said of the searcher",
        "One evaluation on test",
    }
    assert {item for item, answer in good.items() if answer == "no"} == expected_no
    assert [item for item, answer in good.items() if answer == "not recorded"] == [
        "Tuning the searcher counted as cost"
    ]


@pytest.mark.parametrize(
    ("search", "item"),
    [
        ({"recipe": {"data": {"name": "digits"}}}, "Val untouched by the search's choices"),
        ({"seeds": [0, 100]}, "At least 5 new seeds"),
        ({"configs": 300}, "Equal cost of the search and of random search"),
        ({"seconds": 120.0}, "Equal cost of the search and of random search"),
        ({"scheduler": "asha"}, "Search and random search in the same space, by the same recipe"),
        ({"limits": {}}, "All arms within the same limits"),
        ({"versions": {"expflow": "0.0.9"}}, "Searches and proof by the same versions"),
    ],
)
def test_what_is_not_as_it_should_be_is_a_no(search, item):
    searches = {"s0": source("controller", **search), "r0": source("random")}
    assert answers_of(section_of(state_of(searches=searches)))[item] == "no"


def test_children_without_results_yet_are_said(tmp_path):
    state = state_of()
    for entry in state.trials.values():
        entry.status, entry.reports = "running", []
    section = section_of(state)
    assert "has not been trained yet" in section.sentence
    assert chart_sections(build_view(tmp_path, state), state, tmp_path).proof == ()


def test_page_terminal_and_document_show_it(tmp_path):
    state = state_of()
    view = build_view(tmp_path, state)
    (chart,) = chart_sections(view, state, tmp_path).proof
    assert chart.name == "proof-arms"
    assert "This search (controller" in " ".join(terminal_text(view).split())
    write_report(tmp_path, state)
    assert not list((tmp_path / "figures").glob("*-by-net.png"))  # one point for each of many whole networks
    page = (tmp_path / "report.html").read_text()
    assert "<h2>What the search found</h2>" in page
    assert "random children" in page
    document = json.loads((tmp_path / "report.json").read_text())
    assert document["proof"]["searches"] == 1
    assert len(document["proof"]["checklist"]) == 14
