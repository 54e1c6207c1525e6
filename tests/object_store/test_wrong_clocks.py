"""Drivers whose clocks differ by minutes: what is measured, and what the store says, decides."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace

import pytest

from expflow.events import CheckpointSaved, TrialReported, TrialStarted
from expflow.ledger import Header, read
from tests.object_store.stored_sweeps import SAVING, check_bucket, check_ledger
from tests.object_store.test_stored_sweeps import RETAINED, check_retention
from tests.sweep.runs import Workplace
from tests.wrong_clocks import clock_variables

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(400)]

ELSEWHERE = ("unshare", "--uts", "bash", "-c", 'hostname elsewhere && exec "$0" "$@"', sys.executable)
"""A Python on a machine of another name."""


def test_a_driver_elsewhere_is_refused_whatever_its_clock_says(tmp_path):
    if os.geteuid():
        pytest.skip("only root may give a process another host's name")
    here = Workplace(tmp_path)
    here.scripted([0.2, 0.4, 0.6, 0.8], sleep=5.0)
    driver = here.start("sweep", "exp.yaml")
    try:
        here.wait_for(TrialStarted, 1, driver)
        for minutes in (11, -11):  # the lease of a folder is ten minutes
            there = replace(here, python=ELSEWHERE, variables=clock_variables(minutes), started=[])
            refused = there.run("sweep", "exp.yaml", code=3)
            assert f"process {driver.pid} on " in refused
            assert "if it died, this command works in " in refused
        output = driver.communicate(timeout=200)[0]
    finally:
        here.leave()
    assert driver.returncode == 0, output
    assert here.counts() == {"proposed": 4, "started": 4, "reported": 8, "ended": 4}


def test_drivers_with_clocks_apart_by_twenty_minutes_go_on_one_after_another(stored):
    trials = [round(0.08 * number, 2) for number in range(1, 11)]
    stored.write(SAVING.format(values=trials, sleep=1.5, more=f"{RETAINED}  budget: {{hours: 0.2}}\n"))
    lifetimes, saved = [], 0
    for minutes in (10, -10):
        stored.variables = clock_variables(minutes)
        began = time.monotonic()
        driver = stored.start("sweep", "exp.yaml")
        stored.wait_for(CheckpointSaved, saved + 2, driver)
        time.sleep(2.5)  # until the store has it
        saved = sum(isinstance(record.body, CheckpointSaved) for record in stored.records())
        stored.kill(driver)
        lifetimes.append(time.monotonic() - began)
        stored.lose_disk()
    stored.variables = {}
    began = time.monotonic()
    stored.run("sweep", "exp.yaml", timeout=300)  # its hours are not used up
    lifetimes.append(time.monotonic() - began)
    records = list(read(stored.results))
    check_ledger(stored, len(trials))
    check_bucket(stored)
    check_retention(stored, records)
    check_times(records, lifetimes)
    reported = [record.body for record in records if isinstance(record.body, TrialReported)]
    assert len({(report.trial, report.step) for report in reported}) == 6 * len(trials)


def check_times(records, lifetimes):
    """The ledger's times follow one another, and each driver has worked for as long as it was seen to live."""
    times = [record.at for record in records]
    assert times == sorted(times)
    starts = [index for index, record in enumerate(records) if isinstance(record.body, Header)]
    assert len(starts) == len(lifetimes)
    for start, end, lifetime in zip(starts, [*starts[1:], len(records)], lifetimes, strict=True):
        assert 1.0 < times[end - 1] - times[start] < lifetime, (start, end, lifetime)
