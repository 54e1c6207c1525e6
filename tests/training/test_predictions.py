"""Predictions on val: kept once per sample, by one rank or two, whole or refused."""

import io

import numpy as np
import pytest

from expflow.architectures.specs.mlp import MLPSpec
from expflow.config.schema import EarlyStopping
from expflow.data.prepare.build import prepare
from expflow.data.shards.manifest import read_manifest
from expflow.data.specs import DigitsSpec
from expflow.errors import PredictionsDamaged, StorageUnwritable
from expflow.training import Attempt, World
from expflow.training.evaluation.prediction_recorder import predictions_file
from expflow.training.evaluation.predictions import Predictions, join_predictions, load_predictions, save_predictions
from tests.data.shards.contents import shard_samples
from tests.rank_forks import run_forked_ranks
from tests.training.test_run_trial import recipe, train


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return prepare(DigitsSpec(name="digits"), cache=tmp_path_factory.mktemp("cache"))


def on_digits(epochs=2, batch_size=100, **trainer):
    data = DigitsSpec(name="digits", batch_size=batch_size)
    return recipe(epochs, data=data, model=MLPSpec(name="mlp", hidden=32), trainer=trainer)


def labels_of(digits, split="val"):
    manifest = read_manifest(digits.root)
    samples = [
        sample for shard in manifest.shards(split) for sample in shard_samples(digits.root, shard, manifest.fields)
    ]
    return [int(members["label"]) for _, members in samples]


def some(n=4, classes=3):
    top = np.asarray([[row % classes, (row + 1) % classes] for row in range(n)])
    scores = np.tile(np.asarray([[2.0, 1.0]], np.float32), (n, 1))
    return Predictions(
        "val",
        classes,
        np.arange(n),
        top[:, 0].copy(),
        top,
        scores,
        np.full(n, 2.5, np.float32),
        np.zeros(n, np.float32),
    )


def test_a_trial_keeps_what_its_last_report_was_measured_on(digits, tmp_path):
    _, reports = train(on_digits(), data_root=digits.root, folder=tmp_path)
    predictions, last = load_predictions(tmp_path / predictions_file("val")), reports[-1].metrics
    assert (predictions.split, predictions.classes, len(predictions)) == ("val", 10, digits.spec.samples["val"])
    assert predictions.ids.tolist() == list(range(len(predictions)))
    assert predictions.labels.tolist() == labels_of(digits)
    assert predictions.hits.mean() == pytest.approx(last["val/top1"], abs=1e-6)
    assert predictions.hits_among(5).mean() == pytest.approx(last["val/top5"], abs=1e-6)
    assert predictions.losses.mean() == pytest.approx(last["val/loss"], rel=1e-5)
    assert (np.diff(predictions.scores, axis=1) <= 0).all()
    hit = predictions.hits
    np.testing.assert_allclose(-np.log(predictions.probabilities[hit, 0]), predictions.losses[hit], atol=1e-4)


def test_no_pass_over_val_is_added(digits, tmp_path, monkeypatch):
    from expflow.data.streaming.loader import Loader

    passes, made = [], Loader.__iter__

    def noted(self):
        passes.append(self.config.split)  # when the first batch is asked for
        yield from made(self)

    monkeypatch.setattr(Loader, "__iter__", noted)
    train(on_digits(epochs=3, validate_every=2), data_root=digits.root, folder=tmp_path)
    assert passes.count("val") == 2  # after epoch 2, and at the end


def test_an_early_end_and_averaged_weights_keep_the_last_validation(digits, tmp_path):
    patient = EarlyStopping(metric="val/loss", patience=0)
    wild = on_digits(epochs=40, early_stopping=patient, ema=0.5)
    outcome, reports = train(wild, data_root=digits.root, folder=tmp_path)
    assert outcome.reason
    assert load_predictions(tmp_path / predictions_file("val")).hits.mean() == pytest.approx(
        reports[-1].metrics["val/top1"], abs=1e-6
    )


def test_predictions_that_a_kill_took_are_made_again_from_the_checkpoint(digits, tmp_path):
    _, before = train(on_digits(), data_root=digits.root, folder=tmp_path)
    path = tmp_path / predictions_file("val")
    kept = load_predictions(path)
    path.unlink()
    _, after = train(on_digits(), data_root=digits.root, folder=tmp_path)
    again = load_predictions(path)
    np.testing.assert_array_equal(again.scores, kept.scores)
    assert after[-1].metrics["val/loss"] == before[-1].metrics["val/loss"]


