"""Trials that begin with another one's weights: looked up once, part of their identity, kept with the results."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest
import torch

from expflow.config import load_site
from expflow.errors import CheckpointDamaged, ExperimentInvalid, LedgerMismatch, WeightsMissing
from expflow.ledger import SweepState, load_state
from expflow.report import selected_row
from expflow.sweep.cost_estimate import check_builds
from expflow.sweep.in_process import run_in_process
from expflow.sweep.initial_weights import best_trial, resolve
from expflow.sweep.plan import Plan, make_plan
from expflow.sweep.result_location import find_results
from expflow.sweep.trial_check import check_trial
from expflow.sweep.trial_expansion import planned_trial, planned_trials

PRETRAINING = """
data: {name: digits, batch_size: 50, limit: 100}
model: {name: mlp, hidden: 16}
task: classification
optimizer: {name: sgd, lr: 0.1}
trainer: {epochs: 2}
sweep: {space: {optimizer.lr: [0.001, 0.1]}, seeds: 2}
"""

TRANSFER = """
data: {name: digits, batch_size: 50, limit: 50, split_seed: 1}
model: {name: mlp, hidden: 16}
task: classification
optimizer: {name: sgd, lr: 0.1}
trainer: {epochs: 1}
init: {from: pre/best}
"""


@pytest.fixture(scope="module")
def pretraining(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the finished sweep `pre`, and prepared data beside it."""
    folder = tmp_path_factory.mktemp("pretraining")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("EXPFLOW_CACHE", str(folder / "cache"))
        (folder / "pre.yaml").write_text(PRETRAINING)
        run_in_process(make_plan(folder / "pre.yaml"))
    return folder


