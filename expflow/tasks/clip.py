"""Images and texts in one space (Radford et al. 2021, "Learning Transferable Visual Models From Natural Language
Supervision", arXiv 2103.00020).

Of a batch of n pairs each image is to tell its text from the others, and each text its image: cross-entropy of the
cosines, times a scale that is learned, in both directions (figure 3 of the paper). The batch is that of all ranks.
Pairs with the same text belong together, so each image has all of them for an answer, in equal parts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from expflow.architectures.clip import CLIP, LARGEST_SCALE, TEXT, text_field_of
from expflow.data.dataspec import DataSpec
from expflow.data.kinds.text import text_of
from expflow.errors import UserError
from expflow.optim import OptimizerFactory, ScheduleFactory
from expflow.tasks.base import Batch, ImageTask, at_least_single, check_one_of_each, own_loss
from expflow.tasks.clip_spec import RECALLS, CLIPTaskSpec
from expflow.tasks.rank_gathering import gathered_with_gradients
from expflow.tasks.samples import FirstSamples, SampleTable
from expflow.tasks.vector_output import gathered_rows

SHOWN = 3
"""Texts that the samples show for an image, the nearest first."""


class CLIPTask(ImageTask):
    """Trains two towers to bring an image and its text together; measures by which rank one finds the other.

    Args:
        data_spec: The images and texts.
        model: The towers.
        optimizer: Factory of the optimizer.
        schedule: Factory of the schedule.
        spec: What the user chose.
    """

    def __init__(
        self,
        data_spec: DataSpec,
        model: CLIP,
        optimizer: OptimizerFactory,
        schedule: ScheduleFactory,
        spec: CLIPTaskSpec,
    ) -> None:
        super().__init__(data_spec, model, own_loss, optimizer, schedule, spec.penalty, spec.penalty_strength)
        self._network = (model,)
        self._vocabulary = text_field_of(data_spec).vocabulary
        self._first = FirstSamples(spec.samples, "image", TEXT)
        self._embedded: list[tuple[Tensor, ...]] = []

    def forward(self, image_bchw: Tensor) -> Tensor:
        """(b, c, h, w) uint8 images -> (b, e) vectors of length 1."""
        return self._network[0].image_embedding((image_bchw - self._mean) / self._std)

    def _embeddings(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        image, text = self.model((batch["image"] - self._mean) / self._std, batch[TEXT])
        return at_least_single(image), at_least_single(text)

    def _scale(self) -> Tensor:
        return self._network[0].log_scale.exp()

    def training_loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """This rank's share of the loss of all ranks' pairs (), and its pairs ()."""
        image, text = self._embeddings(batch)
        rank = torch.distributed.get_rank() if self._ranks > 1 else 0
        parts = [gathered_with_gradients(part) if self._ranks > 1 else part for part in (image, text)]
        tokens, valid = (gathered_rows(batch[name]) if self._ranks > 1 else batch[name] for name in (TEXT, "valid"))
        own = slice(rank * len(image), (rank + 1) * len(image))
        values = contrast(parts[0], parts[1], same_texts(tokens, valid), self._scale(), own)
        pairs = batch["valid"].sum()
        loss = torch.where(batch["valid"], values, 0).sum() / pairs.clamp(min=1)
        self._epoch_means.add(pairs, loss.detach())
        return loss, pairs

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Keeps the scale at 100 or below."""
        with torch.no_grad():
            self._network[0].log_scale.clamp_(max=math.log(LARGEST_SCALE))

    def new_optimizer(self) -> torch.optim.Optimizer:
        """The recipe's optimizer, in which the scale never decays."""
        optimizer, scale = super().new_optimizer(), self._network[0].log_scale
        group = next(group for group in optimizer.param_groups if any(weight is scale for weight in group["params"]))
        if group.get("weight_decay"):
            group["params"] = [weight for weight in group["params"] if weight is not scale]
            options = {key: value for key, value in group.items() if key not in ("params", "name")}
            optimizer.add_param_group({**options, "params": [scale], "weight_decay": 0.0})
        return optimizer

    def on_validation_start(self) -> None:
        """Begins to keep embeddings."""
        super().on_validation_start()
        self._embedded = []

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Keeps the batch's embeddings: what is measured is of all pairs of the split at once."""
        self._first.follow(batch, batch_idx)
        image, text = self._embeddings(batch)
        places = batch.get("index", torch.arange(len(image), device=self.device)).masked_fill(~batch["valid"], -1)
        self._embedded.append((image, text, batch[TEXT], places))
        self._epoch_means.add(batch["valid"].sum(), batch["valid"].new_zeros((), dtype=image.dtype))

    def measured(self, sums: Tensor) -> Mapping[str, Tensor]:
        """``loss``; of a validation that of all its pairs as one batch, recalls and median ranks."""
        if self.training or not self._embedded:
            return {"loss": sums[1] / sums[0]}
        gathered = (gathered_rows(torch.cat(part)) for part in zip(*self._embedded, strict=True))
        image, text, tokens, places = gathered
        order = places.argsort()[(places < 0).sum() :]  # ranks and padding change nothing
        image, text, tokens = image[order], text[order], tokens[order]
        same = same_texts(tokens, torch.ones_like(order, dtype=torch.bool))
        values = contrast(image, text, same, self._scale(), slice(None))
        return {
            "loss": values.mean(),
            **_recalls("", ranks_of(image @ text.T, same)),
            **_recalls("text_", ranks_of(text @ image.T, same)),
        }

    def draw_samples(self, generator: torch.Generator) -> SampleTable | None:
        """The first texts of val, and which of them their images are nearest to.

        Args:
            generator: Not used: nothing is random.
        """
        image, tokens = self._first.field("image"), self._first.field(TEXT)
        if image is None or tokens is None:
            return None
        images, texts = self._embeddings({"image": image, TEXT: tokens})
        nearest = (images @ texts.T).topk(min(SHOWN, len(texts)), dim=1).indices
        words = [text_of(row, self._vocabulary) for row in tokens.tolist()]
        rows = [(right, *(words[place] for place in row)) for right, row in zip(words, nearest.tolist(), strict=True)]
        return SampleTable((TEXT, *(f"nearest {place + 1}" for place in range(nearest.shape[1]))), rows)


