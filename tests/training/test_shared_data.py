"""Two ranks on a user's own loaders: each takes its part, and the metrics are those of one rank."""

import json
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path

import pytest

from expflow.config.schema import Recipe, Trainer
from expflow.config.spec import UserComponent
from expflow.errors import UserError
from expflow.training import Attempt, World, run_trial
from expflow.training.batch_check import check_batches
from expflow.training.contract import BatchCheck
from expflow.training.data_preparation import prepare_once
from expflow.training.evaluation.evaluator import open_evaluator
from expflow.training.shared_loaders import check_loaders, watches_validation_end
from tests.training import shared_data_code, user_code
from tests.training.forked_ranks import train_on_two_ranks

CODE = shared_data_code.__name__

OWN_PARTS = {"train": "own parts", "val": "own parts", "val_samples": 100}

CASES = {
    # name: (arguments of the data, trainer.lightning, module)
    "shuffled": ({}, {}, "Seeing"),
    "odd": ({"samples": 101}, {}, "Seeing"),
    "drop_last": ({"train": "drop_last", "samples": 460}, {}, "Seeing"),
    "subset": ({"train": "subset"}, {}, "Seeing"),
    "weighted": ({"train": "weighted", "samples": 200}, {}, "Seeing"),
    "workers": ({"train": "workers", "samples": 200}, {}, "Seeing"),
    "growing": ({"train": "growing", "samples": 36}, {}, "Seeing"),
    "custom": ({"train": "custom", "samples": 200}, {}, "Seeing"),
    "whole batches": ({"train": "whole batches", "samples": 200}, {}, "Seeing"),
    "two": ({"train": "two", "samples": 200}, {}, "Seeing"),
    "combined": ({"train": "combined", "samples": 200}, {}, "Seeing"),
    "distributed": ({"train": "distributed", "samples": 200}, {}, "Seeing"),
    "uneven": ({"val_samples": 101, "size": 25}, {}, "Seeing"),
    "one by one": ({"val_samples": 11, "samples": 20, "size": 1}, {}, "Seeing"),
    "fewer than ranks": ({"val_samples": 1}, {}, "Seeing"),
    "end": ({}, {}, "EndSeeing"),
    "end, distributed": ({"val": "distributed", "val_samples": 100}, {}, "EndSeeing"),
    "end, shared": ({}, {"use_distributed_sampler": True}, "EndSeeing"),
    "own parts": (OWN_PARTS, {"use_distributed_sampler": False}, "Seeing"),
    "prepared": ({"samples": 200, "log": "prepared.log"}, {}, "Seeing"),
    "no data": (None, {}, "SelfFed"),
    "iterable": ({"train": "iterable"}, {}, "Seeing"),
    "iterable val": ({"val": "iterable"}, {}, "Seeing"),
    "endless": ({"train": "endless"}, {}, "Seeing"),
    "generator": ({"train": "generator"}, {}, "Seeing"),
    "none left": ({"train": "drop_last", "samples": 60}, {}, "Seeing"),
}


def recipe(folder, name):
    data, lightning, module = CASES[name]
    source = "NumberedData"
    if data is not None and "log" in data:
        source, data = "PreparedData", {**data, "log": str(folder / data["log"])}
    return Recipe(
        data=UserComponent(name=f"{CODE}:{source}", **data) if data is not None else None,
        task=UserComponent(name=f"{CODE}:{module}", out=str(folder / f"seen-{name}")),
        trainer=Trainer(epochs=1, lightning=lightning),
    )


def recipes(folder: Path):
    """What the two ranks train."""
    return {name: recipe(folder, name) for name in CASES}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shared")
    return folder, train_on_two_ranks(f"{__name__}:recipes", folder)


@pytest.fixture
def seen(trained):
    def of(name, split):
        files = [trained[0] / f"seen-{name}-{rank}.json" for rank in (0, 1)]
        return [json.loads(file.read_text())[split] for file in files]

    return of


@pytest.fixture
def report(trained):
    def of(name):
        result = trained[1][name]
        assert "error" not in result, result
        return result["reports"][-1]

    return of


def numbers(batches):
    return sorted(chain.from_iterable(batches))


