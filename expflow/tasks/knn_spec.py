"""Arguments of the task knn. Torch-free."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal

from expflow.config.component_specs import ModelOutput
from expflow.config.spec import identity
from expflow.tasks.fitted_spec import FittedSpec


class KnnSpec(FittedSpec):
    """A kNN probe: the class of an image by the training images nearest to it in the features of a frozen network.

    Nothing is trained: the network is as init.from gives it, or as it was drawn, and its features are what its head is
    given. It is fitted once, in one pass over the training images, whatever trainer.epochs says.
    """

    build: ClassVar[str] = "expflow.tasks.knn:build"
    slots: ClassVar[frozenset[str]] = frozenset({"data", "model"})
    needs: ClassVar[ModelOutput] = "scores"

    neighbours: int = identity(
        20, description="k: how many of the nearest training images have a vote.", ge=1, le=10_000
    )
    weighting: Literal["exponential", "equal"] = identity(
        "exponential",
        description="What a vote counts: exp(cosine / temperature), as in Wu et al. 2018, or 1 for each neighbour.",
    )
    temperature: float = identity(
        0.07, description="tau of exponential votes: the smaller, the more the nearest neighbours count.", gt=0
    )

    def trainer_conflicts(self) -> Mapping[str, str]:
        """What :class:`FittedSpec` refuses, and val among the training images."""
        why = "the kNN probe keeps the features of train, and val is what it is measured on; leave it out"
        return {**super().trainer_conflicts(), "fit_on": why}

    def conflicts(self, slots: Mapping[str, Any], init: Any) -> Iterable[tuple[str, str]]:
        """What :class:`FittedSpec` refuses, parts of ``init`` that are about training, and too few images."""
        yield from super().conflicts(slots, init)
        for key, plain in (("freeze", ()), ("unfreeze_after", None), ("lr_scale", {}), ("probe", False)):
            if init is not None and getattr(init, key) != plain:
                yield f"init.{key}", "says how a network is trained, and the kNN probe trains nothing; remove it"
        limit = getattr(slots.get("data"), "limit", None)
        if limit is not None and limit < self.neighbours:
            yield "task.neighbours", f"{self.neighbours} of {limit} training images (data.limit); ask for fewer"
