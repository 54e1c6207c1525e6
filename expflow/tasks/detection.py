"""Detection: which objects are in each image, and where."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from expflow.data.dataspec import DataSpec
from expflow.data.kinds.boxes import NO_BOX
from expflow.data.kinds.point_rows import SEEN
from expflow.errors import UserError, nearest
from expflow.optim import OptimizerFactory, ScheduleFactory
from expflow.tasks.average_precision import detection_metrics, keypoint_metrics
from expflow.tasks.base import Batch, ImageTask, check_one_of_each, own_loss
from expflow.tasks.detections import join_detections
from expflow.tasks.keypoint_similarity import keypoint_similarities, sigmas_of
from expflow.tasks.mask_overlaps import instance_ious
from expflow.tasks.prediction_pictures import SHOWN_SCORE, box_picture
from expflow.tasks.samples import FirstSamples
from expflow.tasks.specs import DetectionSpec

IMAGE, BOXES, LABELS, INSTANCES, POINTS = "image", "boxes", "box_label", "instances", "keypoints"
NEEDED = (IMAGE, BOXES, LABELS, "box_area", "box_scale")


class Detection(ImageTask):
    """Trains a network to find objects; measures COCO's average precision and recall over the whole split.

    Batches have ``boxes`` (b, k, 4) in pixels, ``box_label`` (b, k), ``box_area`` (b, k), ``box_scale`` (b,), and
    ``instances`` (b, h, w) where there are masks and ``keypoints`` (b, k, p, 3) where objects have points; rows with a
    label below 0 are no objects that one learns from.

    In train mode the network is called with images (b, c, h, w) and, for each image, a mapping of ``boxes`` (m, 4),
    ``labels`` (m,) from 0 and perhaps ``masks`` (m, h, w) or ``keypoints`` (m, p, 3), and gives its losses by name,
    means over images. In eval mode it is called with images alone, and gives for each a mapping of ``boxes``,
    ``scores``, ``labels`` and perhaps ``masks`` (m, 1, h, w) from 0 to 1 or ``keypoints`` (m, p, 2 or 3).

    Args:
        data_spec: The images and classes.
        model: The network.
        optimizer: Factory of the optimizer.
        schedule: Factory of the schedule.
        spec: Weights of the losses, borders of sizes, and how many predictions count.
    """

    def __init__(
        self,
        data_spec: DataSpec,
        model: nn.Module,
        optimizer: OptimizerFactory,
        schedule: ScheduleFactory,
        spec: DetectionSpec,
    ) -> None:
        super().__init__(data_spec, model, own_loss, optimizer, schedule, spec.penalty, spec.penalty_strength)
        self._spec = spec
        self._masks = bool(data_spec.of_kind("instances"))
        self._parts: tuple[str, ...] = ()
        self._predicted: list[dict[str, Tensor]] = []
        self._names = data_spec.classes
        self._points = data_spec.points
        self._sigmas = () if self._points is None else sigmas_of(self._points, spec.keypoint_sigmas)
        further = [*([INSTANCES] if self._masks else []), *([POINTS] if self._points else [])]
        self._first = FirstSamples(spec.samples, IMAGE, BOXES, LABELS, *further)

    def _targets(self, batch: Batch, rows: Sequence[int]) -> list[dict[str, Tensor]]:
        """What the network is to find in each of these images; boxes without area are left out."""
        targets = []
        for row in rows:
            boxes, labels = batch[BOXES][row], batch[LABELS][row]
            kept = (labels >= 0) & (boxes[:, 2:] > boxes[:, :2]).all(1)
            target = {"boxes": boxes[kept], "labels": labels[kept]}
            if self._masks:
                numbers = 1 + kept.nonzero().squeeze(1)
                target["masks"] = (batch[INSTANCES][row][None] == numbers[:, None, None]).to(torch.uint8)
            if self._points:
                target[POINTS] = batch[POINTS][row][kept]
            targets.append(target)
        return targets

    def training_loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The weighted sum of the network's losses (), and how many images count ().

        Raises:
            UserError: The network gives no losses, or has none of a name that is weighted.
        """
        valid = batch["valid"]
        rows = valid.nonzero().squeeze(1).tolist()
        number = valid.sum()
        used = rows or [0]  # a rank whose images are all padding takes part with a loss of weight 0
        given = self.model(self._normalised(batch[IMAGE][used]), self._targets(batch, used))
        if not isinstance(given, Mapping) or not given or not all(isinstance(v, Tensor) for v in given.values()):
            raise UserError(
                f"the network gives a {type(given).__name__} in train mode; a detector gives its losses by name, as"
                " {loss_class: …, loss_box: …}"
            )
        weights = self._weights(tuple(given))
        total = sum(weight * part for weight, part in zip(weights, given.values(), strict=True)) * bool(rows)
        parts = torch.stack([part.detach().float() for part in given.values()])
        self._parts = tuple(given)
        self._epoch_means.add(number, total.detach().float(), parts * number)
        return total, number

    def _weights(self, names: tuple[str, ...]) -> list[float]:
        chosen = self._spec.loss_weights
        for name in chosen:
            if name not in names:
                close = nearest(name, names)
                hint = f"nearest: {close}" if close else f"it has {', '.join(names)}"
                raise UserError(f"task.loss_weights: the network has no loss {name!r}; {hint}")
        return [chosen.get(name, 1.0) for name in names]

    def _normalised(self, image_bchw: Tensor) -> Tensor:
        return (image_bchw - self._mean) / self._std

    def measured(self, sums: Tensor) -> Mapping[str, Tensor]:
        """``loss``, the weighted sum, and each of the network's losses."""
        parts = dict(zip(self._parts, sums[2:] / sums[0], strict=True))
        return {"loss": sums[1] / sums[0], **parts}

    def epoch_state(self) -> dict[str, Any]:
        """The training means of the epoch so far, for a checkpoint within it."""
        return {**super().epoch_state(), "parts": list(self._parts)}

    def load_epoch_state(self, state: dict[str, Any]) -> None:
        """Takes the means of an epoch up again.

        Args:
            state: What :meth:`epoch_state` returned.
        """
        self._parts = tuple(state.get("parts", ()))
        super().load_epoch_state({key: value for key, value in state.items() if key != "parts"})

    def on_validation_start(self) -> None:
        """Sets the training means aside, and begins to gather predictions."""
        super().on_validation_start()
        self._predicted = []

    def validation_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Keeps what is predicted in the batch's images beside what is there.

        Returns:
            The arrays of :class:`~expflow.tasks.detections.DetectionArrays` but for ``ids``, as tensors (b, …).

        Raises:
            UserError: The network gives no boxes.
        """
        self._first.follow(batch, batch_idx)
        given = self(batch[IMAGE])
        arrays = self._as_arrays(given, batch)
        ids = batch.get("index")
        if ids is None:
            ids = torch.arange(len(batch[IMAGE])) + sum(len(part["ids"]) for part in self._predicted)
        self._predicted.append({**arrays, "ids": ids, "valid": batch["valid"]})
        return arrays

    def _as_arrays(self, given: Any, batch: Batch) -> dict[str, Tensor]:
        """Predictions of a batch, the surest first, padded to one number."""
        _check_predictions(given, len(batch[IMAGE]))
        most, boxes = self._spec.max_detections, batch[BOXES]
        n, k = boxes.shape[:2]
        arrays = {
            "boxes": boxes.new_zeros(n, most, 4),
            "scores": boxes.new_zeros(n, most),
            "labels": torch.full((n, most), -1, device=boxes.device),
            "true_boxes": boxes,
            "true_labels": batch[LABELS],
            "true_areas": batch["box_area"],
            "scales": batch["box_scale"],
        }
        if self._points and POINTS in given[0]:
            arrays |= self._point_arrays(given, batch)
        if self._masks and "masks" in given[0]:
            arrays |= {"mask_ious": boxes.new_zeros(n, most, k), "mask_areas": boxes.new_zeros(n, most)}
        for row, image in enumerate(given):
            order = _surest(image, most)
            for name in ("boxes", "scores", "labels"):
                arrays[name][row, : len(order)] = image[name][order].to(arrays[name].dtype)
            if "mask_ious" in arrays:
                masks = (image["masks"][order] >= 0.5).flatten(1)
                ious, areas = instance_ious(masks, batch[INSTANCES][row].flatten(), batch[LABELS][row])
                arrays["mask_ious"][row, : len(order)], arrays["mask_areas"][row, : len(order)] = ious, areas
        return arrays

    def _point_arrays(self, given: Any, batch: Batch) -> dict[str, Tensor]:
        """Points of the predictions of a batch, in the same order, and how near they are to the true ones."""
        true, most, names = batch[POINTS], self._spec.max_detections, len(self._sigmas)
        n, k = true.shape[:2]
        arrays = {
            "points": true.new_zeros(n, most, names, 3),
            "true_points": true,
            "point_similarities": true.new_zeros(n, most, k),
        }
        for row, image in enumerate(given):
            points = image[POINTS][_surest(image, most)].to(true.dtype)
            if points.shape[1:] not in ((names, 2), (names, 3)):
                raise UserError(
                    f"the network gives keypoints of shape {tuple(points.shape)}; expected (m, {names}, 2 or 3) for m"
                    f" boxes of these data, whose objects have {names} points"
                )
            arrays["points"][row, : len(points), :, :2] = points[..., :2]
            arrays["points"][row, : len(points), :, 2] = SEEN
            arrays["point_similarities"][row, : len(points)] = keypoint_similarities(
                points, true[row], batch[BOXES][row], batch["box_area"][row], batch["box_scale"][row], self._sigmas
            )
        return arrays

    def on_validation_epoch_end(self) -> None:
        """Logs ``val/ap`` and all others, computed once from what all ranks have predicted; takes training up again."""
        metrics = self._over_all_ranks(_as_numpy(self._predicted))
        self._predicted = []
        self._epoch_means = self._train_means
        self.log_dict({f"val/{name}": torch.tensor(value, dtype=torch.float64) for name, value in metrics.items()})

    def draw_samples(self, generator: torch.Generator) -> NDArray[np.uint8] | None:
        """(height, width, 3): the first images of val with true and with predicted boxes; None without any.

        Args:
            generator: Not used: nothing is random.
        """
        batch = self._first.batch()
        if batch is None:
            return None
        given = self(batch[IMAGE])
        _check_predictions(given, len(batch[IMAGE]))
        predicted = []
        for image in given:
            shown = image["scores"] >= SHOWN_SCORE
            parts = {name: image[name][shown] for name in ("boxes", "labels", "scores")}
            if "masks" in image:
                parts["masks"] = image["masks"][shown].reshape(-1, *batch[IMAGE].shape[2:]) >= 0.5
            if self._points and POINTS in image:
                places = image[POINTS][shown][..., :2]
                parts[POINTS] = torch.cat([places, torch.full_like(places[..., :1], SEEN)], -1)
            predicted.append(_on_host(parts))
        images: NDArray[np.uint8] = batch[IMAGE].cpu().numpy()
        truth = [_on_host(part) for part in self._truth(batch)]
        return box_picture(images, truth, predicted, self._names, self._points)

    def _truth(self, batch: Batch) -> list[dict[str, Tensor]]:
        """Of each image its boxes, regions that count for nothing included, labels, and masks where there are any."""
        truth = []
        for row, labels in enumerate(batch[LABELS]):
            there = (labels != NO_BOX).nonzero().squeeze(1)
            truth.append({"boxes": batch[BOXES][row][there], "labels": labels[there]})
            if self._masks:
                truth[-1]["masks"] = batch[INSTANCES][row][None] == 1 + there[:, None, None]
            if self._points:
                truth[-1][POINTS] = batch[POINTS][row][there]
        return truth

    def _over_all_ranks(self, part: dict[str, NDArray[Any]]) -> dict[str, float]:
        """The metrics of all ranks' predictions: computed on one, and told to the others."""
        if self.trainer.world_size == 1:
            return self._metrics([part])
        parts: list[Any] = [None] * self.trainer.world_size
        torch.distributed.all_gather_object(parts, part)
        box = [self._metrics(parts) if self.trainer.global_rank == 0 else None]
        torch.distributed.broadcast_object_list(box, src=0)
        return box[0] or {}

    def _metrics(self, parts: Sequence[dict[str, NDArray[Any]]]) -> dict[str, float]:
        arrays, spec = join_detections(parts), self._spec
        if arrays is None:
            return {}
        metrics = detection_metrics(arrays, spec.areas, spec.max_detections)
        if arrays.mask_ious is not None:
            of_masks = detection_metrics(arrays, spec.areas, spec.max_detections, by="mask")
            metrics |= {f"mask_{name}": of_masks[name] for name in ("ap", "ap50", "ap75") if name in of_masks}
        if arrays.points is not None:
            of_points = keypoint_metrics(arrays, spec.max_detections)
            metrics |= {f"keypoint_{name}": value for name, value in of_points.items()}
        return metrics


