"""The everyday commands as typed: what they say, where they point to, and how they end."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from expflow import cli
from expflow.events import AttemptFailed, TrialEnded, TrialProposed, TrialReported, TrialStarted
from expflow.ledger import load_state
from expflow.sweep.in_process import run_in_process
from expflow.sweep.plan import make_plan
from tests.tracking import stories

DIGITS = """\
data: {name: digits, batch_size: 64}
model: {name: resnet, layout: cifar, depth: 20, width: 16, shortcut: pad}
task: classification
loss: cross_entropy
optimizer: {name: sgd, lr: 0.1}
trainer: {epochs: 10}
sweep:
  space:
    model.depth: [8, 20]
    optimizer.lr: [0.1, 0.2]
"""

FOLDER = """\
data: {name: folder, path: mine, image_size: 8, batch_size: 8}
model: {name: "my_net:Net", width: 4}
task: classification
loss: cross_entropy
optimizer: {name: sgd, lr: 0.1}
trainer: {epochs: 2}
sweep:
  space: {model.width: [2, 4]}
"""

NET = """\
from torch import nn


class Net(nn.Sequential):
    def __init__(self, in_channels, num_classes, width=4):
        super().__init__(
            nn.Conv2d(in_channels, width, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, num_classes)
        )


class NoShape(nn.Sequential):
    def __init__(self, in_channels, num_classes, width=4):
        super().__init__(nn.Conv2d(in_channels, width, 3), nn.Linear(width, num_classes))


class Fails(Net):
    def forward(self, image):
        if self.training:
            raise RuntimeError("my mistake")
        return super().forward(image)
"""

SCRIPTED = """\
about: {question: Does a script do as it is told?}
task:
  name: scripted
  script: [{report: {val/top1: 0.5, val/loss: 1.25}}, {report: {val/top1: 0.75}}]
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EXPFLOW_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("my_net",):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


@pytest.fixture
def call(place: Path, capsys: pytest.CaptureFixture[str]):
    """Type a command; returns its exit code, stdout and stderr. None of them may show a traceback."""

    def run(*words: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            cli.main([str(word) for word in words])
        message = capsys.readouterr()
        assert "Traceback" not in message.err
        return int(left.value.code or 0), message.out, message.err

    return run


@pytest.fixture
def _untracked(monkeypatch: pytest.MonkeyPatch) -> None:
    """No MLflow beside the trial: it has tests of its own, and each start of it takes seconds."""

    class Nobody:
        def finish(self, timeout_seconds: float) -> bool:
            return True

        def stop(self) -> None:
            pass

    monkeypatch.setattr("expflow.tracking.follower_process.start_follower", lambda folder, uri, **named: Nobody())


@pytest.fixture
def own(place: Path) -> Path:
    """An experiment over images and a network of one's own."""
    rng = np.random.default_rng(0)
    for label, base in (("dark", 40), ("light", 200)):
        (place / "mine" / label).mkdir(parents=True)
        for number in range(20):
            pixels = base + rng.integers(-30, 30, (12, 10, 3))
            Image.fromarray(pixels.astype(np.uint8)).save(place / "mine" / label / f"{number}.png")
    (place / "my_net.py").write_text(NET)
    (place / "own.yaml").write_text(FOLDER)
    return place / "own.yaml"


ALL = ", ".join(map(str, range(1, 1001)))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("depth: 20", "depth: 21", "exp.yaml:2:45: model.depth: depth 21 is not 6n+2, as the cifar layout needs"),
        ("[8, 20]", "[8, 21]", "exp.yaml:9:22: model.depth: depth 21 is not 6n+2, as the cifar layout needs"),
        ("width: 16", "widht: 16", "exp.yaml:2:49: model.widht: unknown key; nearest valid key: width"),
        ("name: digits", "name: digitz", "exp.yaml:1:14: data.name: no data source is named 'digitz'; nearest: digits"),
        ("data: {name: digits, batch_size: 64}\n", "", "exp.yaml:2:7: data: missing; the task classification needs it"),
        ("loss: cross_entropy\n", "task: classification\n", "exp.yaml:4:1: task: duplicate key; it was first given at"),
        (
            "[0.1, 0.2]",
            f"[{ALL}]\n    optimizer.momentum: [{ALL}]\n    data.batch_size: [{ALL}]",
            "2,000,000,000 configs",
        ),
        ("lr: 0.1", "lr: fast", "exp.yaml:5:28: optimizer.lr: expected a number, found 'fast'"),
    ],
)
def test_plan_refuses_with_the_place_and_what_to_write(place, call, old, new, message):
    text = DIGITS.replace(old, new, 1)
    assert text != DIGITS
    (place / "exp.yaml").write_text(text)
    code, out, err = call("plan", "exp.yaml")
    assert (code, out) == (2, "")
    assert message in err
    assert all(line.startswith("error: exp.yaml:") for line in err.splitlines())


