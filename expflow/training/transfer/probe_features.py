"""A linear probe: the head of a network, trained on what its frozen backbone gives for each image.

The backbone never changes, and images come as eval sees them, so its features are computed once on each node, in eval
mode, and kept beside the prepared shards under a name that all they depend on goes into. Every epoch then costs what a
linear classifier costs, and every trial on the same backbone finds them there.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from pytorch_lightning import LightningModule
from torch import Tensor, nn

from expflow.architectures.heads import heads_of
from expflow.config.identity import canonical_json, dump
from expflow.config.schema import Recipe
from expflow.config.spec import Spec, UserComponent
from expflow.data.augment.specs import AugmentedSourceSpec, TrainTransform
from expflow.data.dataspec import DataSpec, FieldSpec
from expflow.data.shards.manifest import ShardManifest, read_manifest
from expflow.data.source_spec import ShardedSourceSpec
from expflow.data.stores.verified_files import VerifiedFiles
from expflow.data.streaming.decoded_cache import DecodedSplit, load_or_decode
from expflow.data.streaming.loader import Loader, loader_for
from expflow.errors import UserError
from expflow.training.checkpoints.loading import LoadedCheckpoint
from expflow.training.contract import Attempt, World
from expflow.training.transfer.weight_loading import network_of
from expflow.training.trial_data import TrialData
from expflow.training.weights_digest import weights_digest

FEATURES = "features"
FORMAT = 1
"""Raised when what the features are for one key changes."""

BATCH_SAMPLES = 256
"""Images that go through the backbone at once."""


def probed_head(network: nn.Module, recipe: Recipe) -> str:
    """Dotted path of the head that is trained.

    Args:
        network: The network.
        recipe: What is trained.

    Raises:
        UserError: The network has several heads, or images differ from epoch to epoch.
    """
    heads = heads_of(network)
    if len(heads) > 1:
        raise UserError(f"init.probe: a linear probe has one head, and the network has {', '.join(heads)}")
    if recipe.trainer.image_sizes:
        raise UserError("init.probe: trainer.image_sizes changes the images; features are kept of one size")
    if changes := _augmented(recipe):
        raise UserError(
            f"init.probe: data.train.{changes[0]} makes other images each time, and features are kept of one; leave it "
            "out (random_resized_crop: {probability: 0}, flip: 0), or train with freeze: backbone and without probe"
        )
    return heads[0]


def _augmented(recipe: Recipe) -> list[str]:
    """The keys under ``data.train`` that change images."""
    if not isinstance(recipe.data, AugmentedSourceSpec):
        return []
    train, plain = recipe.data.train, TrainTransform()
    crop = train.random_resized_crop
    if crop is not None and crop.probability == 0:
        train = train.model_copy(update={"random_resized_crop": None})
    return [key for key in TrainTransform.model_fields if getattr(train, key) != getattr(plain, key)]


def with_probe_features(
    attempt: Attempt, world: World, data: TrialData, task: LightningModule, loaded: LoadedCheckpoint | None
) -> TrialData:
    """The trial's data with features in the place of images, where the recipe asks for a probe.

    ``task`` is then set to train on features.

    Args:
        attempt: The trial.
        world: This rank's place among the trial's ranks.
        data: The trial's data.
        task: The module that is trained.
        loaded: The checkpoint that the training goes on from; None from the beginning.

    Raises:
        UserError: The data are no prepared shards, or a probe does not fit network or recipe (:func:`probed_head`).
    """
    init = attempt.recipe.init
    if init is None or not init.probe:
        return data
    if attempt.data_root is None or not isinstance(data.train, Loader):
        raise UserError("init.probe: features are kept of prepared shards, and this recipe has none")
    if loaded is not None:
        task.load_state_dict(loaded.trainer["state_dict"])
    network = network_of(task)
    path = probed_head(network, attempt.recipe)
    backbone = _BackboneFeatures(task, network, path, attempt, world)
    train = backbone.features("train")
    val = backbone.features("val") if isinstance(data.val, Loader) else None
    head: Any = network.get_submodule(path).__call__
    task.probe = head  # not the module itself, which would be in the state twice
    return replace(
        data,
        train=data.train.drawing_from(train),
        val=cast(Loader, data.val).drawing_from(val) if val is not None else None,
        train_in_order=cast(Loader, data.train_in_order).drawing_from(train),
    )


@dataclass(frozen=True)
class _BackboneFeatures:
    """All of ``task``'s network but the head at ``path``."""

    task: LightningModule
    network: nn.Module
    path: str
    attempt: Attempt
    world: World

    def features(self, split: str) -> DecodedSplit:
        """Features and labels of a split by id: from the cache, or computed by one of the processes that ask at once.

        Args:
            split: Name of the split.
        """
        root, spec = cast(Path, self.attempt.data_root), cast(ShardedSourceSpec, self.attempt.recipe.data)
        manifest = read_manifest(root)
        loader = loader_for(
            spec.model_copy(update={"batch_size": BATCH_SAMPLES, "last": "keep"}),
            root,
            split,
            seed=0,
            shuffle=False,
            threads=self.world.threads,
        )
        shape = self._feature_shape(loader)
        described = self._described(manifest, split, spec, shape)
        return load_or_decode(
            root,
            described,
            split,
            loader.samples,
            VerifiedFiles(root.parent / "verified"),
            lambda: self._pieces(loader),
        )

    def _described(
        self, manifest: ShardManifest, split: str, spec: ShardedSourceSpec, shape: tuple[int, ...]
    ) -> ShardManifest:
        """A manifest of the features, whose content is named by all that they follow from."""
        fields = {FEATURES: FieldSpec(shape, "float32"), "label": manifest.spec.fields["label"]}
        content = hashlib.sha256(
            canonical_json([FORMAT, manifest.content, split, self._key(spec)]).encode()
        ).hexdigest()
        return replace(manifest, spec=DataSpec(fields, manifest.spec.classes), content=content)

    def _key(self, spec: ShardedSourceSpec) -> list[Any]:
        recipe, model = self.attempt.recipe, cast(Spec, self.attempt.recipe.model)
        device = "gpu" if self.world.gpus else "cpu"
        seen = {"image_size": spec.image_size, "eval": dump(spec.eval), "task": dump(cast(Spec, recipe.task))}
        return [
            weights_digest(self.network, but=self.path),
            dump(model),
            _source_of(self.network) if isinstance(model, UserComponent) else "",
            [seen, torch.__version__, device, recipe.trainer.precision],
        ]

    def _feature_shape(self, loader: Loader) -> tuple[int, ...]:
        """Shape of one image's features. Raises UserError where the network does more behind its head."""
        batch = next(iter(loader))
        with torch.no_grad(), self._eval_mode() as device:
            features, scores = self._forward(batch["image"][:2].to(device))
            again = self.network.get_submodule(self.path)(features)
        if again.shape != scores.shape or not torch.allclose(again, scores, rtol=1e-4, atol=1e-5):
            raise UserError(
                f"init.probe: the network does not end with its head, {self.path}; train with freeze: backbone alone"
            )
        return tuple(features.shape[1:])

    def _pieces(self, loader: Loader) -> Iterator[tuple[int, dict[str, Any], dict[int, str]]]:
        first = 0
        with torch.no_grad(), self._eval_mode() as device:
            for batch in loader:
                ids, valid = batch["index"].numpy(), batch["valid"].numpy()
                features, _ = self._forward(batch["image"].to(device))
                bad = {int(sample): "it could not be read" for sample in ids[~valid]}
                label: np.ndarray[Any, Any] = batch["label"].numpy()
                yield first, {FEATURES: features.float().cpu().numpy(), "label": label}, bad
                first += len(ids)

    def _forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """The head's input for images, and the scores."""
        inputs: list[Tensor] = []
        head = self.network.get_submodule(self.path)
        handle = head.register_forward_pre_hook(lambda module, args: inputs.append(args[0]))
        try:
            scores = self.task(image)
        finally:
            handle.remove()
        if len(inputs) != 1:
            raise UserError(f"init.probe: {self.path} is used {len(inputs)} times for an image; a probe needs once")
        return inputs[0], scores

    def _eval_mode(self) -> _EvalMode:
        return _EvalMode(self.task, torch.device("cuda" if self.world.gpus else "cpu"))


class _EvalMode:
    """In the body ``task`` is in eval mode and on ``device``, and as it was afterwards."""

    def __init__(self, task: nn.Module, device: torch.device) -> None:
        self._task, self._device = task, device

    def __enter__(self) -> torch.device:
        self._modes = [(module, module.training) for module in self._task.modules()]
        self._task.to(self._device).eval()
        return self._device

    def __exit__(self, *error: object) -> None:
        for module, training in self._modes:
            module.training = training


def _source_of(network: nn.Module) -> str:
    """sha256 of the file that a user's network is written in: what it computes may change with its weights the same."""
    file = inspect.getsourcefile(type(network))
    return hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else ""
