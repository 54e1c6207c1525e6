"""The report's page in a real browser: desktop and phone, light and dark, without scripts, and on paper."""

from __future__ import annotations

import re

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from expflow.ledger.state import AttemptSpan
from expflow.report import write_report
from expflow.report.comparison_page import write_comparison
from expflow.report.result_comparison import AddressedResult, compare_results
from expflow.sweep.result_location import ResultLocation
from tests.browser.chromium import Browser, missing_browser
from tests.report.states import digits, sweep, trial

pytestmark = pytest.mark.skipif(bool(missing_browser()), reason=missing_browser())

CHARTS = {
    "val_top1-by-model_depth",
    "fit_loss-by-model_depth",
    "curves-train_loss",
    "curves-val_loss",
    "curves-val_top1",
    "parallel",
    "slice-0",
    "slice-1",
    "trade-off-macs",
    "trade-off-params",
    "trade-off-seconds",
    "time-line",
}
EVIL = "<img src=x onerror=alert(1)><b>"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    opened = Browser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.driver.quit()


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    state = digits()
    for at, trial_state in enumerate(state.plan_trials()):
        trial_state.spans.append(AttemptSpan(1, f"gang-{at % 2}", 1000.0 + at // 2, 1000.9 + at // 2, "done"))
    return write_report(tmp_path_factory.mktemp("depth"), state).html


def drawn(browser):
    return {chart.get_attribute("id") for chart in browser.driver.find_elements(By.CSS_SELECTOR, ".chart:has(svg)")}


def column(browser, place):
    rows = browser.driver.find_elements(By.CSS_SELECTOR, ".sortable tbody tr")
    return [row.find_elements(By.TAG_NAME, "td")[place].text for row in rows if row.is_displayed()]


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1200, 390], ids=["desktop", "phone"])
def test_everything_is_drawn_and_nothing_complains(browser, page, width, dark):
    browser.requests()
    browser.open(page, width=width, dark=dark)
    assert drawn(browser) == CHARTS
    assert browser.complaints() == []
    assert browser.requests() == [page.as_uri()]
    wide = browser.driver.execute_script("return document.documentElement.scrollWidth")
    assert wide <= width, "the page itself does not scroll sideways"
    ink, paper, text = browser.driver.execute_script(
        "const body = getComputedStyle(document.body), tick = document.querySelector('.chart .xtick text');"
        "return [body.color, body.backgroundColor, getComputedStyle(tick).fill]"
    )
    assert text == ink, "what stands in a chart has the page's colour"
    ink_level, paper_level = (sum(map(int, re.findall(r"\d+", colour)[:3])) / 3 for colour in (ink, paper))
    assert (paper_level < 60 < 200 < ink_level) if dark else (ink_level < 60 < 200 < paper_level)


def test_the_leaderboard_sorts(browser, page):
    browser.open(page)
    heads = browser.driver.find_elements(By.CSS_SELECTOR, ".sortable th button")
    titles = [head.text for head in heads]
    before = column(browser, 0)
    at = titles.index("fit/loss")
    heads[at].click()
    losses = [float(cell) for cell in column(browser, at)]
    assert losses == sorted(losses)
    assert column(browser, 0) != before
    heads[at].click()
    assert [float(cell) for cell in column(browser, at)] == losses[::-1]
    heads[titles.index("parameters")].click()
    assert column(browser, titles.index("parameters"))[0] == "117.6 k", "by their numbers, not as texts"
    heads[0].click()
    assert column(browser, 0) == before


def test_the_leaderboard_is_searched(browser, page):
    browser.open(page)
    search = browser.driver.find_element(By.CSS_SELECTOR, ".tools input")
    search.send_keys("depth=56 pad")
    assert column(browser, 1) == ["56"]
    assert browser.driver.find_element(By.CSS_SELECTOR, ".tools output").text == "1 of 8"
    search.clear()
    search.send_keys("no such config")
    assert column(browser, 1) == []


