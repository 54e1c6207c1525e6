"""COCO's metrics of keypoints, beside pycocotools and faster-coco-eval."""

import contextlib
import io

import numpy as np
import pytest
import torch
from PIL import Image

from expflow.data.keypoint_layout import PERSON, KeypointLayout
from expflow.data.kinds.boxes import classes_of, is_crowd, label_code
from expflow.data.kinds.keypoints import point_colours
from expflow.errors import UserError
from expflow.report.detection_draws import DetectionSettings, detection_draws
from expflow.report.detection_figure import detection_figure, select_detections
from expflow.report.image_draws import drawn_interval
from expflow.tasks.average_precision import keypoint_metrics
from expflow.tasks.detections import DetectionArrays, join_detections
from expflow.tasks.keypoint_similarity import PERSON_SIGMAS, USUAL_SIGMA, keypoint_similarities, sigmas_of

COLUMNS = {0: "ap", 1: "ap50", 2: "ap75", 5: "ar"}


def drawn(seed, images=12, classes=2, most=5, points=17, scale=1.0, sigmas=PERSON_SIGMAS):
    """Objects with points, some unknown, some crowds; predictions near some of them, more than count in some images."""
    random = np.random.default_rng(seed)
    guesses = 6 * most
    true_labels, labels = np.full((images, most), -1), np.full((images, guesses), -1)
    true_boxes, boxes = np.zeros((images, most, 4), np.float32), np.zeros((images, guesses, 4), np.float32)
    true_points = np.zeros((images, most, points, 3), np.float32)
    predicted, scores = np.zeros((images, guesses, points, 3), np.float32), np.zeros((images, guesses), np.float32)
    for row in range(images):
        n = int(random.integers(0, most + 1))
        corners = random.uniform(0, 80, (n, 2))
        true_boxes[row, :n] = np.concatenate([corners, corners + random.uniform(10, 60, (n, 2))], 1)
        codes = random.integers(0, classes, n)
        true_labels[row, :n] = [label_code(c, crowd=random.random() < 0.15) for c in codes.tolist()]
        sides = true_boxes[row, :n, 2:] - true_boxes[row, :n, :2]
        places = corners[:, None] + random.uniform(0, 1, (n, points, 2)) * sides[:, None]
        known = random.integers(0, 3, (n, points, 1)) * (random.random((n, 1, 1)) < 0.8)  # of some nothing is known
        true_points[row, :n] = np.where(known > 0, np.concatenate([places, known], -1), 0)
        near = np.repeat(places, 5, 0) + random.normal(0, 1, (5 * n, points, 2)) * random.uniform(0, 8, (5 * n, 1, 1))
        every = np.concatenate([near, random.uniform(0, 140, (int(random.integers(0, most + 1)), points, 2))])
        m = len(every)
        predicted[row, :m] = np.concatenate([every, np.ones((m, points, 1))], -1)
        boxes[row, :m] = np.concatenate([every.min(1), every.max(1)], 1)
        scores[row, :m] = np.sort(random.random(m))[::-1]
        labels[row, :m] = random.integers(0, classes, m)
    areas = ((true_boxes[..., 2:] - true_boxes[..., :2]).prod(-1) * scale**2 * 0.7).astype(np.float32)
    scales = np.full(images, scale, np.float32)
    tensors = [*map(torch.tensor, (predicted, true_points, true_boxes, areas, scales))]
    near = np.stack([keypoint_similarities(*row, sigmas).numpy() for row in zip(*tensors, strict=True)])
    return DetectionArrays(
        np.arange(images), boxes, scores, labels, true_boxes, true_labels, areas, scales,
        points=predicted, true_points=true_points, point_similarities=near,
    )  # fmt: skip


