"""For which images an answer about mIoU, AP or mAP holds: metrics that are no means over images (docs/inference.md)."""

import numpy as np
import pytest

from expflow.intervals import t_quantile
from expflow.report import answers
from expflow.report.image_differences import image_test
from expflow.report.prediction_statistics import trials_interval
from expflow.sweep.result_location import ResultLocation
from expflow.tasks.average_precision import detection_metrics
from expflow.tasks.detections import DetectionArrays
from expflow.training.evaluation.kept_detections import detections_file, save_detections
from expflow.training.evaluation.label_scores import (
    LabelScores,
    class_average_precisions,
    label_scores_file,
    save_label_scores,
)
from expflow.training.evaluation.overlaps import MaskOverlaps, overlap_metric, overlaps_file, save_overlaps
from tests.report.states import sweep, trial

IMAGES, SEEDS = 40, 3


def contrast(metric, **changes):
    return {"metric": metric, "of": {"a": 2}, "against": {"a": 1}, "where": {}, "expect": "higher", **changes}


def state(metric, values, **changes):
    """Done trials of the configs ``a`` 1 and 2; values (config, seed)."""
    trials = []
    for a, row in ((1, values[0]), (2, values[1])):
        for seed, value in enumerate(row):
            member = trial({"a": a}, seed, "done", {metric: float(value)})
            member.trial = f"{a:02d}{seed}"
            trials.append(member)
    changes.setdefault("report", {"contrasts": [contrast(metric, margin=None)]})
    return sweep(trials, metric=metric, data={"key": "d", "samples": {"val": IMAGES, "train": 7}}, **changes)


def folders(tmp_path, made):
    """Of each trial its folder, which is there, in the order (config, seed)."""
    location = ResultLocation(tmp_path, made)
    paths = [location.trial_folder(member) for member in made.plan_trials()]
    for path in paths:
        path.mkdir(parents=True, exist_ok=True)
    return paths


def masks(share, seed, hard=0):
    """Two classes in images of 100 pixels: ``share`` of the pixels of class 1 are found; in ``hard`` images none."""
    random = np.random.default_rng(seed)
    true = random.integers(20, 60, IMAGES)
    both = np.minimum(true, np.rint(true * (share + random.normal(0, 0.02, IMAGES)))).astype(int)
    both[:hard] = 0
    right = 100 - true
    counts = np.stack([[right, both], [right, true], [100 - both, both]])
    return MaskOverlaps("val", np.arange(IMAGES), counts.transpose(2, 0, 1))


def miou_sweep(tmp_path, sides):
    """A sweep whose trials keep these overlaps."""
    values = [[float(overlap_metric(kept.counts.sum(axis=0), "miou")) for kept in side] for side in sides]
    made = state("val/miou", values)
    for path, kept in zip(folders(tmp_path, made), [*sides[0], *sides[1]], strict=True):
        save_overlaps(kept, path / overlaps_file("val"))
    return made


def test_a_difference_in_miou_on_most_images_holds_for_others(tmp_path):
    sides = [[masks(share, 10 * seed + (share > 0.7)) for seed in range(SEEDS)] for share in (0.6, 0.8)]
    (answer,) = answers(miou_sweep(tmp_path, sides), tmp_path)
    assert (answer.verdict, answer.holds_for) == ("as_expected", "other_images")
    assert answer.other_images.images == IMAGES
    assert answer.other_images.low < answer.difference.mean < answer.other_images.high
    assert not any("no values per image are kept" in note for note in answer.notes)


def test_a_difference_in_miou_on_few_images_holds_for_these_alone(tmp_path):
    sides = [[masks(0.8, 5, hard) for hard in (4, 4, 4)], [masks(0.8, 5, hard) for hard in (1, 1, 2)]]
    (answer,) = answers(miou_sweep(tmp_path, sides), tmp_path)
    assert (answer.verdict, answer.holds_for) == ("as_expected", "these_images")
    assert answer.p_other_images > 0.05 > answer.p_holm
    assert any("For other images than these 40 it is not resolved" in note for note in answer.notes)


def test_the_spread_over_images_is_that_of_ratios_over_drawn_images(tmp_path):
    sides = [[masks(share, 10 * seed + (share > 0.7)) for seed in range(SEEDS)] for share in (0.6, 0.65)]
    (answer,) = answers(miou_sweep(tmp_path, sides), tmp_path)
    random, drawn = np.random.default_rng(1), []
    for _ in range(2000):
        rows = random.integers(0, IMAGES, IMAGES)
        of = [[overlap_metric(kept.counts[rows].sum(axis=0), "miou") for kept in side] for side in sides]
        drawn.append(np.mean(of[1]) - np.mean(of[0]))
    whole = [[float(overlap_metric(kept.counts.sum(axis=0), "miou")) for kept in side] for side in sides]
    over_seeds = np.var(np.subtract(whole[1], whole[0]), ddof=1) / SEEDS
    over = answer.other_images
    half = t_quantile(0.975, over.freedom) * np.sqrt(over_seeds + np.var(drawn))
    assert (over.high - over.low) / 2 == pytest.approx(half, rel=0.06)


