"""Pictures and tables that a trial writes: whole, noticed once each, and only where they may be written."""

import csv
import hashlib
import io

import numpy as np
import pytest
import torch
from PIL import Image

from expflow.config.spec import UserComponent
from expflow.errors import StaleDriver, StorageUnwritable, UserError
from expflow.ledger.lock import DriverLock
from expflow.training import Artifact, Attempt, Fence, Saved, World, run_trial
from expflow.training.artifacts import ArtifactWriter
from expflow.training.evaluation.confusion import MOST_CLASSES, confusion_counts, write_confusion_table
from expflow.training.evaluation.prediction_recorder import predictions_file
from expflow.training.evaluation.predictions import load_predictions
from tests.training import artifact_code
from tests.training.test_predictions import digits, on_digits, some  # noqa: F401  a fixture
from tests.training.test_run_trial import plain, recipe


def writer(folder, world=None, fence=None):
    notices = []
    return ArtifactWriter(Attempt(recipe(), 0, folder=folder, fence=fence), world, notices.append), notices


def test_each_is_written_and_noticed(tmp_path):
    artifacts, notices = writer(tmp_path)
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    paths = [
        artifacts.write_image("filters", image, step=3),
        artifacts.write_table("counts", "a,b\n1,2\n", step=4),
        artifacts.write_text("note.de", "grün", step=5),
    ]
    assert [str(path.relative_to(tmp_path)) for path in paths] == [
        "artifacts/filters/step-000000003.png",
        "artifacts/counts/step-000000004.csv",
        "artifacts/note.de/step-000000005.txt",
    ]
    assert [(notice.name, notice.kind, notice.step, notice.path) for notice in notices] == [
        ("filters", "image", 3, paths[0]),
        ("counts", "table", 4, paths[1]),
        ("note.de", "text", 5, paths[2]),
    ]
    for notice in notices:
        content = notice.path.read_bytes()
        assert (notice.sha256, notice.size) == (hashlib.sha256(content).hexdigest(), len(content))
    np.testing.assert_array_equal(np.asarray(Image.open(paths[0])), image)
    assert paths[2].read_text(encoding="utf-8") == "grün"


@pytest.mark.parametrize(
    "image", [np.zeros((2, 3), np.uint8), np.zeros((2, 3, 4), np.uint8), torch.zeros(2, 3, 3, dtype=torch.uint8)]
)
def test_grey_coloured_and_transparent_images_are_taken(tmp_path, image):
    artifacts, _ = writer(tmp_path)
    path = artifacts.write_image("a", image, step=0)
    assert np.asarray(Image.open(path)).shape == tuple(image.shape)
    assert artifacts.write_image("b", path.read_bytes(), step=0).read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    "image", [np.zeros((2, 3)), np.zeros((3, 2, 2), np.uint8), np.zeros(3, np.uint8), b"GIF89a", "filters.png", None]
)
def test_what_is_no_image_is_refused_by_name(tmp_path, image):
    artifacts, notices = writer(tmp_path)
    with pytest.raises(UserError, match="the artifact a: "):
        artifacts.write_image("a", image, step=0)
    assert notices == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [None, 3, b"a,b", {"a": 1}])
@pytest.mark.parametrize("kind", ["table", "text"])
def test_what_is_no_text_is_refused_by_name(tmp_path, kind, content):
    artifacts, notices = writer(tmp_path)
    write = {"table": artifacts.write_table, "text": artifacts.write_text}[kind]
    with pytest.raises(UserError, match=f"the artifact a: a {kind} is a string, found "):
        write("a", content, step=0)
    with pytest.raises(UserError, match="an artifact cannot be called 'a/b'"):  # the name is looked at first
        write("a/b", content, step=0)
    assert (notices, list(tmp_path.iterdir())) == ([], [])


@pytest.mark.parametrize("step", [-1, 1.5, float("nan"), None, "3"])
@pytest.mark.parametrize("kept", [True, False])
def test_what_is_no_step_is_refused_by_name(tmp_path, step, kept):
    artifacts, notices = writer(tmp_path if kept else None)
    with pytest.raises(UserError, match="the artifact a: a step is a whole number from 0, found "):
        artifacts.write_text("a", "b", step=step)
    assert (notices, list(tmp_path.iterdir())) == ([], [])


@pytest.mark.parametrize("step", [3, np.int64(3), torch.tensor(3), 3.0])
def test_whole_numbers_of_any_type_are_steps(tmp_path, step):
    artifacts, [] = writer(tmp_path)
    assert artifacts.write_text("a", "b", step=step).name == "step-000000003.txt"


@pytest.mark.parametrize("name", ["", "a/b", "../a", ".hidden", "a b", "ä", "x" * 101])
@pytest.mark.parametrize("folder", [True, False])
def test_a_name_that_is_no_files_name_is_refused_everywhere(tmp_path, name, folder):
    artifacts, _ = writer(tmp_path if folder else None)
    with pytest.raises(UserError, match="an artifact cannot be called"):
        artifacts.write_text(name, "", step=0)