@pytest.fixture
def place(pretraining: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of one's own with those results in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EXPFLOW_CACHE", str(pretraining / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    shutil.copytree(pretraining / "runs", tmp_path / "runs")
    (tmp_path / "pre.yaml").write_text(PRETRAINING)
    return tmp_path


def plan(folder: Path, text: str = TRANSFER, **options: bool) -> Plan:
    (folder / "exp.yaml").write_text(text)
    return make_plan(folder / "exp.yaml", **options)


def said(folder: Path, text: str, *, builds: bool = False) -> str:
    with pytest.raises(ExperimentInvalid) as error:  # noqa: PT012 - either of the two may refuse
        made = plan(folder, text)
        if builds:
            check_builds(made)
    return str(error.value).replace(f"{folder}/", "")


def pre(folder: Path) -> SweepState:
    return load_state(folder / "runs" / "pre")


def test_the_best_is_the_best_trial_of_the_config_that_the_report_selects(place):
    state = pre(place)
    row, trial = selected_row(state), best_trial(state)
    assert trial in list(row.trials)
    assert trial.config == row.config
    assert trial.metrics["val/top1"] == max(other.metrics["val/top1"] for other in row.trials)


def test_the_trials_identity_says_which_weights_it_began_with(place):
    [trial] = planned_trials(plan(place))
    chosen = best_trial(pre(place))
    assert trial.weights.trial == chosen.trial
    assert trial.weights.id.startswith(f"{chosen.trial}@")
    [other] = planned_trials(plan(place, TRANSFER.replace("pre/best", f"pre/{chosen.trial}")))
    assert other.weights.id == trial.weights.id
    rest = next(other for other in pre(place).trials if other != chosen.trial)
    [another] = planned_trials(plan(place, TRANSFER.replace("pre/best", f"pre/{rest}")))
    assert len({trial.trial, other.trial, another.trial}) == 3


def test_the_weights_are_recorded_and_kept_so_that_what_continues_begins_with_the_same(place):
    """The better trial that comes later, and the checkpoint that is pruned, change nothing."""
    first = plan(place)
    run_in_process(first)
    chosen = best_trial(pre(place)).trial
    assert load_state(place / "runs" / "exp").header.weights["pre/best"]["trial"] == chosen
    shutil.rmtree(place / "runs" / "pre")
    more = plan(place, TRANSFER + "sweep: {seeds: 2}\n")
    ids = [planned.trial for planned in planned_trials(more)]
    assert ids[0] == next(planned_trials(first)).trial
    result = run_in_process(more)
    assert result.ran == 1
    assert [trial.status for trial in result.state.plan_trials()] == ["done", "done"]


def test_another_best_under_the_same_name_is_refused_once_the_copy_is_gone(place):
    run_in_process(plan(place))
    shutil.rmtree(place / "runs" / "exp" / "weights")
    run_in_process(plan(place))  # the same weights are still there
    shutil.rmtree(place / "runs" / "exp" / "weights", ignore_errors=True)
    (place / "pre.yaml").write_text(PRETRAINING.replace("0.001, 0.1", "0.05"))
    run_in_process(make_plan(place / "pre.yaml"))
    with pytest.raises(LedgerMismatch, match=r"began with the weights of pre/.*--fresh"):
        plan(place)
    [fresh] = planned_trials(plan(place, fresh=True))
    assert fresh.weights.trial == best_trial(pre(place)).trial


def test_a_copy_that_was_changed_is_not_used(place):
    run_in_process(plan(place))
    [kept] = (place / "runs" / "exp" / "weights").glob("*/weights.pt")
    data = bytearray(kept.read_bytes())
    data[len(data) // 2] ^= 1
    kept.unlink()  # it may be a link to the checkpoint
    kept.write_bytes(data)
    more = plan(place, TRANSFER + "sweep: {seeds: 2}\n")
    with pytest.raises(CheckpointDamaged, match="its sha256 is no longer"):
        planned_trial(more, {}, 1).weights.verify()
    result = run_in_process(more)
    assert [trial.status for trial in result.state.plan_trials()] == ["done", "failed"]


def test_from_scratch_is_the_trial_that_says_nothing(place):
    [one] = planned_trials(plan(place, TRANSFER.replace("pre/best", "scratch")))
    [two] = planned_trials(plan(place, TRANSFER.replace("init: {from: pre/best}", "")))
    assert one.trial == two.trial


SEARCHED = TRANSFER.replace("init: {from: pre/best}", "") + (
    "sweep:\n  space:\n    init.from: [scratch, pre/best]\n"
    "    init.freeze: {choice: [none, backbone], when: {init.from: pre/best}}\n"
    "    init.lr_scale.backbone: {choice: [1, 0.1], when: {init.freeze: none}}\n"
)


def test_the_ways_to_transfer_are_a_sweep(place):
    result = run_in_process(plan(place, SEARCHED))
    trials = result.state.plan_trials()
    assert [trial.status for trial in trials] == ["done"] * 4
    assert len({trial.weights for trial in trials}) == 4


# each seed its own

SEEDED = TRANSFER.replace("pre/best", "pre/best@seed") + "sweep: {seeds: 2}\n"


def test_each_seed_begins_with_the_pretraining_of_its_own_seed(place):
    best = best_trial(pre(place))
    of_best = {trial.seed: trial.trial for trial in pre(place).plan_trials() if trial.config == best.config}
    made = plan(place, SEEDED)
    assert {trial.seed: trial.weights.trial for trial in planned_trials(made)} == of_best
    [first, second] = planned_trials(plan(place, SEEDED.replace("@seed", "@1")))
    assert first.weights.trial == second.weights.trial == of_best[1]
    result = run_in_process(made)
    assert [trial.status for trial in result.state.plan_trials()] == ["done", "done"]
    recorded = load_state(place / "runs" / "exp").header.weights
    assert {source: facts["trial"] for source, facts in recorded.items()} == {
        f"pre/best@{seed}": trial for seed, trial in of_best.items()
    }
    for trial in result.state.plan_trials():
        assert check_trial(find_results(f"exp/{trial.trial}", None)).equal


def test_further_seeds_begin_with_the_config_that_the_first_ones_began_with(place):
    """Another config that is best by now would make the seeds of one config different trainings."""
    run_in_process(plan(place, SEEDED))
    config = best_trial(pre(place)).config
    (place / "pre.yaml").write_text(PRETRAINING.replace("0.001, 0.1", "0.1, 0.2").replace("seeds: 2", "seeds: 3"))
    run_in_process(make_plan(place / "pre.yaml"))
    assert best_trial(pre(place)).config != config
    trials = list(planned_trials(plan(place, SEEDED.replace("seeds: 2", "seeds: 3"))))
    assert [pre(place).trials[trial.weights.trial].config for trial in trials] == [config] * 3


def test_a_seed_without_a_pretraining_is_refused_with_the_seeds_that_have_one(place):
    message = said(place, SEEDED.replace("seeds: 2", "seeds: 3"))
    assert message.startswith("exp.yaml:7:14: init.from: pre/best@2: ")
    assert "pre has trials with seeds 0, 1 and none with seed 2" in message


# places


@pytest.mark.parametrize(
    ("init", "message"),
    [
        ("pree/best", r"exp.yaml:7:14: init.from: no results of pree in runs; did you mean pre\?"),
        ("pre", r"exp.yaml:7:14: init.from: pre: which of its trials\? pre/best, or pre/3fa9"),
        ("pre/ffff", "exp.yaml:7:14: init.from: pre/ffff names no trial"),
        ("./no.pt", "exp.yaml:7:14: init.from: there is no file no.pt"),
        ("mlflow:1f", "exp.yaml:7:14: init.from: expected a trial's weights"),
        ("a/b/c", "exp.yaml:7:14: init.from: expected NAME/best, .*; found 'a/b/c'"),
        (
            "torchvision/ResNet51_Weights.IMAGENET1K_V2",
            "exp.yaml:7:14: init.from: torchvision has no weights named .* nearest: torchvision/ResNet50_Weights",
        ),
    ],
)
def test_what_leads_nowhere_is_said_with_its_place(place, init, message):
    assert re.search(message.replace("exp.yaml", r"exp\.yaml"), said(place, TRANSFER.replace("pre/best", init)))


def test_a_pretraining_that_is_yet_to_be_run_is_named_with_its_command(place):
    (place / "later.yaml").write_text(PRETRAINING)
    message = said(place, TRANSFER.replace("pre/best", "later/best"))
    assert "exp.yaml:7:14" in message
    assert "first run: expflow sweep later.yaml" in message


def test_what_will_run_elsewhere_is_not_looked_up_here(place):
    """A plan that is only made to be submitted: the results may lie on the cluster."""
    assert plan(place, TRANSFER.replace("pre/best", "there/best"), elsewhere=True).sources.facts == {}


def test_a_searched_source_is_said_where_it_stands(place):
    assert said(place, SEARCHED.replace("[scratch, pre/best]", "[scratch, pre/best, pe/best]")).startswith(
        "exp.yaml:10:36: init.from: no results of pe in runs; did you mean pre?"
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("hidden: 16", "hidden: 17", "exp.yaml:7:14: init.from: the weights of pre/"),
        ("{from: pre/best}", "{from: pre/best, freeze: [hiden1]}", "exp.yaml:7:32: init.freeze: hiden1: no module"),
        ("{from: pre/best}", "{freeze: backbone, lr_scale: {hidden2: 1.5}}", "exp.yaml:7:36: init.lr_scale: hidden2"),
    ],
)
def test_what_the_network_does_not_bear_out_is_found_before_anything_starts(place, old, new, message):
    refusal = said(place, TRANSFER.replace(old, new), builds=True)
    assert refusal.startswith(message), refusal


# files, and published weights


def test_a_file_a_checkpoint_and_a_trials_folder_are_read(place, monkeypatch):
    trial = best_trial(pre(place))
    folder = find_results("pre", None).trial_folder(trial)
    [checkpoint] = (folder / "checkpoints").glob("step-*")
    weights = torch.load(checkpoint / "weights.pt", weights_only=True)
    torch.save({"state_dict": weights}, place / "mine.pth")
    ids = set()
    for source in (folder, checkpoint, checkpoint / "weights.pt", "mine.pth"):
        made = plan(place, TRANSFER.replace("pre/best", os.path.relpath(source, place)))
        check_builds(made)
        ids.add(next(planned_trials(made)).weights.id)
    assert len(ids) == 2  # the content counts, not the name


def test_published_weights_that_are_not_here_are_asked_for(place):
    text = TRANSFER.replace("pre/best", "torchvision/ResNet50_Weights.IMAGENET1K_V2")
    with pytest.raises(WeightsMissing, match=r"resnet50-11ad3fa6\.pth is not in .*torch/hub/checkpoints; get it from"):
        plan(place, text)
    folder = place / "published"
    folder.mkdir()
    (folder / "resnet50-11ad3fa6.pth").write_bytes(b"no weights")
    (place / "expflow.site.yaml").write_text("weights: published\n")
    with pytest.raises(CheckpointDamaged, match="is not what was published: its sha256 begins with"):
        plan(place, text)


def test_published_weights_are_found_where_the_site_says(place, monkeypatch):
    from expflow.architectures.torchvision_weights import WeightsFile
    from expflow.training.transfer.pretrained import sha256_of

    torch.save({"head.weight": torch.zeros(1)}, place / "net.pth")
    name = f"net-{sha256_of(place / 'net.pth')[:8]}.pth"
    (place / "net.pth").rename(place / name)
    monkeypatch.setattr(
        "expflow.sweep.initial_weights.weights_file", lambda source: WeightsFile(name, "https://example.org")
    )
    (place / "expflow.site.yaml").write_text("weights: .\n")
    weights = resolve("torchvision/Net", folder=place, storage=place, site=load_site())
    assert weights.files[0][0] == place / name


def test_a_trial_that_has_not_finished_has_no_weights_to_take_over(place):
    state = pre(place)
    for trial in state.trials.values():
        trial.status = "running"
    assert best_trial(state) is None
    assert best_trial(SweepState()) is None


PLAYERS = """
  generator: {name: dcgan_generator, latent: 4, width: 2}
  discriminator: {name: patch_discriminator, layers: 5}"""


def test_what_cannot_be_built_is_placed_at_its_part(tmp_path: Path) -> None:
    (tmp_path / "made.yaml").write_text(f"data: digits\nmodel: {PLAYERS}\ntask: gan\noptimizer: adam\n")
    plan = make_plan(tmp_path / "made.yaml", storage=tmp_path / "runs")
    with pytest.raises(ExperimentInvalid) as raised:
        check_builds(plan)
    assert "made.yaml:4:18: model.discriminator: model patch_discriminator" in str(raised.value)
