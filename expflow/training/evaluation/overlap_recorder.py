"""How overlaps come out of a validation: kept on the device batch by batch, read once at the end of the trial."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from expflow.training.contract import World
from expflow.training.evaluation.overlaps import MaskOverlaps, join_overlaps, overlaps_file, save_overlaps
from expflow.training.evaluation.validation_recorder import ValidationRecorder
from expflow.training.ranks import gather_objects


class OverlapRecorder(ValidationRecorder[MaskOverlaps]):
    """Keeps ``overlaps`` (b, 3, classes) of the newest whole validation, where a task's steps return them.

    Batches have ``index`` (b,) and ``valid`` (b,), as those of prepared shards do; without them nothing is kept.
    """

    @property
    def state_key(self) -> str:
        """Where checkpoints keep the state; there is none."""
        return "overlaps"

    def _take(self, outputs: Any, batch: Any, *, alone: bool) -> None:
        counts = outputs.get("overlaps") if isinstance(outputs, Mapping) else None
        if isinstance(counts, Tensor) and "index" in batch:
            self._batches.append({"ids": batch["index"], "counts": counts, "valid": batch["valid"]})

    def overlaps(self, split: str, world: World) -> MaskOverlaps | None:
        """The overlaps of the newest whole pass, over all ranks. All ranks have to call it.

        Args:
            split: The split that the pass was over.
            world: This rank among those of its trial.

        Returns:
            The overlaps on rank 0; None on the others, and where the task gives none.
        """
        parts = gather_objects(self._part(), world)
        return None if world.rank else join_overlaps(split, parts)

    def _gather(self, split: str, world: World) -> MaskOverlaps | None:
        return self.overlaps(split, world)

    def file(self, split: str) -> str:
        """Name of the file with the overlaps on a split."""
        return overlaps_file(split)

    def write(self, recorded: MaskOverlaps, split: str, path: Path) -> str:
        """Write overlaps to a file; its sha256."""
        return save_overlaps(recorded, path)
