"""COCO's metrics of detections, beside pycocotools and faster-coco-eval."""

import contextlib
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expflow.data.kinds.boxes import classes_of, is_crowd, is_ignored, label_code
from expflow.report.detection_draws import detection_draws
from expflow.report.image_draws import drawn_interval
from expflow.tasks.average_precision import average_precisions, detection_metrics, match_classes
from expflow.tasks.detections import DetectionArrays, image_quality, join_detections

BORDERS = (20.0**2, 40.0**2)
COLUMNS = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar1", "ar10", "ar")


def drawn(seed, images=12, classes=3, most=8, ignored=0.2, ties=True):
    """Objects, and predictions near some of them; some objects are crowds, and some images have none."""
    random = np.random.default_rng(seed)

    def boxes(n):
        corners = random.uniform(0, 80, (n, 2))
        return np.concatenate([corners, corners + random.uniform(4, 60, (n, 2))], 1).astype(np.float32)

    true_boxes, true_labels = np.zeros((images, most, 4), np.float32), np.full((images, most), -1)
    guesses, scores = np.zeros((images, 3 * most, 4), np.float32), np.zeros((images, 3 * most), np.float32)
    labels = np.full((images, 3 * most), -1)
    for row in range(images):
        n = int(random.integers(0, most + 1))
        true_boxes[row, :n] = boxes(n)
        codes = random.integers(0, classes, n)
        true_labels[row, :n] = [label_code(c, crowd=random.random() < ignored) for c in codes.tolist()]
        near = true_boxes[row, :n].repeat(2, 0) + random.normal(0, 3, (2 * n, 4)).astype(np.float32)
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
        every = np.concatenate([near, boxes(int(random.integers(0, most)))])
        order = np.argsort(-random.random(len(every)))
        m = len(every)
        guesses[row, :m] = every[order]
        scores[row, :m] = np.sort(random.choice(50, m) / 50 + 0.01 if ties else random.random(m))[::-1]
        labels[row, :m] = np.where(
            random.random(m) < 0.8,
            np.concatenate([codes.repeat(2), random.integers(0, classes, m - 2 * n)])[order],
            random.integers(0, classes, m),
        )
    areas = (true_boxes[..., 2:] - true_boxes[..., :2]).prod(-1) * random.uniform(0.5, 1, (images, most))
    arrays = (np.arange(images), guesses, scores, labels, true_boxes, true_labels, areas.astype(np.float32))
    return DetectionArrays(*arrays, np.ones(images, np.float32))


def as_coco(arrays):
    """The same as the dictionaries of COCO's files; ids of truth from 1, since 0 means unmatched there."""

    def row_of(image, box, number):
        x0, y0, x1, y1 = box.astype(float).tolist()
        return {"image_id": int(image), "category_id": int(number) + 1, "bbox": [x0, y0, x1 - x0, y1 - y0]}

    truth, guesses = [], []
    for image in range(len(arrays)):
        for box, code, area in zip(
            arrays.true_boxes[image], arrays.true_labels[image], arrays.true_areas[image], strict=True
        ):
            if code != -1:
                row = row_of(image, box, classes_of(code))
                truth.append(row | {"id": len(truth) + 1, "area": float(area), "iscrowd": int(is_crowd(code))})
        for box, score, label in zip(arrays.boxes[image], arrays.scores[image], arrays.labels[image], strict=True):
            if label >= 0:
                guesses.append(row_of(image, box, label) | {"score": float(score)})
    numbers = {int(n) + 1 for n in {*classes_of(arrays.true_labels).ravel(), *arrays.labels.ravel()} if n >= 0}
    images = [{"id": image} for image in range(len(arrays))]
    return {"images": images, "annotations": truth, "categories": [{"id": n} for n in sorted(numbers)]}, guesses


def theirs(arrays, coco_class, evaluator_class):
    truth, guesses = as_coco(arrays)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = coco_class()
        coco.dataset = truth
        coco.createIndex()
        evaluator = evaluator_class(coco, coco.loadRes(guesses), "bbox")
        (small, large), whole = BORDERS, 1e10
        evaluator.params.areaRng = [[0, whole], [0, small], [small, large], [large, whole]]
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    stats = [float(value) for value in evaluator.stats[:9]]
    return {name: value for name, value in zip(COLUMNS, stats, strict=True) if value > -1}


def oracles():
    from faster_coco_eval import COCO as FasterCOCO
    from faster_coco_eval import COCOeval_faster
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    return {"pycocotools": (COCO, COCOeval), "faster_coco_eval": (FasterCOCO, COCOeval_faster)}