def test_depth_21_names_20_and_26(place, call):
    (place / "exp.yaml").write_text(DIGITS)
    code, _, err = call("plan", "exp.yaml", "--set", "model.depth=21")
    assert code == 2
    assert "--set model.depth=21: model.depth: " in err
    assert "nearest: 20 and 26" in err


def test_plan_lists_trials_and_starts_nothing(place, call):
    (place / "exp.yaml").write_text(DIGITS)
    code, out, err = call("plan", "exp.yaml", "--no-time")
    assert (code, err) == (0, "")
    assert "depth=20 lr=0.2 s0" in out
    assert "269,434" in out
    assert "4 trials of 4 configs, 4 still to run; judged by val/top1 (max)" in out
    assert not (place / "runs").exists()


def test_a_folder_that_is_not_there_is_refused_at_its_place(own, call):
    own.write_text(FOLDER.replace("path: mine", "path: yours"))
    code, _, err = call("plan", "own.yaml")
    assert code == 2
    assert err == (
        f"error: own.yaml:1:28: data.path: no folder of images at {own.parent}/yours; "
        "correct the path, or put the images there\n"
    )
    own.write_text(FOLDER.replace("path: mine, ", ""))
    code, _, err = call("plan", "own.yaml")
    assert code == 2
    assert err.startswith("error: own.yaml:1:7: data.path: no folder of images is given: write data.path")


def test_a_folder_of_the_site_that_is_not_there_is_missing(own, call):
    own.write_text(FOLDER.replace("path: mine, ", ""))
    Path("expflow.site.yaml").write_text("data: {folder: /no/such/folder}\n")
    code, _, err = call("plan", "own.yaml")
    assert code == 3
    assert "no folder of images at /no/such/folder (the site file)" in err


def test_broken_images_are_named_all_at_once(own, call):
    (own.parent / "mine" / "dark" / "3.png").write_text("no image")
    (own.parent / "mine" / "light" / "5.png").write_text("roses")
    (own.parent / "mine" / "light" / "notes.txt").write_text("no image by its name")
    code, _, err = call("data", "build", "own.yaml")
    assert code == 2
    assert "2 of 40 images" in err
    assert err.index("dark/3.png") < err.index("light/5.png")
    assert "notes.txt" not in err


def test_a_network_that_cannot_take_the_images_is_refused_at_its_place(own, call):
    own.write_text(FOLDER.replace("my_net:Net", "my_net:NoShape"))
    code, _, err = call("plan", "own.yaml")
    assert code == 2
    assert err.startswith(
        "error: own.yaml:2:8: model: model my_net:NoShape cannot take this data (3x8x8): RuntimeError"
    )
    assert err.endswith("(in the config width=2; the same or alike in width=4)\n")


def test_a_network_that_fails_in_training_is_told_by_plan(own, call):
    own.write_text(FOLDER.replace("my_net:Net", "my_net:Fails"))
    code, _, err = call("plan", "own.yaml")
    assert code == 2
    assert err == (
        "error: own.yaml:2:8: model: one batch of training and one of validation fail: RuntimeError: my mistake"
        " (my_net.py:19) (in the config width=2; the same in width=4)\n"
    )
    code, _, err = call("plan", "own.yaml", "--no-check")
    assert code == 2
    assert "own.yaml:2:8: model: a few steps of training fail: RuntimeError: my mistake (in the config width=2;" in err


def test_data_build_and_verify(own, call):
    code, out, err = call("data", "build", "own.yaml")
    assert (code, err) == (0, "")
    root, line = out.splitlines()
    assert line == "32 train, 4 val, 4 test; 2 classes; images (3, 8, 8)"
    assert call("data", "build", "own.yaml")[1] == out
    assert call("data", "verify", "own.yaml") == (0, f"{root}: every shard is as its manifest says\n", "")

    shard = next(Path(root).glob("train*.tar"))
    content = bytearray(shard.read_bytes())
    content[700] ^= 1
    shard.write_bytes(content)
    code, _, err = call("data", "verify", "own.yaml")
    assert code == 3
    assert shard.name in err


