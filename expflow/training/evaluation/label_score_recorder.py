"""How scores for several classes of an image come out of a validation: kept by batch, read once at the trial's end."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from expflow.training.contract import World
from expflow.training.evaluation.label_scores import (
    LabelScores,
    join_label_scores,
    label_scores_file,
    save_label_scores,
)
from expflow.training.evaluation.validation_recorder import ValidationRecorder
from expflow.training.ranks import gather_objects


class LabelScoreRecorder(ValidationRecorder[LabelScores]):
    """Keeps ``label_scores`` (b, classes) of the newest whole validation, where a task's steps return them.

    Batches have ``labels`` (b, classes), ``index`` (b,) and ``valid`` (b,), as those of prepared shards do; without
    them nothing is kept.
    """

    @property
    def state_key(self) -> str:
        """Where checkpoints keep the state; there is none."""
        return "label_scores"

    def _take(self, outputs: Any, batch: Any, *, alone: bool) -> None:
        scores = outputs.get("label_scores") if isinstance(outputs, Mapping) else None
        if isinstance(scores, Tensor) and {"labels", "index", "valid"} <= batch.keys():
            part = {"ids": batch["index"], "scores": scores.detach().float(), "labels": batch["labels"]}
            self._batches.append({**part, "valid": batch["valid"]})

    def _gather(self, split: str, world: World) -> LabelScores | None:
        parts = gather_objects(self._part(), world)
        return None if world.rank else join_label_scores(split, parts)

    def file(self, split: str) -> str:
        """Name of the file with the scores on a split."""
        return label_scores_file(split)

    def write(self, recorded: LabelScores, split: str, path: Path) -> str:
        """Write scores to a file; its sha256."""
        return save_label_scores(recorded, path)