@pytest.mark.usefixtures("rank_forks")
def test_two_ranks_keep_each_sample_once_without_padding(digits, tmp_path):
    assert digits.spec.samples["val"] % 2  # so that one rank pads
    attempt = Attempt(on_digits(1), 0, data_root=digits.root, folder=tmp_path)
    reports = []
    run_forked_ranks(
        attempt,
        World(ranks=2),
        lambda report: reports.append(report) or True,
        on_notice=lambda notice: None,
        leave=lambda: False,
    )
    predictions = load_predictions(tmp_path / predictions_file("val"))
    assert predictions.ids.tolist() == list(range(digits.spec.samples["val"]))
    assert predictions.labels.tolist() == labels_of(digits)
    assert predictions.hits.mean() == pytest.approx(reports[-1].metrics["val/top1"], abs=1e-6)


def test_what_is_written_reads_back_and_takes_little_room(tmp_path):
    predictions = some(1000)
    sha = save_predictions(predictions, tmp_path / "p.npz")
    again = load_predictions(tmp_path / "p.npz")
    for name in ("ids", "labels", "top", "scores", "totals", "losses"):
        np.testing.assert_array_equal(getattr(again, name), getattr(predictions, name))
        assert getattr(again, name).dtype == getattr(predictions, name).dtype
    assert len(sha) == 64
    assert sha == save_predictions(again, tmp_path / "q.npz")
    assert (tmp_path / "p.npz").stat().st_size < 12_000
    assert not list(tmp_path.glob(".*"))


def test_every_damage_is_refused(tmp_path):
    path = tmp_path / "p.npz"
    save_predictions(some(), path)
    whole = path.read_bytes()
    assert np.load(path)["top"].tolist() == some().top.tolist()  # a plain archive to others
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        with pytest.raises(PredictionsDamaged, match=r"p\.npz"):
            load_predictions(path)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PredictionsDamaged, match="checksum"):
        load_predictions(path)
    with pytest.raises(PredictionsDamaged, match="no predictions"):
        load_predictions(tmp_path / "none.npz")


def test_no_pickle_is_read(tmp_path):
    from expflow.training.evaluation import sealed_arrays

    evil = io.BytesIO()
    np.savez(evil, about=np.asarray({"format": 1}, dtype=object))
    (tmp_path / "evil.npz").write_bytes(evil.getvalue() + sealed_arrays._seal(evil.getvalue()))
    with pytest.raises(PredictionsDamaged, match="allow_pickle"):
        load_predictions(tmp_path / "evil.npz")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"labels": np.zeros(9_000_000, np.int64), "extra": np.zeros(30_000_000)}, "would unpack to"),
        ({"labels": np.zeros(3, np.int64)}, "do not fit together"),
        ({"top": np.zeros(4, np.int64)}, "holds no predictions"),
        ({"about": np.asarray("[" * 100_000)}, "holds no predictions"),
        ({"about": np.asarray('{"format": "1"}')}, "holds no predictions"),
    ],
)
def test_what_only_looks_like_predictions_is_refused(tmp_path, change, reason):
    """Its checksum fits: anybody can compute one."""
    from expflow.training.evaluation import sealed_arrays

    arrays = {name: getattr(some(), name) for name in ("ids", "labels", "top", "scores", "totals", "losses")}
    odd = io.BytesIO()
    about = np.asarray('{"format": 1, "split": "val", "classes": 3}')
    np.savez_compressed(odd, **({"about": about} | arrays | change))
    (tmp_path / "p.npz").write_bytes(odd.getvalue() + sealed_arrays._seal(odd.getvalue()))
    with pytest.raises(PredictionsDamaged, match=reason):
        load_predictions(tmp_path / "p.npz")


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "p.npz"
    save_predictions(some(), path)

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StorageUnwritable, match="No space left"):
        save_predictions(some(8), path)
    assert len(load_predictions(path)) == 4
    assert not list(tmp_path.glob(".*"))


def test_padding_and_repeats_are_dropped():
    part = {name: getattr(some(), name) for name in ("ids", "labels", "top", "scores", "totals", "losses")}
    left = part | {"valid": np.asarray([True, True, True, False])}
    repeated = {name: array[[0, 1, 2, 2]] for name, array in part.items()}
    right = repeated | {"ids": np.asarray([3, 4, 5, 5]), "valid": np.ones(4, bool)}
    assert join_predictions("val", 3, [left, right]).ids.tolist() == [0, 1, 2, 3, 4, 5]
    assert join_predictions("val", 3, [left, {}]) is None
    assert join_predictions("val", 3, []) is None


def test_more_classes_than_are_kept_cannot_be_asked_for():
    with pytest.raises(ValueError, match="2 classes are kept"):
        some().hits_among(3)


def test_a_users_task_that_returns_no_scores_has_none(tmp_path):
    from tests.training.test_run_trial import plain

    train(plain(), folder=tmp_path)
    assert not (tmp_path / predictions_file("val")).exists()