@pytest.mark.parametrize(
    ("name", "samples", "steps"),
    [
        ("shuffled", 1000, 10),
        ("custom", 200, 2),
        ("workers", 200, 2),
        ("whole batches", 200, 2),
        ("distributed", 200, 2),
        ("no data", 200, 2),
    ],
)
def test_each_rank_trains_on_its_half(name, samples, steps, seen, trained):
    mine, theirs = seen(name, "train")
    assert trained[1][name]["step"] == len(mine) == len(theirs) == steps
    assert numbers(mine + theirs) == list(range(samples))


def test_the_order_is_drawn_anew_and_is_no_rank_alone(seen):
    mine, _ = seen("shuffled", "train")
    assert mine[0] != sorted(mine[0])


def test_an_odd_sample_is_repeated_so_that_all_ranks_take_as_many_steps(seen, trained):
    mine, theirs = seen("odd", "train")
    assert [len(batch) for batch in mine] == [len(batch) for batch in theirs] == [50, 1]
    assert set(numbers(mine + theirs)) == set(range(101))


def test_drop_last_leaves_out_what_fills_no_batch_of_each_rank(seen):
    parts = seen("drop_last", "train")
    assert [[len(batch) for batch in part] for part in parts] == [[50] * 4] * 2
    assert len(set(numbers(parts[0] + parts[1]))) == 400


def test_a_users_sampler_is_drawn_from_once_for_all_ranks(seen):
    mine, theirs = seen("subset", "train")
    assert numbers(mine + theirs) == list(range(0, 1000, 2))
    mine, theirs = seen("weighted", "train")
    assert len(numbers(mine + theirs)) == 200


def test_a_users_batches_stay_whole(seen):
    mine, theirs = seen("growing", "train")
    assert [len(batch) for batch in mine] == [1, 3, 5, 7]
    assert [len(batch) for batch in theirs] == [2, 4, 6, 8]


@pytest.mark.parametrize("name", ["two", "combined"])
def test_each_of_several_loaders_is_shared(name, seen):
    parts = seen(name, "train")
    assert numbers(parts[0] + parts[1]) == sorted([*range(200), *range(200)])


ALL_KINDS = ["shuffled", "uneven", "one by one", "fewer than ranks", "end", "end, distributed", "end, shared"]


@pytest.mark.parametrize("name", ALL_KINDS)
def test_every_metric_of_validation_is_that_of_one_rank(name, report):
    samples = CASES[name][0].get("val_samples", 101)
    metrics = report(name)
    mean = (samples - 1) / 2
    assert metrics["val/number"] == metrics["val/synced"] == metrics["val/torchmetrics"] == pytest.approx(mean)
    assert metrics["val/sum"] == samples * mean
    assert (metrics["val/max"], metrics["val/min"]) == (samples - 1, 0)
    assert metrics.get("val/only_one_rank", 7) == 7


def test_what_one_rank_alone_logs_is_reported_and_stops_nobody(report):
    assert report("shuffled")["val/only_one_rank"] == 7


def test_metrics_of_training_are_over_all_ranks(report):
    assert report("shuffled")["train/number"] == pytest.approx(499.5)
    assert 0 < report("shuffled")["train/last"] < 999


def test_validation_is_shared_where_nothing_computes_at_its_end(seen):
    mine, theirs = seen("uneven", "val")
    assert numbers(mine + theirs) == list(range(101))
    assert len(mine) == len(theirs)
    for name in ("end", "fewer than ranks", "one by one"):
        mine, theirs = seen(name, "val")
        assert mine == theirs
    mine, theirs = seen("end, shared", "val")
    assert numbers(mine + theirs) == list(range(101))


def test_loaders_that_share_by_themselves_are_left_as_they_are(seen):
    for split, samples in (("train", 1000), ("val", 100)):
        mine, theirs = seen("own parts", split)
        assert numbers(mine + theirs) == list(range(samples))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("iterable", "a loader over an iterable dataset (Streamed)"),
        ("iterable val", "a loader over an iterable dataset (Streamed)"),
        ("endless", "a loader whose sampler (Endless) has no length"),
        ("generator", "a generator, which is no torch DataLoader"),
        ("none left", "60 samples, and drop_last leaves them all out"),
    ],
)
def test_what_cannot_be_shared_is_refused_with_what_to_do(name, reason, trained):
    message = trained[1][name]["error"]
    assert message.startswith("UserError: ")
    assert reason in message
    assert "resources.ranks" in message
    assert name == "none left" or "use_distributed_sampler: false" in message


