"""mAP over several classes from kept scores: that of the metric, with an interval over the choice of images."""

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from expflow.errors import PredictionsDamaged
from expflow.report.image_draws import drawn_interval
from expflow.report.label_draws import label_draws
from expflow.tasks.ranking_precision import average_precision
from expflow.training.evaluation.label_scores import (
    LabelScores,
    class_average_precisions,
    join_label_scores,
    load_label_scores,
    save_label_scores,
)


def scores(n=60, seed=0, classes=4, skill=1.0):
    random = np.random.default_rng(seed)
    labels = (random.random((n, classes)) < 0.3).astype(np.uint8)
    values = (skill * labels + random.normal(size=(n, classes))).round(1).astype(np.float32)  # with ties
    labels[random.random((n, classes)) < 0.05] = 255
    return LabelScores("val", np.arange(n), values, labels)


def interval_of(*kept):
    return drawn_interval([label_draws(network, "val/map") for network in kept])


def test_precision_is_that_of_the_metric_and_of_scikit_learn():
    kept = scores()
    [values] = class_average_precisions(kept)
    expected = average_precision(torch.from_numpy(kept.scores), torch.from_numpy(kept.labels))
    assert values == pytest.approx(expected.numpy(), abs=1e-12)
    for number, value in enumerate(values):
        known = kept.labels[:, number] < 2
        assert value == pytest.approx(average_precision_score(kept.labels[known, number], kept.scores[known, number]))


def test_a_weight_is_how_often_an_image_is_there():
    kept = scores(20)
    counts = np.random.default_rng(1).multinomial(20, np.full(20, 0.05), size=3)
    drawn = class_average_precisions(kept, counts.astype(float))
    for row, times in zip(drawn, counts, strict=True):
        again = np.repeat(np.arange(20), times)
        repeated = LabelScores("val", np.arange(20), kept.scores[again], kept.labels[again])
        assert row == pytest.approx(class_average_precisions(repeated)[0], nan_ok=True)


def test_the_interval_holds_the_mean_and_narrows_with_images():
    few, many = (interval_of(scores(n)) for n in (40, 1000))
    for interval in (few, many):
        assert interval.low < interval.mean < interval.high
    assert few.high - few.low > 2 * (many.high - many.low)
    assert many.mean == pytest.approx(np.nanmean(class_average_precisions(scores(1000))[0]))
    both = interval_of(scores(40), scores(40))
    assert (both.mean, both.low, both.high) == pytest.approx((few.mean, few.low, few.high))


def test_a_class_that_no_image_is_of_is_left_out():
    kept = scores()
    kept.labels[:, 0] = 0
    [values] = class_average_precisions(kept)
    assert np.isnan(values[0])
    assert interval_of(kept).mean == pytest.approx(values[1:].mean())
    kept.labels[:] = 255
    assert label_draws(kept, "val/map") is None


def test_other_images_and_other_metrics_have_no_interval():
    assert interval_of(scores(40), scores(39)) is None
    assert label_draws(scores(), "val/loss") is None
    assert interval_of() is None


def test_a_file_gives_what_was_kept_and_damage_is_found(tmp_path):
    kept = scores()
    save_label_scores(kept, tmp_path / "kept.npz")
    read = load_label_scores(tmp_path / "kept.npz")
    assert (read.split, len(read)) == ("val", 60)
    for name in ("ids", "scores", "labels"):
        assert np.array_equal(getattr(read, name), getattr(kept, name))
    content = bytearray((tmp_path / "kept.npz").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "kept.npz").write_bytes(content)
    with pytest.raises(PredictionsDamaged):
        load_label_scores(tmp_path / "kept.npz")


def test_ranks_are_joined_without_padding():
    whole = scores(5)
    part = {"ids": whole.ids, "scores": whole.scores, "labels": whole.labels}
    first = {name: values[:3] for name, values in part.items()} | {"valid": np.ones(3, bool)}
    second = {name: values[[3, 4, 4]] for name, values in part.items()} | {"valid": np.array([True, True, False])}
    joined = join_label_scores("val", [first, second])
    assert np.array_equal(joined.scores, whole.scores)
    assert join_label_scores("val", [first, {}]) is None
