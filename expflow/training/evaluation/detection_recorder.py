"""How detections come out of a validation: kept batch by batch, read once at the end of the trial."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from expflow.tasks.detections import DetectionArrays, join_detections
from expflow.training.contract import World
from expflow.training.evaluation.kept_detections import detections_file, save_detections
from expflow.training.evaluation.validation_recorder import ValidationRecorder
from expflow.training.ranks import gather_objects


class DetectionRecorder(ValidationRecorder[DetectionArrays]):
    """Keeps predictions and truth of the newest whole validation, where a task's steps return them.

    Batches have ``index`` (b,) and ``valid`` (b,), as those of prepared shards do; without them nothing is kept.
    """

    @property
    def state_key(self) -> str:
        """Where checkpoints keep the state; there is none."""
        return "detections"

    def _take(self, outputs: Any, batch: Any, *, alone: bool) -> None:
        if isinstance(outputs, Mapping) and "true_boxes" in outputs and "index" in batch:
            self._batches.append({**outputs, "ids": batch["index"], "valid": batch["valid"]})

    def _gather(self, split: str, world: World) -> DetectionArrays | None:
        parts = gather_objects(self._part(), world)
        return None if world.rank else join_detections(parts)

    def file(self, split: str) -> str:
        """Name of the file with the detections on a split."""
        return detections_file(split)

    def write(self, recorded: DetectionArrays, split: str, path: Path) -> str:
        """Write detections to a file; its sha256."""
        return save_detections(recorded, split, path)
