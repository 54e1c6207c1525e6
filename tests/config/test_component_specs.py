"""The base specs of each kind of component, and who answers for a component of the user's."""

import pytest

from expflow.config import component_specs as specs
from expflow.config.spec import UserComponent
from expflow.registry import OPTIMIZERS, SCHEDULERS, SCHEDULES, SEARCHERS, SOURCES, TASKS

BASES = [
    (TASKS, specs.TaskSpec),
    (SEARCHERS, specs.SearcherSpec),
    (SCHEDULERS, specs.SchedulerSpec),
    (SOURCES, specs.SourceSpec),
    (OPTIMIZERS, specs.BaseOptimizerSpec),
    (SCHEDULES, specs.BaseScheduleSpec),
]


@pytest.mark.parametrize(("registry", "base"), BASES, ids=lambda part: getattr(part, "kind", ""))
def test_every_registered_spec_derives_from_the_base_of_its_kind(registry, base):
    assert [name for name in registry.names() if not issubclass(registry.spec(name), base)] == []


def user(**arguments):
    return UserComponent(name="own:Thing", **arguments)


def test_a_task_of_the_users_is_trained_by_lightning_whatever_its_arguments_are_called():
    answers = specs.task_spec(user(runner="own:run", slots=["model"]))
    assert answers.runner == specs.LIGHTNING_RUNNER
    assert answers.device_need == specs.LIGHTNING_DEVICE_NEED
    assert (answers.slots, answers.defaults) == (frozenset(), {})


def test_a_searcher_of_the_users_may_learn_and_says_its_number_of_configs():
    answers = specs.searcher_spec(user(trials=7))
    assert (answers.learns, answers.needs_space, answers.max_configs) == (True, False, 7)
    assert specs.searcher_spec(user()).max_configs is None


def test_searchers_say_what_they_are_asked_for():
    points = SEARCHERS.spec("points")(points=({"optimizer.lr": 0.1},))
    assert (points.learns, points.max_configs, points.listed_configs) == (False, None, ({"optimizer.lr": 0.1},))
    tpe = SEARCHERS.spec("tpe")(trials=5, warm_start={"from": "earlier"})
    assert (tpe.learns, tpe.needs_space, tpe.max_configs, tpe.earlier_sweep) == (True, True, 5, "earlier")


def test_schedulers_count_time():
    asha = SCHEDULERS.spec("asha")(unit="step", max=300)
    assert (specs.scheduler_spec(asha).time_unit, asha.max_time) == ("step", 300)
    assert specs.scheduler_spec(user(unit="step", max=9)).max_time == 9
    assert specs.scheduler_spec(None).time_unit == "epoch"
    assert not list(specs.scheduler_spec(None).conflicts((), 3))


def test_sources_say_the_size_of_their_batches():
    digits = SOURCES.spec("digits")(name="digits", batch_size="all", on_bad_sample="skip")
    assert (specs.source_spec(digits).samples_per_batch, digits.skips_bad_samples) == ("all", True)
    assert specs.source_spec(user(batch_size=16)).samples_per_batch == 16
    assert specs.source_spec({"a": digits, "b": digits}) is digits  # batches are of one size under all slots
    for nothing in (None, user()):
        assert specs.source_spec(nothing).samples_per_batch is None
        assert specs.source_spec(nothing).skips_bad_samples is False


def test_optimizers_and_schedules():
    sgd = OPTIMIZERS.spec("sgd")(name="sgd", lr_scale={"stem": 0.1})
    assert specs.optimizer_spec(sgd).module_rates == {"stem": 0.1}
    assert specs.optimizer_spec(user(lr_scale={"stem": 0.1})).module_rates == {"stem": 0.1}
    assert specs.optimizer_spec(None).module_rates == {}
    assert specs.schedule_spec(SCHEDULES.spec("plateau")(name="plateau")).watched_metric == "val/loss"
    assert specs.schedule_spec(user(metric="val/top1")).watched_metric == "val/top1"
    assert specs.schedule_spec(SCHEDULES.spec("constant")(name="constant")).watched_metric == ""
