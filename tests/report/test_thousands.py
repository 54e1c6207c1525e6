"""Of thousands of configs the page lists the first ones, and says so: it must open in any browser."""

from expflow.report.page import write_report
from tests.report.states import sweep, trial

MOST_ROWS = 1000
CURVES = [{"val/top1": step / 10, "train/loss": 1 / step, "val/loss": 1.1 / step} for step in range(1, 8)]


def page_of(state, folder):
    return write_report(folder, state).html.read_text(encoding="utf-8")


def test_tables_and_failures_are_cut_and_that_is_said(tmp_path) -> None:
    done = [trial({"model.depth": depth}, 0, "done", *CURVES) for depth in range(MOST_ROWS + 20)]
    failed = [
        trial({"model.width": width}, 0, "failed", failure=("code", f"ValueError: {width}"))
        for width in range(MOST_ROWS + 10)
    ]
    page = page_of(sweep([*done, *failed], report={"figures": [], "contrasts": []}), tmp_path)
    assert f"Only {MOST_ROWS} of {2 * MOST_ROWS + 30} are listed; report.json has all." in page
    assert f"Only {MOST_ROWS} of {MOST_ROWS + 10} are listed; report.json has all." in page
    assert f"ValueError: {MOST_ROWS - 1}<" in page
    assert f"ValueError: {MOST_ROWS}<" not in page
    assert "Only the 1000 best configs were looked at." in page
    assert len(page) < 10_000_000


def test_of_few_nothing_is_left_out(tmp_path) -> None:
    state = sweep([trial({"model.depth": depth}, 0, "done", *CURVES) for depth in range(3)])
    page = page_of(state, tmp_path)
    assert "are listed; " not in page
    assert "were looked at." not in page