@pytest.mark.parametrize("width", [1200, 390], ids=["desktop", "phone"])
def test_a_point_says_what_it_is(browser, page, width):
    browser.open(page, width=width)
    for name, words in (
        ("fit_loss-by-model_depth", "model.depth = 8"),
        ("curves-val_top1", "epoch 1"),
        ("trade-off-macs", "multiply-adds of one sample"),
    ):
        chart = browser.driver.find_element(By.ID, name)
        browser.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", chart)
        point = chart.find_elements(By.CSS_SELECTOR, ".scatterlayer .point")[0]
        ActionChains(browser.driver).move_to_element(point).perform()
        WebDriverWait(browser.driver, 10).until(
            lambda _, chart=chart: chart.find_elements(By.CSS_SELECTOR, ".hoverlayer .hovertext")
        )
        assert words in chart.find_element(By.CSS_SELECTOR, ".hoverlayer").text.replace("\n", " ")


def test_a_click_in_the_legend_hides_a_line(browser, page):
    browser.open(page)
    chart = browser.driver.find_element(By.ID, "val_top1-by-model_depth")
    browser.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", chart)
    count = "return document.querySelectorAll('#val_top1-by-model_depth .scatterlayer .trace').length"
    before = browser.driver.execute_script(count)
    chart.find_element(By.CSS_SELECTOR, ".legendtoggle").click()
    WebDriverWait(browser.driver, 10).until(lambda driver: driver.execute_script(count) < before)


def test_without_scripts_there_are_the_pictures(browser, page):
    browser.open(page, scripts=False)
    try:
        # what runs here comes from the driver, and not from the page
        images = browser.driver.find_elements(By.CSS_SELECTOR, "figure.still img")
        assert [image.is_displayed() for image in images] == [True] * 4
        assert not any(tool.is_displayed() for tool in browser.driver.find_elements(By.CLASS_NAME, "tools"))
    finally:
        browser.command("Emulation.setScriptExecutionDisabled", value=False)


def test_on_paper_charts_have_the_width_of_the_sheet(browser, page):
    browser.open(page)
    widths = "return [...document.querySelectorAll('.chart .main-svg')].map((svg) => svg.width.baseVal.value)"
    before = browser.driver.execute_script(widths)
    browser.driver.execute_script("dispatchEvent(new Event('beforeprint'))")
    WebDriverWait(browser.driver, 20).until(lambda driver: set(driver.execute_script(widths)) == {640})
    browser.driver.execute_script("dispatchEvent(new Event('afterprint'))")
    WebDriverWait(browser.driver, 20).until(lambda driver: driver.execute_script(widths) == before)
    assert len(browser.command("Page.printToPDF")["data"]) > 100_000
    assert browser.complaints() == []


def test_names_stay_texts(browser, tmp_path):
    trials = [
        trial({"model": model, "width": at}, seed, "done", {"val/top1": 0.5 + at / 50, "cost/params": float(at)})
        for at, model in enumerate((EVIL, *"bcdefghijklmnopqrst"), 1)
        for seed in (0, 1)
    ]
    state = sweep(trials, report={}, about={"question": EVIL}, name=EVIL)
    browser.open(write_report(tmp_path, state).html)
    assert browser.complaints() == []
    assert "importance" in drawn(browser)
    assert not browser.driver.find_elements(By.CSS_SELECTOR, "[onerror], .chart b, .chart img")
    ticks = browser.driver.find_elements(By.CSS_SELECTOR, ".chart .xtick text")
    assert any(tick.text.startswith("<img src=x onerror") for tick in ticks)


@pytest.mark.parametrize("width", [1200, 390], ids=["desktop", "phone"])
def test_a_comparison_is_drawn_and_sorted(browser, tmp_path, width):
    state = digits()
    asked = [AddressedResult(name, ResultLocation(tmp_path / "depth", state, None), name) for name in configs(state)]
    path = write_comparison(tmp_path, compare_results(asked))
    browser.complaints()
    browser.open(path, width=width)
    assert drawn(browser) == {"values", "differences", "cost-macs", "cost-params", "cost-seconds"}
    assert browser.complaints() == []
    titles = [head.text for head in browser.driver.find_elements(By.CSS_SELECTOR, ".sortable th button")]
    at = titles.index("difference")
    browser.driver.execute_script(f"document.querySelectorAll('.sortable th button')[{at}].click()")
    lowest = column(browser, at)[0]
    assert lowest.startswith("-")


def configs(state):
    return list(dict.fromkeys(trial_state.config for trial_state in state.plan_trials()))