@pytest.mark.parametrize("oracle", ["pycocotools", "faster_coco_eval"])
@pytest.mark.parametrize("seed", range(6))
def test_metrics_are_cocos(oracle, seed):
    arrays = drawn(seed, images=20 + seed, classes=1 + seed % 4)
    expected = theirs(arrays, *oracles()[oracle])
    measured = detection_metrics(arrays, BORDERS)
    assert measured.keys() == expected.keys()
    for name, value in expected.items():
        assert measured[name] == pytest.approx(value, abs=1e-6), name


def test_a_range_of_sizes_without_an_object_is_missing():
    arrays = drawn(3, ignored=0)
    measured = detection_metrics(arrays, (1e6, 2e6))
    assert {"ap_medium", "ap_large"} & measured.keys() == set()
    assert measured["ap_small"] == pytest.approx(measured["ap"])
    nothing = DetectionArrays(
        *[np.asarray(v) for v in (arrays.ids, arrays.boxes, arrays.scores, arrays.labels)],
        arrays.true_boxes,
        np.full_like(arrays.true_labels, -1),
        arrays.true_areas,
        arrays.scales,
    )
    assert detection_metrics(nothing) == {}


def test_predictions_of_a_difficult_object_count_for_nothing_but_only_once():
    def one(code):
        box = np.float32([[[0, 0, 10, 10], [0, 0, 10, 10]]])
        guesses = (np.zeros(1, int), box, np.float32([[0.9, 0.8]]), np.zeros((1, 2), int))
        truth = (np.float32([[[0, 0, 10, 10], [50, 50, 70, 70]]]), np.asarray([[code, 0]]), np.float32([[100, 400]]))
        (matches,) = match_classes(DetectionArrays(*guesses, *truth, np.ones(1)), [(0, np.inf)])
        return matches[0].counted[0].tolist()

    assert one(0) == [True, True]
    assert one(label_code(0, crowd=True)) == [False, False], "any number lies in a crowd"
    assert one(label_code(0, difficult=True)) == [False, True], "the second box around one object is wrong"


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_images_that_are_drawn_twice_count_twice(seed):
    """Of equal scores the order decides, which is another where images stand twice."""
    arrays = drawn(seed, images=6, classes=1, ties=False)
    times = np.random.default_rng(seed).integers(0, 3, 6)
    rows = np.repeat(np.arange(6), times)
    if not len(rows):
        return
    names = [name for name in vars(arrays) if getattr(arrays, name) is not None]
    repeated = DetectionArrays(**{name: getattr(arrays, name)[rows] for name in names})
    (once,), (several,) = (match_classes(some, [(0, np.inf)]) for some in (arrays, repeated))
    weighted = average_precisions(once[0], times.astype(float)) if 0 in once else None
    plain = average_precisions(several[0]) if 0 in several else None
    assert (weighted is None) == (plain is None)
    if plain is not None:
        assert np.allclose(weighted, plain, atol=1e-12)


def test_ranks_are_joined_and_padding_left_out():
    arrays = drawn(1, images=5)
    names = [name for name in vars(arrays) if getattr(arrays, name) is not None]
    parts = []
    for rows, valid in (([0, 2, 4], [True] * 3), ([1, 3, 3], [True, True, False])):
        parts.append({name: getattr(arrays, name)[rows] for name in names} | {"valid": np.asarray(valid)})
    joined = join_detections(parts)
    assert joined.ids.tolist() == [0, 1, 2, 3, 4]
    assert detection_metrics(joined) == detection_metrics(arrays)
    assert join_detections([{}, parts[0]]) is None


def test_the_quality_of_an_image_is_that_of_its_objects():
    arrays = drawn(2, images=1, ignored=0)
    perfect = DetectionArrays(
        arrays.ids,
        arrays.true_boxes,
        np.ones(arrays.true_labels.shape),
        arrays.true_labels,
        arrays.true_boxes,
        arrays.true_labels,
        arrays.true_areas,
        arrays.scales,
    )
    assert image_quality(perfect, 0).quality == pytest.approx(1)
    nothing = DetectionArrays(
        arrays.ids,
        arrays.true_boxes,
        np.zeros(arrays.true_labels.shape),
        arrays.true_labels,
        arrays.true_boxes,
        arrays.true_labels,
        arrays.true_areas,
        arrays.scales,
    )
    assert image_quality(nothing, 0).quality == 0
    assert not is_ignored(arrays.true_labels).any()


def test_the_interval_holds_the_value_and_shrinks_with_more_images():
    few, many = (drawn_interval([detection_draws(drawn(0, images=n), "val/ap50")]) for n in (10, 160))
    for interval in (few, many):
        assert interval.low < interval.mean < interval.high
    assert many.high - many.low < few.high - few.low
    assert few.mean == pytest.approx(detection_metrics(drawn(0, images=10))["ap50"], abs=1e-12)
    assert detection_draws(drawn(0), "val/loss") is None