def test_data_of_ones_own_code_have_no_shards(place, call):
    (place / "exp.yaml").write_text(SCRIPTED)
    code, _, err = call("data", "build", "exp.yaml")
    assert code == 2
    assert "there are no shards to build" in err


@pytest.mark.usefixtures("_untracked")
def test_training_a_network_of_ones_own(own, call):
    """One real trial, then everything that looks at it, and what a change of the network does."""
    code, out, _ = call("train", "own.yaml")
    assert code == 0
    assert "own+train: 1 trial, judged by val/top1" in out
    assert "base recipe s0" in out
    assert out.endswith("result   expflow show own+train/best\n")
    (trial,) = load_state(Path("runs/own+train")).trials

    code, out, _ = call("status")
    assert out.splitlines()[1].split() == ["own+train", "1", "done"]
    code, out, _ = call("status", "own+train", "--follow")
    assert trial in out
    assert out.endswith("own+train: 1 done; not running now\n")
    code, out, _ = call("logs", f"own+train/{trial[:4]}")
    assert out.startswith(f"own+train/{trial}  base recipe s0  done\n")
    assert "epoch   2 100%" in out
    assert "fit/loss" in out
    code, out, _ = call("show", "own+train/best")
    assert code == 0
    assert "n = 1; selected on val/top1" in out
    assert "width: 4" in out
    code, out, _ = call("report", "own+train")
    assert code == 0
    assert "report   runs/own+train/report.html" in out

    with Path("my_net.py").open("a") as file:
        file.write("# changed\n")
    code, _, err = call("train", "own.yaml")
    assert code == 2
    assert err.startswith("error: own+train has results that were made by other code: my_net.py changed since")
    code, out, _ = call("train", "own.yaml", "--keep-results")
    assert code == 0
    assert "nothing was left to run" in out


@pytest.fixture
def scripted(place: Path) -> Path:
    (place / "exp.yaml").write_text(SCRIPTED)
    return place / "exp.yaml"


@pytest.mark.usefixtures("_untracked")
def test_fresh_results_are_the_ones_that_go_on(scripted, call):
    assert "exp: 1 trial" in call("train", "exp.yaml")[1]
    assert "exp.2: 1 trial" in call("train", "exp.yaml", "--fresh")[1]
    code, out, _ = call("train", "exp.yaml")
    assert code == 0
    assert "exp.2: 1 trial" in out
    assert "nothing was left to run" in out
    assert "exp.2: 1 done" in call("status", "exp.yaml")[1]
    assert call("status")[1].split()[2:] == ["exp", "1", "done", "exp.2", "1", "done"]


def test_what_continues_fresh_results_starts_no_fresh_ones(monkeypatch):
    from expflow.cli.views.run import typed_command

    monkeypatch.setattr(sys, "argv", ["/usr/bin/expflow", "sweep", "my file.yaml", "--fresh", "--set", "sweep.seeds=2"])
    assert typed_command() == "expflow sweep 'my file.yaml' --set sweep.seeds=2"


@pytest.mark.usefixtures("_untracked")
def test_commands_that_are_printed_say_where_the_results_lie(scripted, call):
    out = call("train", "exp.yaml", "--storage", "else where")[1]
    assert "result   expflow show exp/best --storage 'else where'\n" in out
    scripted.write_text(SCRIPTED.replace("{report: {val/top1: 0.75}}", "{raise: 'no luck'}"))
    out = call("train", "exp.yaml", "--fresh", "--storage", "else where")[1]
    assert "in full: expflow logs exp.2/" in out
    assert " --storage 'else where'" in out.partition("in full: ")[2].splitlines()[0]


