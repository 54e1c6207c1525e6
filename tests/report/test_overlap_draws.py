"""Intervals of mIoU: of the ratio over all pixels, by drawing images anew."""

import numpy as np
import pytest

from expflow.errors import PredictionsDamaged
from expflow.report.image_draws import drawn_interval
from expflow.report.overlap_draws import overlap_draws
from expflow.training.evaluation.overlaps import (
    MaskOverlaps,
    class_ious,
    load_overlaps,
    overlap_metric,
    save_overlaps,
)


def overlaps(count=40, seed=0, classes=3):
    generator = np.random.default_rng(seed)
    true, predicted = (generator.integers(0, 200, (count, classes)) for _ in range(2))
    both = (np.minimum(true, predicted) * generator.random((count, classes))).astype(int)
    return MaskOverlaps("val", np.arange(count), np.stack([both, true, predicted], 1))


def interval_of(*kept, metric="val/miou"):
    return drawn_interval([overlap_draws(network, metric) for network in kept])


def by_resampling(kept, resamples=3000):
    generator, values = np.random.default_rng(7), []
    for _ in range(resamples):
        both, true, predicted = kept.counts[generator.integers(0, len(kept), len(kept))].sum(axis=0)
        values.append((both / (true + predicted - both)).mean())
    return np.quantile(values, [0.025, 0.975])


def test_it_is_the_percentile_interval_of_the_ratio_over_drawn_images():
    kept = overlaps()
    interval = interval_of(kept)
    assert interval.mean == pytest.approx(class_ious(kept.counts.sum(axis=0)).mean())
    assert interval.n == 40
    assert np.array([interval.low, interval.high]) == pytest.approx(by_resampling(kept), abs=0.006)
    assert interval.low < interval.mean < interval.high


def test_several_networks_are_drawn_on_the_same_images_and_others_have_no_interval():
    first, second = overlaps(), overlaps(seed=1)
    both = interval_of(first, second)
    means = [interval_of(one).mean for one in (first, second)]
    assert both.mean == pytest.approx(np.mean(means))
    assert interval_of(first, overlaps(39)) is None
    assert overlap_draws(first, "val/ap50") is None
    assert interval_of() is None
    assert interval_of(overlaps(1), metric="val/pixel_accuracy").low is None


def test_a_class_that_is_nowhere_is_left_out():
    counts = np.array([[5, 0, 1], [10, 0, 2], [5, 0, 1]])
    assert np.isnan(class_ious(counts)).tolist() == [False, True, False]
    assert overlap_metric(counts, "miou") == pytest.approx((0.5 + 0.5) / 2)
    assert overlap_metric(counts, "pixel_accuracy") == pytest.approx(6 / 12)


def test_a_file_comes_back_and_a_damaged_one_is_refused(tmp_path):
    kept, path = overlaps(), tmp_path / "overlaps-val.npz"
    save_overlaps(kept, path)
    back = load_overlaps(path)
    assert (back.split, back.ids.tolist(), back.counts.tolist()) == ("val", kept.ids.tolist(), kept.counts.tolist())
    content = bytearray(path.read_bytes())
    content[40] ^= 1
    path.write_bytes(content)
    with pytest.raises(PredictionsDamaged, match="checksum differs"):
        load_overlaps(path)