@pytest.mark.parametrize("discards", ["no folder", "another rank", "no trial"])
def test_where_nothing_is_kept_nothing_happens(tmp_path, discards):
    artifacts, notices = {
        "no folder": lambda: writer(None),
        "another rank": lambda: writer(tmp_path, World(rank=1, ranks=2)),
        "no trial": lambda: (ArtifactWriter(), []),
    }[discards]()
    assert artifacts.write_image("a", np.zeros((2, 2), np.uint8), step=0) is None
    assert artifacts.write_text("a", "b", step=0) is None
    assert (notices, list(tmp_path.iterdir())) == ([], [])


def test_a_folder_that_takes_nothing_is_named(tmp_path):
    (tmp_path / "artifacts").write_text("a file in the way")
    artifacts, notices = writer(tmp_path)
    with pytest.raises(StorageUnwritable, match=r"the artifact .*note.*cannot be written"):
        artifacts.write_text("note", "", step=0)
    assert notices == []


def test_an_attempt_of_an_older_driver_writes_nothing(tmp_path):
    older = DriverLock.take(tmp_path)
    older.give_back()
    DriverLock.take(tmp_path)
    artifacts, notices = writer(tmp_path / "trial", fence=Fence(tmp_path, older.epoch))
    with pytest.raises(StaleDriver):
        artifacts.write_text("note", "", step=0)
    assert notices == []
    assert not (tmp_path / "trial").exists()


def notices_of(made, folder, **attempt):
    notices = []
    run_trial(Attempt(made, 0, folder=folder, **attempt), World(), lambda report: True, on_notice=notices.append)
    return notices


def test_modules_and_callbacks_write_by_the_trainer(tmp_path):
    made = plain(2).model_copy(update={"task": UserComponent(name=f"{artifact_code.__name__}:Pictured")})
    written = [notice for notice in notices_of(made, tmp_path) if isinstance(notice, Artifact)]
    assert [(notice.name, notice.step) for notice in written] == [("filters", 4), ("filters", 8), ("note", 8)]
    assert [np.asarray(Image.open(notice.path)).max() for notice in written[:2]] == [0, 1]


def test_a_module_of_the_users_draws_samples_of_the_same_noise_that_training_does_not_see(tmp_path):
    task = f"{artifact_code.__name__}:"
    drawing = plain(2).model_copy(update={"task": UserComponent(name=f"{task}Drawing")})
    samples = [notice for notice in notices_of(drawing, tmp_path / "a") if isinstance(notice, Artifact)]
    assert [(notice.name, notice.kind, notice.step) for notice in samples] == [
        ("samples", "image", 4),
        ("samples", "image", 8),
    ]
    assert samples[0].sha256 == samples[1].sha256
    same = [run_trial(Attempt(made, 0), World(), lambda report: True) for made in (drawing, plain(2))]
    assert same[0].weights == same[1].weights
    telling = plain(2).model_copy(update={"task": UserComponent(name=f"{task}Telling")})
    tables = [notice for notice in notices_of(telling, tmp_path / "b") if isinstance(notice, Artifact)]
    assert [notice.path.read_text() for notice in tables] == ['epoch,text\n0,"a, b"\n', 'epoch,text\n1,"a, b"\n']
    wrong = plain(2).model_copy(update={"task": UserComponent(name=f"{task}Wrong")})
    with pytest.raises(UserError, match="draw_samples gave list; expected a tensor of pictures, an array"):
        notices_of(wrong, tmp_path / "c")


def test_a_classification_leaves_its_confusion_on_val(digits, tmp_path):  # noqa: F811
    notices = notices_of(on_digits(), tmp_path, data_root=digits.root)
    [written] = [notice for notice in notices if isinstance(notice, Artifact)]
    last = [notice.step for notice in notices if isinstance(notice, Saved)][-1]
    assert (written.name, written.kind, written.step) == ("confusion-val", "table", last)
    [header, *rows] = csv.reader(io.StringIO(written.path.read_text(encoding="utf-8")))
    assert header == ["true class", *map(str, range(10))]
    assert [row[0] for row in rows] == header[1:]
    counts = np.asarray([row[1:] for row in rows], int)
    predictions = load_predictions(tmp_path / predictions_file("val"))
    assert counts.sum() == len(predictions)
    assert np.trace(counts) == predictions.hits.sum()
    assert counts.sum(1).tolist() == np.bincount(predictions.labels, minlength=10).tolist()


def test_counts_are_by_true_class_and_leave_out_what_has_none():
    predictions = some(4)
    predictions.labels[:] = [0, 2, -100, 3]
    assert confusion_counts(predictions).tolist() == [[1, 0, 0], [0, 0, 0], [0, 1, 0]]


def test_many_classes_make_no_table(tmp_path):
    for classes, kept in ((MOST_CLASSES, 1), (MOST_CLASSES + 1, 0)):
        artifacts, notices = writer(tmp_path)
        write_confusion_table(some(4, classes), (), artifacts, step=0)
        assert len(notices) == kept


def test_half_of_a_surrogate_pair_is_written_out(tmp_path):
    artifacts, _ = writer(tmp_path)
    assert artifacts.write_text("a", "x\ud800\n", step=0).read_bytes() == b"x\\ud800\n"
    assert artifacts.write_table("b", "a\n\udc80\n", step=0).read_bytes() == b"a\n\\udc80\n"