def as_coco(arrays):
    """The same as the dictionaries of COCO's files, in pixels of the original images."""
    truth, guesses = [], []
    for image in range(len(arrays)):
        scale = float(arrays.scales[image])

        def row_of(points, label, image=image, scale=scale):
            numbers = (points.astype(float) * [scale, scale, 1]).ravel().tolist()
            return {"image_id": image, "category_id": int(label) + 1, "keypoints": numbers}

        columns = (arrays.true_boxes, arrays.true_labels, arrays.true_areas, arrays.true_points)
        for box, code, area, points in zip(*(column[image] for column in columns), strict=True):
            if code != -1:
                x0, y0, x1, y1 = (box.astype(float) * scale).tolist()
                row = row_of(points, classes_of(code)) | {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": float(area)}
                row |= {"num_keypoints": int((points[:, 2] > 0).sum()), "iscrowd": int(is_crowd(code))}
                truth.append(row | {"id": len(truth) + 1})
        for points, score, label in zip(arrays.points[image], arrays.scores[image], arrays.labels[image], strict=True):
            if label >= 0:
                guesses.append(row_of(points, label) | {"score": float(score)})
    numbers = {int(n) + 1 for n in {*classes_of(arrays.true_labels).ravel(), *arrays.labels.ravel()} if n >= 0}
    images = [{"id": image} for image in range(len(arrays))]
    return {"images": images, "annotations": truth, "categories": [{"id": n} for n in sorted(numbers)]}, guesses


def theirs(arrays, coco_class, evaluator_class, sigmas):
    truth, guesses = as_coco(arrays)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = coco_class()
        coco.dataset = truth
        coco.createIndex()
        evaluator = evaluator_class(coco, coco.loadRes(guesses), "keypoints")
        evaluator.params.kpt_oks_sigmas = np.asarray(sigmas)
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return {name: float(evaluator.stats[place]) for place, name in COLUMNS.items() if evaluator.stats[place] > -1}


def oracle_of(name):
    if name == "pycocotools":
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

        return COCO, COCOeval
    from faster_coco_eval import COCO as FasterCOCO
    from faster_coco_eval import COCOeval_faster

    return FasterCOCO, COCOeval_faster


@pytest.mark.parametrize("oracle", ["pycocotools", "faster_coco_eval"])
@pytest.mark.parametrize(
    ("seed", "keys"), [(0, {}), (1, {"classes": 1}), (2, {"scale": 2.5}), (3, {"points": 4, "sigmas": (0.05,) * 4})]
)
def test_metrics_are_cocos(oracle, seed, keys):
    arrays = drawn(seed, images=25, **keys)
    expected = theirs(arrays, *oracle_of(oracle), keys.get("sigmas", PERSON_SIGMAS))
    assert 0.02 < expected["ap"] < 0.9
    measured = keypoint_metrics(arrays)
    assert measured.keys() == expected.keys()
    for name, value in expected.items():
        assert measured[name] == pytest.approx(value, abs=1e-6), name


def test_the_sigmas_of_people_are_pycocotools():
    from pycocotools.cocoeval import Params

    assert np.allclose(Params("keypoints").kpt_oks_sigmas, PERSON_SIGMAS)
    assert sigmas_of(KeypointLayout(PERSON), ()) == PERSON_SIGMAS
    others = KeypointLayout(("head", "tail"))
    assert sigmas_of(others, ()) == (USUAL_SIGMA,) * 2
    assert sigmas_of(others, [0.1]) == (0.1, 0.1)
    assert sigmas_of(others, [0.1, 0.2]) == (0.1, 0.2)
    with pytest.raises(UserError, match=r"one for each of the 2 \(head, tail\), found 3"):
        sigmas_of(others, [0.1] * 3)


def test_a_point_that_is_off_by_its_sigma_is_worth_what_the_formula_says():
    """exp(-d^2 / (2 area (2 sigma)^2)), from the mean over the known points."""
    true = torch.tensor([[[10.0, 10, 2], [0, 0, 0], [20, 20, 1]]])
    guess = torch.tensor([[[13.0, 14], [99, 99], [20, 20]]])
    (value,) = keypoint_similarities(
        guess, true, torch.tensor([[0.0, 0, 30, 30]]), torch.tensor([900.0]), torch.tensor(1.0), [0.1, 0.1, 0.2]
    )[0].tolist()
    assert value == pytest.approx((np.exp(-25 / (2 * 900 * 0.2**2)) + 1) / 2, abs=1e-6)


def test_without_a_known_point_there_is_no_metric():
    arrays = drawn(0)
    unknown = {**vars(arrays), "true_points": np.zeros_like(arrays.true_points)}
    assert keypoint_metrics(DetectionArrays(**unknown)) == {}


def test_an_interval_of_the_ap_of_points_holds_the_value():
    arrays, settings = drawn(4, images=60), DetectionSettings(max_detections=15)
    draws = detection_draws(arrays, "val/keypoint_ap50", settings)
    interval = drawn_interval([draws])
    assert interval.low < interval.mean < interval.high
    assert interval.mean == pytest.approx(keypoint_metrics(arrays, 15)["ap50"], abs=1e-12)
    boxes_alone = {**vars(arrays), "points": None, "true_points": None, "point_similarities": None}
    assert detection_draws(DetectionArrays(**boxes_alone), "val/keypoint_ap") is None


def test_ranks_are_joined_with_their_points():
    arrays = drawn(1, images=5)
    names = [name for name in vars(arrays) if getattr(arrays, name) is not None]
    parts = []
    for rows, valid in (([0, 2, 4], [True] * 3), ([1, 3, 3], [True, True, False])):
        parts.append({name: getattr(arrays, name)[rows] for name in names} | {"valid": np.asarray(valid)})
    assert keypoint_metrics(join_detections(parts)) == keypoint_metrics(arrays)


def test_the_figure_of_best_and_worst_shows_points_and_names_them():
    arrays, layout = drawn(0, images=4, points=3, sigmas=(0.1,) * 3), KeypointLayout(("head", "tail", "fin"), ((0, 1),))
    images = {image: np.full((80, 80, 3), 255, np.uint8) for image in range(4)}
    cases = select_detections(arrays)
    plain, pointed = (
        detection_figure(arrays, cases, images, ("fish", "bird"), "val", "s0", known) for known in (None, layout)
    )
    assert "hollow where they are hidden" in pointed.caption
    assert "hollow" not in plain.caption
    colours = [
        set(map(tuple, np.asarray(Image.open(io.BytesIO(f.png)).convert("RGB")).reshape(-1, 3)))
        for f in (plain, pointed)
    ]
    of_points = set(point_colours(3, 2))
    assert of_points <= colours[1]
    assert not of_points & colours[0]
