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
from expflow.config.identity import canonical, dump
from expflow.config.schema import Recipe
from expflow.config.spec import Foreign, Spec
from expflow.data.augment.specs import Augmented, TrainTransform
from expflow.data.dataspec import DataSpec, FieldSpec
from expflow.data.loader import Loader, loader_for
from expflow.data.manifest import Manifest, read_manifest
from expflow.data.memory import Whole, decoded
from expflow.data.specs import Source
from expflow.data.stores.verified import Verified
from expflow.errors import UserError
from expflow.training.checkpoints.reading import Loaded
from expflow.training.contract import Attempt, World
from expflow.training.feed import Feed
from expflow.training.transfer.weights import network_of
from expflow.training.weights import digest

FEATURES = "features"
FORMAT = 1
"""Raised when what the features are for one key changes."""

BATCH_SAMPLES = 256
"""Images that go through the backbone at once."""


def check(network: nn.Module, recipe: Recipe) -> str:
    """Dotted path of the head that is trained. Raises UserError where features cannot be kept for ``recipe``."""
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
    if not isinstance(recipe.data, Augmented):
        return []
    train, plain = recipe.data.train, TrainTransform()
    crop = train.random_resized_crop
    if crop is not None and crop.probability == 0:
        train = train.model_copy(update={"random_resized_crop": None})
    return [key for key in TrainTransform.model_fields if getattr(train, key) != getattr(plain, key)]


def probed(attempt: Attempt, world: World, feed: Feed, task: LightningModule, loaded: Loaded | None) -> Feed:
    """``feed`` with features in the place of images, and ``task`` set to train on them, where the recipe asks for it.

    ``loaded`` is the checkpoint that the training goes on from. Raises what :func:`check` raises.
    """
    init = attempt.recipe.init
    if init is None or not init.probe:
        return feed
    if attempt.data_root is None or not isinstance(feed.train, Loader):
        raise UserError("init.probe: features are kept of prepared shards, and this recipe has none")
    if loaded is not None:
        task.load_state_dict(loaded.trainer["state_dict"])
    network = network_of(task)
    path = check(network, attempt.recipe)
    backbone = _Backbone(task, network, path, attempt, world)
    train = backbone.features("train")
    val = backbone.features("val") if isinstance(feed.val, Loader) else None
    head: Any = network.get_submodule(path).__call__
    task.probe = head  # not the module itself, which would be in the state twice
    return replace(
        feed,
        train=feed.train.drawing_from(train),
        val=cast(Loader, feed.val).drawing_from(val) if val is not None else None,
        fit=cast(Loader, feed.fit).drawing_from(train),
    )


@dataclass(frozen=True)
class _Backbone:
    """All of ``task``'s network but the head at ``path``."""

    task: LightningModule
    network: nn.Module
    path: str
    attempt: Attempt
    world: World

    def features(self, split: str) -> Whole:
        """Features and labels of ``split`` by id: found, or computed by one of the processes that ask at once."""
        root, spec = cast(Path, self.attempt.data_root), cast(Source, self.attempt.recipe.data)
        manifest = read_manifest(root)
        loader = loader_for(
            spec.model_copy(update={"batch_size": BATCH_SAMPLES, "last": "keep"}),
            root,
            split,
            seed=0,
            shuffle=False,
            threads=self.world.threads,
        )
        shape = self._try(loader)
        described = self._described(manifest, split, spec, shape)
        return decoded(
            root, described, split, loader.samples, Verified(root.parent / "verified"), lambda: self._pieces(loader)
        )

    def _described(self, manifest: Manifest, split: str, spec: Source, shape: tuple[int, ...]) -> Manifest:
        """A manifest of the features, whose content is named by all that they follow from."""
        fields = {FEATURES: FieldSpec(shape, "float32"), "label": manifest.spec.fields["label"]}
        content = hashlib.sha256(canonical([FORMAT, manifest.content, split, self._key(spec)]).encode()).hexdigest()
        return replace(manifest, spec=DataSpec(fields, manifest.spec.classes), content=content)

    def _key(self, spec: Source) -> list[Any]:
        recipe, model = self.attempt.recipe, cast(Spec, self.attempt.recipe.model)
        device = "gpu" if self.world.gpus else "cpu"
        seen = {"image_size": spec.image_size, "eval": dump(spec.eval), "task": dump(cast(Spec, recipe.task))}
        return [
            digest(self.network, but=self.path),
            dump(model),
            _source_of(self.network) if isinstance(model, Foreign) else "",
            [seen, torch.__version__, device, recipe.trainer.precision],
        ]

    def _try(self, loader: Loader) -> tuple[int, ...]:
        """Shape of one image's features. Raises UserError where the network does more behind its head."""
        batch = next(iter(loader))
        with torch.no_grad(), self._evaluating() as device:
            features, scores = self._forward(batch["image"][:2].to(device))
            again = self.network.get_submodule(self.path)(features)
        if again.shape != scores.shape or not torch.allclose(again, scores, rtol=1e-4, atol=1e-5):
            raise UserError(
                f"init.probe: the network does not end with its head, {self.path}; train with freeze: backbone alone"
            )
        return tuple(features.shape[1:])

    def _pieces(self, loader: Loader) -> Iterator[tuple[int, dict[str, Any], dict[int, str]]]:
        first = 0
        with torch.no_grad(), self._evaluating() as device:
            for batch in loader:
                ids, valid = batch["index"].numpy(), batch["valid"].numpy()
                features, _ = self._forward(batch["image"].to(device))
                bad = {int(each): "it could not be read" for each in ids[~valid]}
                label: np.ndarray[Any, Any] = batch["label"].numpy()
                yield first, {FEATURES: features.float().cpu().numpy(), "label": label}, bad
                first += len(ids)

    def _forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """What the head is given for images, and the scores."""
        seen: list[Tensor] = []
        head = self.network.get_submodule(self.path)
        handle = head.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
        try:
            scores = self.task(image)
        finally:
            handle.remove()
        if len(seen) != 1:
            raise UserError(f"init.probe: {self.path} is used {len(seen)} times for an image; a probe needs once")
        return seen[0], scores

    def _evaluating(self) -> _Evaluating:
        return _Evaluating(self.task, torch.device("cuda" if self.world.gpus else "cpu"))


class _Evaluating:
    """In the body ``task`` is in eval mode and on ``device``, and as it was afterwards."""

    def __init__(self, task: nn.Module, device: torch.device) -> None:
        self._task, self._device = task, device

    def __enter__(self) -> torch.device:
        self._modes = [(each, each.training) for each in self._task.modules()]
        self._task.to(self._device).eval()
        return self._device

    def __exit__(self, *error: object) -> None:
        for module, training in self._modes:
            module.training = training


def _source_of(network: nn.Module) -> str:
    """sha256 of the file that a user's network is written in: what it computes may change with its weights the same."""
    file = inspect.getsourcefile(type(network))
    return hashlib.sha256(Path(file).read_bytes()).hexdigest() if file else ""
