"""Predictions on val: kept once per sample, by one rank or two, whole or refused."""

import io

import numpy as np
import pytest

from expflow.architectures.specs.mlp import MLP
from expflow.config.schema import EarlyStopping
from expflow.data.build import prepare
from expflow.data.manifest import read_manifest
from expflow.data.read import read_shard
from expflow.data.specs import Digits
from expflow.errors import PredictionsDamaged, StorageUnwritable
from expflow.training import Attempt, World
from expflow.training.local import run_on_this_machine
from expflow.training.protocol.collecting import file_of
from expflow.training.protocol.predictions import Predictions, joined, read, write
from tests.training.test_run_trial import recipe, train


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return prepare(Digits(name="digits"), cache=tmp_path_factory.mktemp("cache"))


def on_digits(epochs=2, batch_size=100, **trainer):
    data = Digits(name="digits", batch_size=batch_size)
    return recipe(epochs, data=data, model=MLP(name="mlp", hidden=32), trainer=trainer)


def labels_of(digits, split="val"):
    manifest = read_manifest(digits.root)
    samples = [each for shard in manifest.shards(split) for each in read_shard(digits.root, shard, manifest.fields)]
    return [int(members["label"]) for _, members in samples]


def some(n=4, classes=3):
    top = np.asarray([[each % classes, (each + 1) % classes] for each in range(n)])
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
    found, last = read(tmp_path / file_of("val")), reports[-1].metrics
    assert (found.split, found.classes, len(found)) == ("val", 10, digits.spec.samples["val"])
    assert found.ids.tolist() == list(range(len(found)))
    assert found.labels.tolist() == labels_of(digits)
    assert found.hits.mean() == pytest.approx(last["val/top1"], abs=1e-6)
    assert found.hits_among(5).mean() == pytest.approx(last["val/top5"], abs=1e-6)
    assert found.losses.mean() == pytest.approx(last["val/loss"], rel=1e-5)
    assert (np.diff(found.scores, axis=1) <= 0).all()
    hit = found.hits
    np.testing.assert_allclose(-np.log(found.probabilities[hit, 0]), found.losses[hit], atol=1e-4)


def test_no_pass_over_val_is_added(digits, tmp_path, monkeypatch):
    from expflow.data.loader import Loader

    passes, made = [], Loader.__iter__

    def noted(self):
        passes.append(self.split)  # when the first batch is asked for
        yield from made(self)

    monkeypatch.setattr(Loader, "__iter__", noted)
    train(on_digits(epochs=3, validate_every=2), data_root=digits.root, folder=tmp_path)
    assert passes.count("val") == 2  # after epoch 2, and at the end


def test_an_early_end_and_averaged_weights_keep_the_last_validation(digits, tmp_path):
    patient = EarlyStopping(metric="val/loss", patience=0)
    wild = on_digits(epochs=40, early_stopping=patient, ema=0.5)
    outcome, reports = train(wild, data_root=digits.root, folder=tmp_path)
    assert outcome.reason
    assert read(tmp_path / file_of("val")).hits.mean() == pytest.approx(reports[-1].metrics["val/top1"], abs=1e-6)


def test_predictions_that_a_kill_took_are_made_again_from_the_checkpoint(digits, tmp_path):
    _, before = train(on_digits(), data_root=digits.root, folder=tmp_path)
    path = tmp_path / file_of("val")
    kept = read(path)
    path.unlink()
    _, after = train(on_digits(), data_root=digits.root, folder=tmp_path)
    again = read(path)
    np.testing.assert_array_equal(again.scores, kept.scores)
    assert after[-1].metrics["val/loss"] == before[-1].metrics["val/loss"]


def test_two_ranks_keep_each_sample_once_without_padding(digits, tmp_path):
    assert digits.spec.samples["val"] % 2  # so that one rank pads
    attempt = Attempt(on_digits(1), 0, data_root=digits.root, folder=tmp_path)
    reports = []
    run_on_this_machine(
        attempt,
        World(ranks=2),
        lambda report: reports.append(report) or True,
        on_notice=lambda notice: None,
        leave=lambda: False,
    )
    found = read(tmp_path / file_of("val"))
    assert found.ids.tolist() == list(range(digits.spec.samples["val"]))
    assert found.labels.tolist() == labels_of(digits)
    assert found.hits.mean() == pytest.approx(reports[-1].metrics["val/top1"], abs=1e-6)


def test_what_is_written_reads_back_and_takes_little_room(tmp_path):
    predictions = some(1000)
    sha = write(predictions, tmp_path / "p.npz")
    again = read(tmp_path / "p.npz")
    for name in ("ids", "labels", "top", "scores", "totals", "losses"):
        np.testing.assert_array_equal(getattr(again, name), getattr(predictions, name))
        assert getattr(again, name).dtype == getattr(predictions, name).dtype
    assert len(sha) == 64
    assert sha == write(again, tmp_path / "q.npz")
    assert (tmp_path / "p.npz").stat().st_size < 12_000
    assert not list(tmp_path.glob(".*"))


def test_every_damage_is_refused(tmp_path):
    path = tmp_path / "p.npz"
    write(some(), path)
    whole = path.read_bytes()
    assert np.load(path)["top"].tolist() == some().top.tolist()  # a plain archive to others
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        with pytest.raises(PredictionsDamaged, match=r"p\.npz"):
            read(path)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(PredictionsDamaged, match="checksum"):
        read(path)
    with pytest.raises(PredictionsDamaged, match="no predictions"):
        read(tmp_path / "none.npz")


def test_no_pickle_is_read(tmp_path):
    from expflow.training.protocol import predictions

    evil = io.BytesIO()
    np.savez(evil, about=np.asarray({"format": 1}, dtype=object))
    (tmp_path / "evil.npz").write_bytes(evil.getvalue() + predictions._seal(evil.getvalue()))
    with pytest.raises(PredictionsDamaged, match="allow_pickle"):
        read(tmp_path / "evil.npz")


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "p.npz"
    write(some(), path)

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StorageUnwritable, match="No space left"):
        write(some(8), path)
    assert len(read(path)) == 4
    assert not list(tmp_path.glob(".*"))


def test_padding_and_repeats_are_dropped():
    part = {name: getattr(some(), name) for name in ("ids", "labels", "top", "scores", "totals", "losses")}
    left = part | {"valid": np.asarray([True, True, True, False])}
    right = part | {"ids": np.asarray([3, 4, 5, 5]), "valid": np.ones(4, bool)}
    assert joined("val", 3, [left, right]).ids.tolist() == [0, 1, 2, 3, 4, 5]
    assert joined("val", 3, [left, {}]) is None
    assert joined("val", 3, []) is None


def test_more_classes_than_are_kept_cannot_be_asked_for():
    with pytest.raises(ValueError, match="2 classes are kept"):
        some().hits_among(3)


def test_a_users_task_that_returns_no_scores_has_none(tmp_path):
    from tests.training.test_run_trial import plain

    train(plain(), folder=tmp_path)
    assert not (tmp_path / file_of("val")).exists()