def _surest(image: Mapping[str, Tensor], most: int) -> Tensor:
    """Which predictions of an image count, (m,), the surest first."""
    return image["scores"].argsort(descending=True, stable=True)[:most]


def _check_predictions(given: Any, images: int) -> None:
    names = {"boxes", "scores", "labels"}
    if not isinstance(given, list | tuple) or len(given) != images or not all(names <= {*image} for image in given):
        raise UserError(
            f"the network gives a {type(given).__name__} in eval mode; a detector gives a list with a mapping of boxes,"
            f" scores and labels for each of the {images} images"
        )


def _on_host(parts: Mapping[str, Tensor]) -> dict[str, NDArray[Any]]:
    return {name: (part.float() if part.is_floating_point() else part).cpu().numpy() for name, part in parts.items()}


def _as_numpy(batches: Sequence[Mapping[str, Tensor]]) -> dict[str, NDArray[Any]]:
    """Batches joined, on the host."""
    names = batches[0] if batches else ()
    return {name: np.asarray(torch.cat([batch[name] for batch in batches]).cpu().numpy()) for name in names}


def build(
    spec: DetectionSpec,
    data_spec: DataSpec,
    *,
    model: nn.Module,
    optimizer: OptimizerFactory,
    schedule: ScheduleFactory,
) -> Detection:
    """The task detection, on images with boxes.

    Args:
        spec: What the user chose.
        data_spec: The images and classes.
        model: The network.
        optimizer: Factory of the optimizer.
        schedule: Factory of the schedule.

    Raises:
        UserError: A slot holds several components, or the data have no images, no boxes, no instances where the
            network learns masks, or no keypoints where it learns points.
    """
    check_one_of_each(spec.name, model=model, optimizer=optimizer, schedule=schedule)
    if data_spec.num_classes == 0 or not set(NEEDED) <= set(data_spec.fields):
        fields = ", ".join(data_spec.fields) or "none"
        raise UserError(
            f"task detection needs data with the fields {', '.join(NEEDED)}; these have {fields} (digit_scenes gives"
            " them with truth: boxes)"
        )
    if getattr(model, "needs_instances", False) and not data_spec.of_kind("instances"):
        raise UserError(
            "the network learns masks of objects, and these data have no field instances (truth: instances)"
        )
    if data_spec.points is None:
        _check_no_points(spec, model)
    return Detection(data_spec, model, optimizer, schedule, spec)


def _check_no_points(spec: DetectionSpec, model: nn.Module) -> None:
    """Refuse what needs keypoints, where the data have none. Raises UserError."""
    if getattr(model, "needs_points", False):
        raise UserError(
            "the network learns points of objects, and these data have no field keypoints (truth: keypoints)"
        )
    if spec.keypoint_sigmas:
        raise UserError(
            "task.keypoint_sigmas: these data have no field keypoints; leave it out, or set truth: keypoints"
        )
