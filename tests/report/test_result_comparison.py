"""Results of different sweeps side by side: what differs, by how much, and how sure that is."""

import csv
import io

import pytest
from scipy import stats

from expflow.errors import AddressUnknown
from expflow.report.charts.comparison_charts import result_cost_charts, value_charts
from expflow.report.comparison_page import comparison_path, write_comparison
from expflow.report.result_comparison import AddressedResult, compare_results, comparison_table, difference_table
from expflow.report.table_formats import csv_table, latex_table, markdown_table
from expflow.sweep.result_location import ResultLocation
from tests.report.states import sweep, trial


def asked(folder, name, values, *, which=None, data="d1", seeds=None, lost=0, **recipe):
    trials = [
        trial({"a": 1}, seed, "done", {"val/top1": value, "fit/loss": 1 - value, "cost/params": 1000.0})
        for seed, value in zip(seeds or range(len(values)), values, strict=True)
    ]
    trials += [trial({"a": 1}, 90 + seed, "failed", failure=("diverged", "nan")) for seed in range(lost)]
    for member in trials:
        member.recipe = {"model": {"name": "my_net:Net", "width": 8, **recipe}}
        member.budget = {"trainer.epochs": 5}
    state = sweep(trials, report={}, data={"key": data, "samples": {"val": 397}})
    return AddressedResult(f"{name}/{which}" if which else name, ResultLocation(folder / name, state, which))


def test_common_seeds_are_paired(tmp_path):
    one, two = [0.90, 0.91, 0.92], [0.93, 0.95, 0.94]
    comparison = compare_results([asked(tmp_path, "base", one), asked(tmp_path, "wide", two, which="best", width=16)])
    (row,) = comparison.differences
    assert (row.address, row.against, row.paired, row.n) == ("wide/best", "base", True, 3)
    assert row.difference == pytest.approx(0.03)
    assert row.p == row.p_holm == pytest.approx(stats.ttest_rel(two, one).pvalue)
    assert comparison.recipes == {"model.width": (8, 16)}
    assert comparison.results[0].metrics["val/top1"].kind == "logit"
    assert comparison.code == {}
    assert "exploratory" in comparison.notes[0]
    assert any("Selected among configs, hence optimistic: base, wide/best" in note for note in comparison.notes)


def test_other_data_or_other_seeds_are_not_paired_and_that_is_said(tmp_path):
    base, other = [0.90, 0.91, 0.92], [0.93, 0.96, 0.97]
    rows = compare_results(
        [
            asked(tmp_path, "base", base),
            asked(tmp_path, "elsewhere", other, data="d2"),
            asked(tmp_path, "later", other, seeds=(7, 8, 9), lost=1),
        ]
    )
    for row, why in zip(rows.differences, ("different data", "0 common seeds of 3 and 3"), strict=True):
        assert (row.paired, row.n) == (False, 3)
        assert why in row.why_not
        expected = stats.ttest_ind(other, base, equal_var=False)
        assert row.p == pytest.approx(expected.pvalue)
        assert row.p_holm == pytest.approx(min(1.0, 2 * expected.pvalue))
        interval = expected.confidence_interval()
        assert (row.low, row.high) == pytest.approx((interval.low, interval.high))
    assert any("later 1" in note for note in rows.notes)


def test_a_single_trial_has_no_interval(tmp_path):
    first = asked(tmp_path, "base", [0.9, 0.92])
    single = asked(tmp_path, "one", [0.95])
    (row,) = compare_results([first, single]).differences
    assert (row.low, row.p, row.n) == (None, None, 1)
    assert "1 common seed of 1 and 2" in row.why_not


def test_results_without_a_finished_trial_are_named(tmp_path):
    with pytest.raises(AddressUnknown, match="empty"):
        compare_results([asked(tmp_path, "base", [0.9]), asked(tmp_path, "empty", [])])


def test_the_same_table_in_every_form(tmp_path):
    comparison = compare_results(
        [asked(tmp_path, "base_1", [0.9, 0.91, 0.92]), asked(tmp_path, "b|2", [0.93, 0.95, 0.94])]
    )
    table = comparison_table(comparison)
    titles = [column.title for column in table.columns]
    assert titles[:4] == ["result", "config", "n", "val/top1"]
    rows = list(csv.DictReader(io.StringIO(csv_table(table))))
    assert rows[1]["result"] == "b|2"
    assert rows[1]["difference"].startswith("+3.00 points [")
    assert rows[0]["parameters"] == "1.000 k"
    markdown = markdown_table(table).splitlines()
    assert len(markdown) == 4
    assert "b\\|2" in markdown[3]
    latex = latex_table(table)
    assert r"base\_1" in latex
    assert latex.count(r"\\") == 3
    assert "%" not in latex.replace(r"\%", "")
    assert difference_table(comparison).rows == ()


def test_the_page_of_a_comparison(tmp_path):
    evil = "<script>alert(1)</script>"
    sides = [asked(tmp_path, "base", [0.90, 0.91, 0.92]), asked(tmp_path, evil, [0.93, 0.95, 0.94], width=evil)]
    comparison = compare_results(sides)
    path = write_comparison(tmp_path, comparison)
    assert path == comparison_path(tmp_path, comparison)
    assert path.parent == tmp_path / "comparisons"
    text = path.read_text()
    assert text.count(evil) == 0
    assert text.count("&lt;script&gt;alert(1)") > 2
    assert "+3.00 points" in text
    assert comparison_path(tmp_path, compare_results(sides[::-1])) != path


def test_the_charts_of_a_comparison(tmp_path):
    comparison = compare_results(
        [asked(tmp_path, "base", [0.90, 0.91, 0.92]), asked(tmp_path, "wide", [0.93, 0.95, 0.94])]
    )
    values, differences = value_charts(comparison)
    assert values.traces[0]["x"] == pytest.approx([0.91, 0.94])
    assert values.layout["yaxis"]["ticktext"] == ["base", "wide"]
    assert differences.traces[0]["x"] == pytest.approx([0.03])
    assert differences.traces[0]["hovertext"][0].startswith("wide<br>+3.00 points [")
    assert result_cost_charts(comparison) == [], "they cost the same"
