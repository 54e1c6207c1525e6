"""What was passed over among the data is printed by the commands, and recorded with a run."""

import shutil
import sys

import numpy as np
import pytest
from PIL import Image

from expflow import cli
from expflow.cli.views.data import show_build, show_stats
from expflow.config import load
from expflow.config.schema import Recipe
from expflow.data.prepare.build import prepare
from expflow.data.specs import FolderSpec
from expflow.sweep import ledger_header


def folder_with_litter(tmp_path):
    for split, labels in (("train", "ab"), ("val", "a")):
        for label in labels:
            folder = tmp_path / "images" / split / label
            folder.mkdir(parents=True)
            for number in range(4):
                Image.fromarray(np.full((4, 4, 3), number, np.uint8)).save(folder / f"{number}.png")
    (tmp_path / "images" / "train" / "a" / "Thumbs.db").write_bytes(b"x")
    return tmp_path / "images"


REMARKS = ["val has no sample of class b", "1 files that systems and file servers leave behind: train/a/Thumbs.db"]


def test_build_and_stats_print_what_was_passed_over(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EXPFLOW_CACHE", str(tmp_path / "cache"))
    what = f"folder,path={folder_with_litter(tmp_path)},test_fraction=0"
    for command in (lambda: show_build(what, [], None, None, 1), lambda: show_stats(what, [])):
        command()
        printed = capsys.readouterr().out
        assert all(remark in printed for remark in REMARKS)


def test_the_header_of_a_run_records_it(tmp_path):
    spec = FolderSpec(name="folder", path=folder_with_litter(tmp_path), test_fraction=0)
    data = prepare(spec, cache=tmp_path / "cache")
    file = tmp_path / "exp.yaml"
    recipe_text = "model: linear\ntask: classification\noptimizer: {name: sgd, lr: 1}\n"
    file.write_text("data: {name: folder, path: images}\n" + recipe_text)
    recipe: Recipe = load(file).experiment.recipe
    facts = ledger_header._data_facts(data, recipe)
    assert facts["remarks"] == [REMARKS[0], f"not read: {REMARKS[1]}"]


RECIPE = "model: {name: linear}\ntask: classification\noptimizer: {name: sgd, lr: 0.1}\ntrainer: {epochs: 1}\n"


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    """Type a command in a folder with an experiment over images; returns its exit code and what it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EXPFLOW_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr("expflow.tracking.follower_process.start_follower", lambda folder, uri, **named: _Nobody())
    data = "data: {name: folder, path: images, image_size: 4, test_fraction: 0, batch_size: 4}\n"
    (tmp_path / "exp.yaml").write_text(data + RECIPE)
    folder_with_litter(tmp_path)

    def run(*words):
        with pytest.raises(SystemExit) as left:
            cli.main(list(words))
        return int(left.value.code or 0), "".join(capsys.readouterr())

    return run


class _Nobody:
    def finish(self, timeout_seconds):
        return True

    def stop(self):
        pass


def test_plan_prints_what_was_passed_over(call):
    code, printed = call("plan", "exp.yaml", "--no-time")
    assert code == 0
    assert all(remark in printed for remark in REMARKS)


def test_a_folder_that_is_read_differently_says_what_changed(call, tmp_path):
    assert call("train", "exp.yaml")[0] == 0
    images = tmp_path / "images" / "train"
    (images / "c").mkdir()
    (images / "a" / "0.png").rename(images / "c" / "0.png")
    code, printed = call("train", "exp.yaml")
    assert code == 2
    assert "exp has results that do not fit its data any more: folder is read differently now: " in printed
    assert "classes that are new: c" in printed
    assert "--fresh" in printed
    assert "other data" not in printed
    (images / "c" / "0.png").rename(images / "a" / "new.png")
    (images / "c").rmdir()
    (images / "b" / "0.png").unlink()
    assert "train had 8 samples and has 7" in call("train", "exp.yaml")[1]
    Image.fromarray(np.full((4, 4, 3), 99, np.uint8)).save(images / "b" / "0.png")
    assert "as many samples of the same classes as then, with other content" in call("train", "exp.yaml")[1]
    assert "classes that are gone" not in call("show", "exp/best")[1]


def test_a_folder_that_other_rules_read_differently_says_so(call, tmp_path, monkeypatch):
    thumbnails = tmp_path / "images" / "train" / "a" / "@eaDir"
    thumbnails.mkdir()
    Image.fromarray(np.full((4, 4, 3), 99, np.uint8)).save(thumbnails / "0.png")
    with monkeypatch.context() as earlier:
        earlier.setattr("expflow.data.sources.listing.LITTER_FOLDERS", frozenset())
        assert call("train", "exp.yaml")[0] == 0
    code, printed = call("train", "exp.yaml")
    assert code == 2
    assert "folder is read by other rules now: train had 9 samples and has 8 (its data key was " in printed
    assert "--fresh" in printed
    shutil.rmtree(thumbnails)  # from which the first rules read the same
    assert "train had 9 samples and has 8" in call("train", "exp.yaml")[1]
