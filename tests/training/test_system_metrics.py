"""What training takes of its machine: throughput, waiting, CPU and memory, without validation."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from expflow.training import SystemMeasurement, World, run_trial
from expflow.training.contract import Attempt
from expflow.training.system_metrics import MEASURE_SECONDS, SystemMonitor
from tests.training.test_run_trial import digits, on_digits  # noqa: F401  a fixture


class Course:
    """A training whose clock is set by hand; one core is busy while it steps, none while it waits."""

    def __init__(self, world: World | None = None, batch_size: int | None = 16) -> None:
        self.now = self.cpu = 0.0
        self.sent: list[Any] = []
        self.trainer: Any = SimpleNamespace(global_step=0)
        self.monitor = SystemMonitor(
            world or World(),
            self.sent.append,
            batch_size=batch_size,
            clock=lambda: self.now,
            cpu_clock=lambda: self.cpu,
        )
        self.module: Any = None

    def step(self, wait: float, compute: float) -> None:
        self.now += wait
        self.monitor.on_train_batch_start(self.trainer, self.module, None, 0)
        self.now, self.cpu = self.now + compute, self.cpu + compute
        self.trainer.global_step += 1
        self.monitor.on_train_batch_end(self.trainer, self.module, None, None, 0)

    def validate(self, seconds: float) -> None:
        self.now += seconds
        self.monitor.on_validation_end(self.trainer, self.module)


def test_waiting_and_throughput_leave_validation_out() -> None:
    course = Course(World(ranks=2))
    course.now = 100.0  # preparation
    course.monitor.on_train_start(course.trainer, course.module)
    course.monitor.on_train_epoch_start(course.trainer, course.module)
    for _ in range(4):
        course.step(wait=0.5, compute=1.5)
    course.validate(2.0)
    course.monitor.on_train_end(course.trainer, course.module)
    (measured,) = course.sent
    assert isinstance(measured, SystemMeasurement)
    assert measured.step == 4
    assert measured.metrics["system/wait_share"] == pytest.approx(0.25)
    assert measured.metrics["system/batches_per_second"] == pytest.approx(0.5)
    assert measured.metrics["system/samples_per_second"] == pytest.approx(16.0)  # two ranks of 16
    assert measured.metrics["system/cpu_cores"] == pytest.approx(0.6)  # 6 of 10 seconds
    assert measured.metrics["system/memory_bytes"] > 1e6


def test_there_is_one_each_half_minute_and_one_at_the_end() -> None:
    course = Course(batch_size=None)
    course.monitor.on_train_start(course.trainer, course.module)
    for _ in range(100):
        course.step(wait=0.0, compute=1.0)
    course.monitor.on_train_end(course.trainer, course.module)
    assert [measured.step for measured in course.sent] == [30, 60, 90, 100]
    assert MEASURE_SECONDS == 30
    assert "system/samples_per_second" not in course.sent[0].metrics


def test_ranks_but_the_first_are_silent() -> None:
    course = Course(World(rank=1, ranks=2))
    course.step(wait=0.0, compute=100.0)
    course.monitor.on_train_end(course.trainer, course.module)
    assert course.sent == []


def test_an_attempt_ends_with_a_measurement(digits: Any) -> None:  # noqa: F811
    notices: list[Any] = []
    outcome = run_trial(Attempt(on_digits(1), 0, digits.root), World(), lambda report: True, on_notice=notices.append)
    measured = [notice for notice in notices if isinstance(notice, SystemMeasurement)]
    assert [notice.step for notice in measured] == [outcome.step]
    assert 0 <= measured[0].metrics["system/wait_share"] <= 1
    assert measured[0].metrics["system/samples_per_second"] > 0
