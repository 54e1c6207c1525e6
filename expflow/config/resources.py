"""What trials run on: the keys under ``resources``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import field_validator, model_validator

from expflow.config.byte_size import ByteSize
from expflow.config.spec import FieldError, FrozenModel, execution


class ConfigRanks(FrozenModel):
    """Configs whose trials have another number of ranks."""

    when: Mapping[str, tuple[Any, ...]] = execution(
        description="Searched keys, each with a value or a list of values, that a config has to have."
    )
    ranks: int = execution(ge=1, le=10_000, description="Processes of each of their trials.")

    @field_validator("when", mode="before")
    @classmethod
    def _values_in_lists(cls, when: Any) -> Any:
        if not isinstance(when, Mapping) or not when:
            raise ValueError("expected a mapping of searched keys to a value or a list of values")
        return {key: value if isinstance(value, list | tuple) else (value,) for key, value in when.items()}


class Resources(FrozenModel):
    """What one trial runs on."""

    ranks: int = execution(1, ge=1, le=10_000, description="Processes of one trial (data-parallel ranks).")
    by_config: tuple[ConfigRanks, ...] = execution(
        (),
        description="Other ranks for some configs of a sweep; the first rule that fits counts:"
        " [{when: {model.depth: 110}, ranks: 4}]. A trial of several ranks waits for the trials that run, and for none"
        " that is to begin after it.",
    )
    cpus_per_rank: int = execution(1, ge=1, le=10_000, description="CPU cores, and compute threads, of one rank.")
    gpus_per_rank: float | Literal["auto", "measured"] = execution(
        "auto",
        description="GPUs of one rank; auto: 1 where one is; 0.5: two trials share a GPU, and each may take half of its"
        " memory; measured, for trials of one rank: as many trials share a GPU as its memory holds and the CPUs feed,"
        " by a few real steps of the configs that need most of it, which a sweep takes on one GPU before its trials"
        " begin (where GPUs differ, that one stands for all).",
    )
    max_concurrent: int | None = execution(None, ge=1, description="Most trials at once; by default as many as fit.")
    trial_seconds: float | None = execution(
        None, gt=0, description="Seconds after which an attempt at a trial is killed; by default it may take any time."
    )
    stall_seconds: float = execution(
        1800.0,
        gt=0,
        description="Seconds without a single step after which a trial counts as hung, and is killed. They begin with"
        " its training; imports and data before it may take ten minutes more.",
    )
    log_size: ByteSize = execution(
        10_000_000,
        ge=10_000,
        description="Most bytes of a rank's log, 10 MB for example; of a longer one beginning and end are kept.",
    )

    @model_validator(mode="after")
    def _shares_of_gpus_can_be_had(self) -> Self:
        share = self.gpus_per_rank
        if isinstance(share, float) and not 0 <= share <= 1:
            raise FieldError(
                "gpus_per_rank",
                f"expected a number from 0 to 1, found {share:g}: a rank trains on one GPU or a part of it; "
                "resources.ranks: 2 takes two GPUs for a trial",
            )
        if self.by_config and (share == "measured" or self.max_concurrent is not None):
            other = "gpus_per_rank: measured" if share == "measured" else "max_concurrent"
            raise FieldError("by_config", f"it cannot stand beside {other}, which takes all trials to be alike")
        if share == "measured" and self.ranks > 1:
            raise FieldError(
                "gpus_per_rank",
                "measured is for trials of one rank: ranks that train together each need a GPU of their own; "
                f"give a number, 1 for example, or lower resources.ranks (it is {self.ranks})",
            )
        return self