@pytest.mark.usefixtures("_untracked")
def test_a_failed_trial_is_named_with_its_reason_and_its_log(scripted, call):
    scripted.write_text(SCRIPTED.replace("{report: {val/top1: 0.75}}", "{raise: 'no [luck] today'}"))
    code, out, _ = call("train", "exp.yaml")
    (trial,) = load_state(Path("runs/exp")).trials
    assert code == 1
    assert f"failed: base recipe s0 ({trial}): code: no [luck] today\n" in out
    assert f"in full: expflow logs exp/{trial[:4]}\n" in out
    code, out, _ = call("logs", f"exp/{trial[:4]}")
    assert code == 0
    assert "step 1 100%  val/top1 50.00 %  val/loss 1.25" in out
    assert "failed: code: no [luck] today" in out
    assert "-- log.txt\nTraceback" in out
    assert "  code: no [luck] today\n" in call("show", f"exp/{trial[:4]}")[1]
    assert "no [luck] today" in call("status", "exp")[1]
    code, _, err = call("show", "exp/best")
    assert (code, err) == (2, "error: exp has no trial at full budget yet, hence no best one\n")


@pytest.mark.usefixtures("_untracked")
def test_the_selected_config_is_shown_with_the_means_of_its_other_metrics(scripted, call):
    final = "{report: {val/top1: 0.75, val/loss: 1.0}}"
    scripted.write_text(SCRIPTED.replace("{report: {val/top1: 0.75}}", final) + "sweep: {seeds: 2, metric: val/top1}\n")
    run_in_process(make_plan(scripted))
    code, out, _ = call("show", "exp/best")
    assert code == 0
    lines = out.splitlines()
    assert lines[1].startswith("  val/top1 75.00 %")
    assert "means over the 2 trials:" in out
    assert [line.split() for line in lines if line.startswith("  val/loss")] == [["val/loss", "1"]]


def test_results_that_are_not_there(place, call):
    assert call("status") == (0, f"no results in {place}/runs; `expflow sweep FILE` makes some\n", "")
    (place / "mine.yaml").write_text(SCRIPTED)
    code, _, err = call("show", "mine/best")
    assert (code, err) == (2, f"error: no results of mine in {place}/runs; `expflow sweep mine.yaml` makes some\n")


@pytest.fixture
def cut_short(place: Path) -> Path:
    """Results of a driver that was killed: one trial done, one running, one failed."""
    folder = place / "runs" / "depth"
    events = [
        *stories.whole_trial(20, 0),
        stories.proposed(56, 0),
        TrialStarted("t56s0", 1, "gang-1"),
        TrialReported("t56s0", 1, 10, {"val/top1": 0.25}, 0.5),
        stories.proposed(56, 1),
        TrialStarted("t56s1", 1, "gang-2"),
        AttemptFailed("t56s1", 1, "worker_lost", "the worker died"),
        TrialStarted("t56s1", 2, "gang-3"),
        AttemptFailed("t56s1", 2, "diverged", "the loss became nan"),
        TrialEnded("t56s1", 2, "failed", 10, 75.0),
    ]
    stories.write(folder, events, close=None)
    return folder


def test_status_of_a_killed_sweep(cut_short, call):
    _, out, _ = call("status", "depth")
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == ["trial", "state", "config", "val/top1", "time", "why"]
    assert lines[1] == ["t20s0", "done", "depth=20", "s0", "50.00", "%", "1.5s"]
    assert lines[2] == ["t56s0", "cut", "short", "depth=56", "s0", "25.00", "%", "50%"]
    assert lines[3] == ["t56s1", "failed", "depth=56", "s1", "1m15s", "the", "loss", "became", "nan"]
    assert out.endswith(
        "depth: 1 cut short, 1 done, 1 failed; not running now; the command that started it continues it\n"
    )


def test_status_prints_what_continues_a_sweep(place, call):
    command = "expflow sweep depth.yaml --set 'model.width=[8, 16]'"
    stories.write(place / "runs" / "depth", [stories.proposed(56, 0)], close=None, command=command)
    assert call("status", "depth")[1].endswith(f"not running now; to continue: {command}\n")
    stories.write(place / "runs" / "over", stories.whole_trial(20, 0), command=command)
    assert call("status", "over")[1].endswith("1 done; not running now\n")