@pytest.mark.parametrize("file", ["prepared.log", "seen-no data.prepared"])
def test_data_are_prepared_once_on_a_machine(file, trained):
    assert (trained[0] / file).read_text() == "prepared\n"


def test_a_module_with_loaders_of_its_own_validates_once(report, seen):
    assert report("no data")["val/number"] == pytest.approx(50.0)
    assert sorted(map(len, map(numbers, seen("no data", "val")))) == [50, 51]


def own_loaders(kind="shuffled", **recipe):
    return Recipe(task=UserComponent(name=f"{CODE}:SelfFed", kind=kind), **recipe)


@pytest.mark.parametrize(("ranks", "kind"), [(2, "iterable"), (1, "iterable"), (2, "shuffled")])
def test_a_plan_refuses_a_modules_own_loaders_that_ranks_could_not_share(ranks, kind):
    finding = check_batches(BatchCheck(8, ranks=ranks), Attempt(own_loaders(kind), 0), World())
    refused = "data of" in finding.failure and "2 ranks cannot share it" in finding.failure
    assert refused == (ranks == 2 and kind == "iterable")
    assert bool(finding.metrics) != refused


def test_a_finished_trial_with_loaders_of_its_own_is_evaluated():
    with open_evaluator(Attempt(own_loaders(), 0), World()) as evaluator:
        batches = evaluator.batches("test")
    assert numbers(batch["number"].tolist() for batch in batches) == list(range(7))


def test_data_that_are_named_stand_in_for_a_modules_own_loaders(tmp_path):
    data = UserComponent(name=f"{CODE}:NumberedData", samples=20, val_samples=3, size=4)
    task = UserComponent(name=f"{CODE}:SelfFed", out=str(tmp_path / "seen"))
    run_trial(Attempt(Recipe(data=data, task=task, trainer=Trainer(epochs=1)), 0), World(), lambda report: True)
    seen = json.loads((tmp_path / "seen-0.json").read_text())
    assert (len(numbers(seen["train"])), len(numbers(seen["val"]))) == (20, 3)


def test_train_and_val_of_a_modules_own_loaders_are_not_joined():
    with pytest.raises(UserError, match=r"fit_on: train\+val joins splits of prepared shards; .*SelfFed has its own"):
        run_trial(Attempt(own_loaders(trainer=Trainer(fit_on="train+val")), 0), World(), lambda report: True)


def test_trials_of_one_machine_prepare_the_same_data_one_after_another(tmp_path):
    spec = UserComponent(name=f"{CODE}:PreparedData", log=str(tmp_path / "log"))

    def prepare(_):
        module = shared_data_code.PreparedData(spec.arguments["log"], seconds=0.05)
        prepare_once(module, spec.name, spec.arguments, World())
        module.prepare_data()

    with ThreadPoolExecutor(3) as threads:
        list(threads.map(prepare, range(3)))
    assert (tmp_path / "log").read_text() == "prepared\n" * 3


@pytest.mark.parametrize("kind", ["iterable", "endless", "generator"])
def test_the_same_is_known_before_there_are_ranks(kind):
    loaders = {"a": shared_data_code.loader("plain", 10, 2), "b": shared_data_code.loader(kind, 10, 2)}
    check_loaders(loaders, "mine:Data", 1)
    with pytest.raises(UserError, match=r"data mine:Data gives a .*: 2 ranks cannot share it"):
        check_loaders(loaders, "mine:Data", 2)


@pytest.mark.parametrize(("ranks", "name"), [(2, "iterable"), (2, "iterable val"), (1, "iterable"), (2, "end")])
def test_a_plan_refuses_what_the_ranks_could_not_share(ranks, name, tmp_path):
    finding = check_batches(BatchCheck(8, ranks=ranks), Attempt(recipe(tmp_path, name), 0), World())
    refused = ranks == 2 and name != "end"
    assert ("2 ranks cannot share it" in finding.failure) == refused
    assert bool(finding.metrics) != refused


def test_a_plan_leaves_loaders_alone_that_share_by_themselves(tmp_path):
    finding = check_batches(BatchCheck(8, ranks=2), Attempt(recipe(tmp_path, "own parts"), 0), World())
    assert finding.failure == ""


def test_hooks_of_a_base_class_of_lightnings_are_not_the_users():
    assert not watches_validation_end(user_code.Plain)
    assert not watches_validation_end(user_code.blobs)
    assert watches_validation_end(shared_data_code.EndSeeing)
