"""Photographs, streamed, cropped, flipped and mixed, through ``expflow train`` and by several ranks: cut and gone on
with they give what they would have given, bit for bit, and what does not count is not counted."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from expflow.config import load
from expflow.data.prepare.build import prepare
from expflow.data.streaming.loader_position import LoaderPosition
from expflow.errors import UserError
from tests.faults import streamed
from tests.training import photographs
from tests.training.test_checkpoint_resume import cut, train

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def courses(tmp_path_factory):
    """What each course of :mod:`tests.faults.streamed` printed, by rank, and the folder it was in."""
    folder = tmp_path_factory.mktemp("photographs")
    program = [sys.executable, "-m", streamed.__name__, str(folder)]
    done = subprocess.run(program, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    printed = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert not [line for line in printed if line["course"] == "failed" and "killed" not in line["of"]]
    return {(line["course"], line.get("rank", 0)): line for line in printed} | {"folder": folder}


def after(step, reports):
    return {number: report for number, report in reports.items() if int(number) > step}


# cut and gone on with


@pytest.mark.parametrize("ranks", [1, 2])
def test_killed_within_an_epoch_and_gone_on_with_it_is_the_same_training(courses, ranks):
    """Random crops, flips, MixUp, CutMix, batch norm, averaged weights and a warm-up; killed after step 4 of 6 + 6."""
    whole, again = courses[f"{ranks} whole", 0], courses[f"{ranks} gone on", 0]
    assert (f"{ranks} killed", 0) not in courses
    assert (whole["began"], again["began"]) == (0, 3)
    assert again["step"] == 12
    assert {courses[f"{ranks} gone on", rank]["weights"] for rank in range(ranks)} == {whole["weights"]}
    assert again["reports"] == after(3, whole["reports"])


def test_a_killed_train_command_typed_again_gives_the_same_weights(courses):
    whole, killed, again = (courses[name, 0] for name in ("train", "train, killed", "train again, killed"))
    assert (whole["exit"], killed["exit"], again["exit"]) == (0, -9, 0)
    assert (killed["status"], killed["saved"]) == ("running", 3)
    assert again["weights"] == whole["weights"]
    assert again["reports"] == whole["reports"]


def test_a_train_command_that_is_told_to_end_saves_and_exits_with_143(courses):
    whole, interrupted, again = (courses[name, 0] for name in ("train", "train, told", "train again, told"))
    assert interrupted["exit"] == 143
    assert (interrupted["status"], interrupted["saved"], interrupted["failures"]) == (
        "running",
        4,
        [],
    )  # the step it was told in
    assert (again["exit"], again["weights"], again["reports"]) == (0, whole["weights"], whole["reports"])


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """The same experiment, for this process."""
    folder = tmp_path_factory.mktemp("here")
    photographs.make_folder(folder)
    experiment = load(photographs.written(folder)).experiment
    return experiment.recipe, prepare(experiment.data, cache=folder / "cache", folder=folder).root, folder


@pytest.mark.parametrize("question", [1, 5, 8, 9])
def test_so_it_is_wherever_it_is_cut(here, tmp_path, question):
    """Six batches of training and two of val are an epoch's questions: also at its end, and while it validates."""
    recipe, root, _ = here
    whole, expected = train(recipe, root)
    messages = cut(recipe, root, tmp_path, question)
    again, _ = train(recipe, root, tmp_path, messages)
    assert messages.began().step == {1: 1, 5: 5, 8: 6, 9: 7}[question]
    assert again == whole
    assert messages.reports == expected.reports


def test_the_comparison_can_fail(here, tmp_path, monkeypatch):
    """A loader that begins the epoch again gives other batches, and mixes them otherwise."""
    recipe, root, _ = here
    whole, _ = train(recipe, root)
    messages = cut(recipe, root, tmp_path, 3)
    monkeypatch.setattr(LoaderPosition, "restore", lambda self, epoch, batch: None)
    again, _ = train(recipe, root, tmp_path, messages)
    assert again.weights != whole.weights


# what each rank sees, and what counts


def lines(path):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def test_one_rank_goes_on_behind_what_two_have_read(courses):
    folder = courses["folder"]
    two = [batch for batch in lines(folder / "seen by two.jsonl") if (batch["epoch"], batch["batch"]) < (0, 3)]
    one = lines(folder / "seen.jsonl")
    assert [(batch["epoch"], batch["batch"]) for batch in one] == [(0, b) for b in (3, 4, 5)] + [
        (1, b) for b in range(6)
    ]
    first = [id for batch in two + one if batch["epoch"] == 0 for id in batch["ids"]]
    assert sorted(first) == list(range(44))
    assert sorted(id for batch in one if batch["epoch"] == 1 for id in batch["ids"]) == list(range(44))
    assert courses["seen gone on", 0]["reports"]["12"] == pytest.approx(
        {"val/seen": 14, "progress/epoch": 2, "fit/seen": 44, "cost/params": 1}
    )


def test_tasks_of_ones_own_get_whole_numbers_and_mixed_labels(courses):
    for batch in lines(courses["folder"] / "seen.jsonl"):
        assert batch["kinds"] == ["torch.uint8", "torch.float32", [len(batch["ids"]), 2]]


def test_two_ranks_with_synchronised_batch_norms_train_what_one_does(courses):
    alone, together = (courses[name, 0]["reports"]["6"] for name in ("alone", "synchronised"))
    assert alone.keys() == together.keys()
    for name, value in alone.items():
        close = 1 / 14 + 1e-9 if name == "val/top1" else 1 / 44 + 1e-9 if "top1" in name else 1e-4 * value
        assert abs(value - together[name]) <= close, name
    own = courses["each its own", 0]["reports"]["6"]  # the comparison can fail
    assert abs(own["val/loss"] - alone["val/loss"]) > 1e-3


# damage


def test_skipped_samples_are_counted_in_the_run_and_nowhere_else(courses):
    run = courses["damaged, some", 0]
    assert (run["exit"], run["status"]) == (0, "done")
    for report in run["reports"].values():
        assert (report["data/bad_samples"], report["data/bad_samples_val"]) == (5, 0)
        assert report["train/top1"] * 39 == pytest.approx(round(report["train/top1"] * 39))
    assert run["reports"]["12"]["fit/top1"] * 39 == pytest.approx(round(run["reports"]["12"]["fit/top1"] * 39))


def test_above_the_limit_the_trial_fails_and_says_so(courses):
    run = courses["damaged", 0]
    assert (run["exit"], run["status"]) == (1, "failed")
    assert "skip_limit allows 1" in run["failures"][0]


def test_what_two_ranks_skipped_before_a_cut_is_counted_by_the_one_that_goes_on(courses):
    run = courses["damaged, gone on", 0]
    assert run["began"] == 4
    assert [report["data/bad_samples"] for report in run["reports"].values()] == [5, 5]


def test_without_skipping_there_is_no_such_metric(courses):
    assert not [name for name in courses["1 whole", 0]["reports"]["12"] if name.startswith("data/")]


# mixing what has no classes


def test_mixing_needs_classes(here):
    from dataclasses import replace

    from expflow.data.prepare.prepared import data_spec
    from expflow.data.shards.manifest import read_manifest
    from expflow.training.mixup_cutmix import mixing_callbacks

    recipe, root, _ = here
    spec = data_spec(read_manifest(root), recipe.data)
    assert len(mixing_callbacks(recipe, spec, 0)) == 1
    with pytest.raises(UserError, match="mix the labels of classes"):
        mixing_callbacks(recipe, replace(spec, classes=()), 0)