def test_names_that_lead_nowhere_say_what_is_there(cut_short, call):
    for words, message in [
        (("status", "deph"), "did you mean depth?"),
        (("report", "other"), "there are: depth"),
        (("logs", "depth"), "name one of its trials"),
        (("logs", "depth/4"), "2 to 12 characters of a trial's id, which is hexadecimal"),
        (("show", "depth/T20"), "`expflow status depth` lists the ids"),
        (("show", "depth", "--out", "there"), "--out there: there is nothing to write; add --filters"),
        (("show", "depth", "--soup", "--out", "there"), "--out there: there is nothing to write"),
        (("show", "depth", "depth", "--filters"), "a second result (depth) goes with no pictures"),
        (("logs", "depth/x", "--follow"), "2 to 12 characters"),
        (("logs", "depth/abcd"), "`expflow status depth` lists them"),
        (("show", "depth/abcd"), "`expflow status depth` lists them"),
    ]:
        code, _, err = call(*words)
        assert code == 2
        assert err.startswith("error: ")
        assert message in err


def test_commands_that_are_printed_find_results_elsewhere(place, call):
    stories.write(place / "elsewhere" / "depth", stories.whole_trial(20, 0))
    for words, command in [
        (("logs", "depth/abcd"), "status depth"),
        (("train", "depth", "--check"), "status depth"),
    ]:
        code, _, err = call(*words, "--storage", "elsewhere")
        assert code == 2
        assert f"`expflow {command} --storage elsewhere` lists" in err


def test_logs_tell_every_attempt_and_what_was_printed(place, call):
    folder = place / "runs" / "depth"
    trial = "abc123abc123"
    stories.write(
        folder,
        [
            TrialProposed(trial, "c", 0, {"model.depth": 8}, {}),
            TrialStarted(trial, 1, "gang-1"),
            AttemptFailed(trial, 1, "worker_lost", "the worker died"),
            TrialStarted(trial, 2, "gang-2"),
            TrialReported(trial, 2, 10, {"val/top1": 0.5, "progress/epoch": 1.0, "cost/params": 3.0}, 1.0),
            TrialEnded(trial, 2, "done", 10, 1.5),
        ],
    )
    log = folder / "trials" / f"depth=8_s0-{trial}" / "log.txt"
    log.parent.mkdir(parents=True)
    log.write_bytes(b"hello \xff from my net\n")
    _, out, _ = call("logs", "depth/abc")
    head, *lines = out.splitlines()
    assert head == f"depth/{trial}  depth=8 s0  done"
    assert [line.partition("  ")[2] for line in lines[:5]] == [
        "started on gang-1",
        "failed: worker_lost: the worker died",
        "started on gang-2, attempt 2",
        "epoch   1 100%  val/top1 50.00 %",
        "done after 1.5s",
    ]
    assert lines[5:] == ["-- log.txt", "hello \ufffd from my net"]


WITHOUT_RAY = """
import importlib.abc, sys

class NoRay(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "ray":
            raise AssertionError(f"something imports {name}")

sys.meta_path.insert(0, NoRay())
from expflow import cli
try:
    cli.main(["train", "exp.yaml"])
except SystemExit as left:
    assert not left.code, left.code
assert "torch" in sys.modules
assert "ray" not in sys.modules
"""


def test_training_one_trial_needs_no_ray(place):
    (place / "exp.yaml").write_text(DIGITS.partition("sweep:")[0].replace("epochs: 10", "epochs: 1"))
    command = [sys.executable, "-c", WITHOUT_RAY]
    small = "model: linear\n"
    text = (place / "exp.yaml").read_text().splitlines(keepends=True)
    (place / "exp.yaml").write_text("".join([text[0], small, *text[2:]]))
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert load_state(place / "runs" / "exp").plan_trials()[0].status == "done"


@pytest.mark.usefixtures("_untracked")
def test_after_the_data_have_changed_plan_says_what_the_next_run_says(call, own: Path) -> None:
    text = own.read_text().partition("sweep:")[0].replace("epochs: 2", "epochs: 1")
    own.write_text(text)
    assert call("train", own)[0] == 0
    code, out, _ = call("plan", own, "--no-time", "--no-check")
    assert code == 0
    assert "note:" not in out
    other = own.parent / "other"
    shutil.copytree(own.parent / "mine", other)
    Image.new("RGB", (9, 9)).save(other / "dark" / "0.png")
    own.write_text(text.replace("path: mine", "path: other"))
    code, out, _ = call("plan", own, "--no-time", "--no-check")
    assert code == 0
    (note,) = [line for line in out.splitlines() if line.startswith("note: ")]
    code, _, error = call("train", own)
    assert code == 2
    assert error == note.replace("note: ", "error: ") + "\n"
    assert "--fresh" in note