def same_texts(tokens_nt: Tensor, valid_n: Tensor) -> Tensor:
    """(n, n) whether two pairs have the same text; false where one of them is padding.

    Args:
        tokens_nt: (n, t) tokens.
        valid_n: (n,), false for padding.
    """
    same = (tokens_nt[:, None] == tokens_nt[None]).all(2)
    return same & valid_n[:, None] & valid_n[None]


def contrast(image_ne: Tensor, text_ne: Tensor, same_nn: Tensor, scale: Tensor, rows: slice) -> Tensor:
    """Mean of the cross-entropies of both directions, for some pairs of a batch: (rows,); of padding it says nothing.

    Args:
        image_ne: (n, e) vectors of length 1.
        text_ne: (n, e) vectors of length 1.
        same_nn: (n, n) which pairs are answers to each other; padding is to none, not even to itself.
        scale: () what cosines are multiplied with.
        rows: Which pairs.

    Source:
        Radford et al. 2021, figure 3; several answers in equal parts as in Yang et al. 2022, "Unified Contrastive
        Learning in Image-Text-Label Space", equation 1.
    """
    padding = ~same_nn.diagonal()
    answers = same_nn[rows].to(image_ne.dtype)
    answers = answers / answers.sum(1, keepdim=True).clamp(min=1)
    losses = []
    for asking, answering in ((image_ne, text_ne), (text_ne, image_ne)):
        scores = (scale * asking[rows] @ answering.T).masked_fill(padding, torch.finfo(image_ne.dtype).min)
        losses.append(-(answers * scores.log_softmax(1).masked_fill(padding, 0)).sum(1))
    return (losses[0] + losses[1]) / 2


def ranks_of(scores_nn: Tensor, same_nn: Tensor) -> Tensor:
    """(n,) at which place each row finds the first of its answers, from 1; a wrong one that scores as much goes first.

    Args:
        scores_nn: (n, n) scores of the answers (second) to each (first).
        same_nn: (n, n) which answers are right.
    """
    best = scores_nn.masked_fill(~same_nn, -torch.inf).amax(1, keepdim=True)
    return 1 + ((scores_nn >= best) & ~same_nn).sum(1)


def _recalls(prefix: str, ranks_n: Tensor) -> dict[str, Tensor]:
    recalls = {f"{prefix}r{k}": (ranks_n <= k).double().mean() for k in RECALLS}
    return {**recalls, f"{prefix}medr": ranks_n.double().quantile(0.5)}


def build(
    spec: CLIPTaskSpec,
    data_spec: DataSpec,
    *,
    model: nn.Module,
    optimizer: OptimizerFactory,
    schedule: ScheduleFactory,
) -> CLIPTask:
    """The task clip, on images with texts.

    Args:
        spec: What the user chose.
        data_spec: The images and texts.
        model: The towers.
        optimizer: Factory of the optimizer.
        schedule: Factory of the schedule.

    Raises:
        UserError: A slot holds several components, the data have no texts beside images, or the network has no towers.
    """
    check_one_of_each(spec.name, model=model, optimizer=optimizer, schedule=schedule)
    text_field_of(data_spec)
    if not isinstance(model, CLIP):
        raise UserError("task clip needs model clip, or one of your own that derives from its class")
    return CLIPTask(data_spec, model, optimizer, schedule, spec)
