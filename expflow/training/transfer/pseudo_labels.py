"""The labels that a trained classifier gives to the images of the train split (``data.labels_from``).

They are computed once on each node, in eval mode and on images as eval sees them, and kept beside the prepared shards
under a name that all they depend on goes into. Beside them stand the true labels, for the share that is right.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from expflow import architectures
from expflow.config.identity import canonical_json, dump
from expflow.data.dataspec import DataSpec, FieldSpec
from expflow.data.shards.manifest import ShardManifest, read_manifest
from expflow.data.source_spec import ShardedSourceSpec
from expflow.data.stores.verified_files import VerifiedFiles
from expflow.data.streaming.decoded_cache import load_or_decode
from expflow.data.streaming.loader import Loader, loader_for
from expflow.errors import WeightsMissing
from expflow.training.artifacts import ArtifactWriter
from expflow.training.contract import Attempt, World
from expflow.training.transfer.trained_classifier import TrainedClassifier, label_source
from expflow.training.transfer.weight_loading import load_fitting_weights, read_pretrained

FORMAT = 1
"""Raised when what the labels are for one key changes."""

BATCH_SAMPLES = 256
"""Images that the classifier is given at once."""

TRAIN = "train"
"""The split that is labelled."""

LABEL, TRUTH = "label", "truth"


@dataclass(frozen=True)
class PseudoLabels:
    """The labels of one trial's train split.

    Attributes:
        root: The folder of the prepared shards.
        source: The recipe's data.
        labeller: The classifier.
        world: What this process may use.
    """

    root: Path
    source: ShardedSourceSpec
    labeller: TrainedClassifier
    world: World

    def given(self) -> NDArray[np.int64]:
        """(n,) the classes that the classifier gives, by the sample's id; computed when they are first asked for."""
        return self._arrays[LABEL]

    def in_place_of_own(self, loader: Loader) -> Loader:
        """A loader of the train split whose labels are these.

        Args:
            loader: The loader with the labels that are stored.
        """
        return loader.with_labels(self.given)

    def write_table(self, classes: Sequence[str], artifacts: ArtifactWriter, step: int) -> None:
        """Write the table ``pseudo-labels``: how many images have which label, and how many of these are right.

        Args:
            classes: Names of the classes.
            artifacts: What the table is written by.
            step: The optimizer step at which they are written.
        """
        given, truth = self._arrays[LABEL], self._arrays[TRUTH]
        rows = [(name, given == number, truth == number) for number, name in enumerate(classes)]
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(["class", "labelled", "right", "share right", "truly of it"])
        for name, labelled, true in rows:
            right, count = int((labelled & true).sum()), int(labelled.sum())
            table.writerow([name, count, right, f"{right / count:.4f}" if count else "", int(true.sum())])
        right = int((given == truth).sum())
        table.writerow(["all", len(given), right, f"{right / len(given):.4f}" if len(given) else "", len(given)])
        artifacts.write_table("pseudo-labels", text.getvalue(), step)

    @cached_property
    def _arrays(self) -> dict[str, NDArray[np.int64]]:
        """Both kinds of labels: from the node's file, or computed by one of the processes that ask at once."""
        loader = loader_for(
            self.source.model_copy(update={"batch_size": BATCH_SAMPLES, "last": "keep", "sampling": "natural"}),
            self.root,
            TRAIN,
            seed=0,
            shuffle=False,
            threads=self.world.threads,
        )
        files = VerifiedFiles(self.root.parent / "verified")
        described = self._described(read_manifest(self.root))
        decoded = load_or_decode(self.root, described, TRAIN, loader.samples, files, lambda: self._pieces(loader))
        return decoded.arrays

    def _described(self, manifest: ShardManifest) -> ShardManifest:
        """A manifest of the labels, whose content is named by all that they follow from."""
        source, device = self.source, "gpu" if self.world.gpus else "cpu"
        seen = [source.image_size, dump(source.eval), torch.__version__, device]
        key = [FORMAT, manifest.content, self.labeller.weights.id, dump(self.labeller.model), seen]
        content = hashlib.sha256(canonical_json(["labels", *key]).encode()).hexdigest()
        fields = {name: FieldSpec((), "int64") for name in (LABEL, TRUTH)}
        return replace(manifest, spec=DataSpec(fields, manifest.spec.classes), content=content)

    def _pieces(self, loader: Loader) -> Iterator[tuple[int, dict[str, Any], dict[int, str]]]:
        device, first = torch.device("cuda" if self.world.gpus else "cpu"), 0
        kept = self.labeller
        with torch.random.fork_rng(devices=[]):  # the trial's own weights are drawn as without it
            network = architectures.build(cast(Any, kept.model), kept.data_spec)
        load_fitting_weights(network, read_pretrained(kept.weights), head="keep", origin=kept.weights.origin)
        network.to(device).eval()
        mean, std = (
            torch.tensor(values, device=device).view(-1, 1, 1) for values in (kept.data_spec.mean, kept.data_spec.std)
        )
        for batch in loader:
            with torch.no_grad():
                scores = network((batch["image"].to(device).float() / 255 - mean) / std)
            ids, valid = batch["index"].numpy(), batch["valid"].numpy()
            bad = {int(sample): "it could not be read" for sample in ids[~valid]}
            yield first, {LABEL: scores.argmax(1).cpu().numpy(), TRUTH: batch[LABEL].numpy()}, bad
            first += len(ids)


def pseudo_labels(attempt: Attempt, world: World) -> PseudoLabels | None:
    """The labels that a trial's train split is given; None where it keeps its own.

    Args:
        attempt: The trial, with the classifier's weights and the prepared shards.
        world: This rank's place among the trial's ranks.

    Raises:
        WeightsMissing: The classifier was not looked up before.
    """
    source = label_source(attempt.recipe.data)
    if not source or attempt.data_root is None:
        return None
    if attempt.labeller is None:
        raise WeightsMissing(
            f"data.labels_from: {source} was not looked up; whoever starts the trial has to say where it is"
        )
    return PseudoLabels(attempt.data_root, cast(ShardedSourceSpec, attempt.recipe.data), attempt.labeller, world)