def test_overlaps_of_another_epoch_or_of_other_images_are_not_used(tmp_path):
    sides = [[masks(share, 10 * seed + (share > 0.7)) for seed in range(SEEDS)] for share in (0.6, 0.8)]
    made = miou_sweep(tmp_path, sides)
    path = folders(tmp_path, made)[0] / overlaps_file("val")
    save_overlaps(masks(0.5, 3), path)
    assert answers(made, tmp_path)[0].p_other_images is None
    save_overlaps(MaskOverlaps("val", np.arange(IMAGES) + 1, sides[0][0].counts), path)
    assert answers(made, tmp_path)[0].p_other_images is None
    save_overlaps(sides[0][0], path)
    assert answers(made, tmp_path)[0].p_other_images is not None
    path.unlink()
    assert answers(made, tmp_path)[0].p_other_images is None


def boxes(share, seed):
    """One object in each image, small in every other one; a share of them is found, beside as many wrong boxes."""
    random = np.random.default_rng(seed)
    true = np.tile(np.asarray([[10.0, 10.0, 20.0, 20.0]]), (IMAGES, 1))
    true[::2, 2:] = 50.0
    hit = random.random(IMAGES) < share
    guess = np.stack([np.where(hit[:, None], true, true + 60), true + 100], 1)
    scores = np.stack([random.uniform(0.6, 1, IMAGES), random.uniform(0.1, 0.7, IMAGES)], 1)
    areas = ((true[:, 2] - true[:, 0]) * (true[:, 3] - true[:, 1]))[:, None]
    return DetectionArrays(
        np.arange(IMAGES),
        guess,
        scores,
        np.zeros((IMAGES, 2), np.int64),
        true[:, None],
        np.zeros((IMAGES, 1), np.int64),
        areas,
        np.ones(IMAGES),
    )


@pytest.mark.parametrize("metric", ["val/ap", "val/ap50", "val/ap_small"])
def test_ap_is_ranked_again_over_drawn_images(tmp_path, metric):
    sides = [[boxes(share, 10 * seed + (share > 0.5)) for seed in range(SEEDS)] for share in (0.3, 0.9)]
    borders = (400.0, 5000.0)
    name = metric.removeprefix("val/")
    values = [[detection_metrics(kept, borders)[name] for kept in side] for side in sides]
    made = state(metric, values, recipe={"task": {"name": "detection", "areas": list(borders)}})
    for path, kept in zip(folders(tmp_path, made), [*sides[0], *sides[1]], strict=True):
        save_detections(kept, "val", path / detections_file("val"))
    (answer,) = answers(made, tmp_path)
    assert (answer.verdict, answer.holds_for) == ("as_expected", "other_images")
    over = answer.other_images
    assert over.low < answer.difference.mean < over.high
    of_config = made.plan_trials()[:SEEDS]
    alone, both = (trials_interval(tmp_path, made, of_config, metric, both=both) for both in (False, True))
    assert alone.mean == pytest.approx(np.mean(values[0]))
    assert both.low < alone.low < alone.mean < alone.high < both.high


def test_map_of_labels_is_ranked_again_over_drawn_images(tmp_path):
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, (IMAGES, 3)).astype(np.uint8)

    def scores(noise):
        return LabelScores(
            "val", np.arange(IMAGES), (labels + random.normal(0, noise, labels.shape)).astype(np.float32), labels
        )

    sides = [[scores(noise) for _ in range(SEEDS)] for noise in (3.0, 0.4)]
    made = state("val/map", [[np.nanmean(class_average_precisions(kept)[0]) for kept in side] for side in sides])
    for path, kept in zip(folders(tmp_path, made), [*sides[0], *sides[1]], strict=True):
        save_label_scores(kept, path / label_scores_file("val"))
    (answer,) = answers(made, tmp_path)
    assert (answer.verdict, answer.holds_for) == ("as_expected", "other_images")


def test_of_a_mean_over_images_it_is_the_test_of_means(tmp_path):
    """Where all images have as many pixels, pixel accuracy is a mean over images: both ways give the same."""
    sides = [[masks(share, 10 * seed + (share > 0.7)) for seed in range(SEEDS)] for share in (0.6, 0.65)]
    values = [[overlap_metric(kept.counts.sum(axis=0), "pixel_accuracy") for kept in side] for side in sides]
    made = state("val/pixel_accuracy", values)
    for path, kept in zip(folders(tmp_path, made), [*sides[0], *sides[1]], strict=True):
        save_overlaps(kept, path / overlaps_file("val"))
    over = answers(made, tmp_path)[0].other_images
    per_image = [[overlap_metric(kept.counts, "pixel_accuracy") for kept in side] for side in sides]
    by_means = image_test(np.subtract(per_image[1], per_image[0]))
    assert over.low == pytest.approx(by_means.low, rel=0.05)
    assert over.high == pytest.approx(by_means.high, rel=0.05)
    assert over.freedom == pytest.approx(by_means.freedom, rel=0.15)
