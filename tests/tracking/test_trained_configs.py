"""What trained networks reached: read back from the store, and beside what is published in a comparison."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from expflow import cli
from expflow.architectures import count
from expflow.architectures.specs.resnet import ResNetSpec
from expflow.data.dataspec import DataSpec, FieldSpec
from expflow.errors import ServerUnreachable
from expflow.events import Event, TrialEnded, TrialReported, TrialStarted
from expflow.tracking.follower import catch_up
from expflow.tracking.trained_configs import trained_configs
from tests.tracking.stories import RECIPE, failed_trial, proposed, trial_id, whole_sweep, write

DIGITS = DataSpec({"image": FieldSpec((1, 8, 8), "uint8")}, tuple("0123456789"))
DATA = {"source": "digits", "key": "k1", "manifest": "ab" * 32, "spec": DIGITS.to_json()}


def sweep_of_resnets(depths: tuple[int, ...], seeds: tuple[int, ...], *, top1: float = 0.9) -> list[Event]:
    """Trials that end with ``top1`` and a hundredth of the seed, and cost what they do on digits."""
    events: list[Event] = []
    for depth in depths:
        cost = count(ResNetSpec(name="resnet", depth=depth, shortcut="pad"), DIGITS)
        for seed in seeds:
            trial = trial_id(depth, seed)
            metrics = {
                "val/top1": top1 + seed / 100,
                "cost/params": float(cost.params),
                "cost/macs": float(cost.macs or 0),
            }
            ended = TrialEnded(trial, 1, "done", 10, 1.0, "w" * 8)
            events += [
                proposed(depth, seed),
                TrialStarted(trial, 1, "g"),
                TrialReported(trial, 1, 10, metrics, 1.0),
                ended,
            ]
    return events


def tell(folder: Path, uri: str, events: list[Event], **changes: object) -> None:
    write(folder, events, **{"data": DATA, **changes})
    assert catch_up(folder, uri)


def test_configs_are_read_with_the_mean_over_their_seeds(tmp_path: Path, uri: str) -> None:
    tell(tmp_path / "depth", uri, sweep_of_resnets((20, 56), (0, 1, 2)))
    by_depth = {config.model["depth"]: config for config in trained_configs(uri)}
    assert by_depth.keys() == {"20", "56"}
    one = by_depth["20"]
    assert one.top1 == pytest.approx(0.91)
    assert (one.seeds, one.experiment, one.data) == (3, "depth", "digits")
    assert (one.params, one.data_spec) == (269_434, DIGITS)
    assert one.model == {"name": "resnet", "depth": "20", "shortcut": "pad"}


def test_of_a_sweep_with_one_seed_the_trials_are_read(tmp_path: Path, uri: str) -> None:
    tell(tmp_path / "depth", uri, sweep_of_resnets((20,), (0,)), seeds=(0,))
    (one,) = trained_configs(uri)
    assert (one.seeds, one.top1) == (1, 0.9)


def test_what_failed_or_has_no_top1_does_not_count(tmp_path: Path, uri: str) -> None:
    tell(tmp_path / "depth", uri, failed_trial(20, 0), seeds=(0,))
    assert trained_configs(uri) == []


def test_data_that_the_sweep_itself_changed_are_not_known(tmp_path: Path, uri: str) -> None:
    tell(tmp_path / "depth", uri, whole_sweep(), data={"source": "digits", "key": "k"})
    assert {config.data_spec for config in trained_configs(uri)} == {None}


def test_a_store_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    assert trained_configs(f"sqlite:///{tmp_path / 'mlflow.db'}") == []
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_no_store_says_so(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("no database")
    with pytest.raises(ServerUnreachable, match="cannot be used"):
        trained_configs(f"sqlite:///{tmp_path / 'mlflow.db'}")


def compared(capsys: pytest.CaptureFixture[str], storage: Path, *arguments: str) -> list[dict[str, object]]:
    with pytest.raises(SystemExit) as left:
        cli.main(["models", "compare", *arguments, "--storage", str(storage), "--json"])
    assert left.value.code == 0
    return list(json.loads(capsys.readouterr().out)["models"])


RESNET = "resnet,depth=20,shortcut=pad"


def test_a_comparison_takes_what_is_published_and_else_what_was_reached_here(tmp_path: Path, uri: str, capsys) -> None:
    tell(tmp_path / "depth", uri, sweep_of_resnets((20,), (0, 1, 2)))
    ours, theirs, unknown = compared(capsys, tmp_path, RESNET, "torchvision/resnet18", "lenet5")
    assert (ours["data"], ours["source"], ours["seeds"]) == ("digits val", "depth, 3 seeds", 3)
    assert ours["top1"] == pytest.approx(0.91)
    assert (ours["input"], ours["params"]) == ([1, 8, 8], 269_434)  # as it was trained, not the usual 3x32x32
    assert (theirs["data"], theirs["top1"]) == ("ImageNet", 0.69758)
    assert unknown["top1"] is None


def test_another_network_or_another_image_is_not_ours(tmp_path: Path, uri: str, capsys) -> None:
    tell(tmp_path / "depth", uri, sweep_of_resnets((20,), (0, 1, 2)))
    other, large = compared(capsys, tmp_path, "resnet,depth=20,shortcut=none", RESNET, "--input", "3x32x32")
    assert (other["top1"], large["top1"]) == (None, None)
    (same,) = compared(capsys, tmp_path, RESNET, "--input", "1x8x8", "--classes", "10")
    assert same["top1"] == pytest.approx(0.91)


def test_of_several_recipes_the_best_counts_and_their_number_is_said(tmp_path: Path, uri: str, capsys) -> None:
    tell(tmp_path / "depth", uri, sweep_of_resnets((20,), (0, 1, 2)))
    slower = {**RECIPE, "optimizer": {"name": "sgd", "lr": 0.01}}
    tell(tmp_path / "slow", uri, sweep_of_resnets((20,), (0, 1, 2), top1=0.5), recipe=slower, name="slow")
    (ours,) = compared(capsys, tmp_path, RESNET)
    assert ours["source"] == "depth, 3 seeds, best of 2 recipes"


def test_without_an_answer_of_the_store_the_rest_is_shown(tmp_path: Path, capsys) -> None:
    (tmp_path / "mlflow.db").write_text("no database")
    with pytest.raises(SystemExit):
        cli.main(["models", "lenet5", "--storage", str(tmp_path), "--json"])
    output = capsys.readouterr()
    assert json.loads(output.out)["models"][0]["top1"] is None
    assert "accuracies of your own are left out" in output.err


def test_the_chart_has_both(tmp_path: Path, uri: str, capsys) -> None:
    tell(tmp_path / "depth", uri, sweep_of_resnets((20,), (0, 1, 2)))
    chart = tmp_path / "chart.svg"
    compared(capsys, tmp_path, RESNET, "torchvision/resnet18", "--out", str(chart))
    assert all(f"<!-- top-1 % on {data} -->" in chart.read_text() for data in ("digits val", "ImageNet"))
