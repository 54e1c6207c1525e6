"""DETR (Carion et al. 2020, "End-to-End Object Detection with Transformers", arXiv 2005.12872)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from expflow.architectures.detector_network import Detector, Target, backbone_of, detector_maps
from expflow.architectures.specs.detectors import DETRSpec
from expflow.data.dataspec import DataSpec

CLASS_COST, CORNER_COST, OVERLAP_COST = 1.0, 5.0, 2.0
"""What a pair of query and object costs in the matching, and what each part weighs in the loss: section A.4."""


def box_encoding(height: int, width: int, features: int, like: Tensor) -> Tensor:
    """Sines of the places of a map's values, (height * width, features).

    Args:
        height: Of the map.
        width: Of the map.
        features: Of a token; half of them tell the row, half the column.
        like: A tensor of the type and device that the result has.

    Source:
        Carion et al. 2020, section A.4.
    """
    if like.is_meta:  # a network that is counted: torch would import its compiler to learn the shape of a sine
        return like.new_empty((height * width, features))
    powers = 10_000 ** (torch.arange(0, features // 2, 2, device=like.device, dtype=torch.float32) / (features // 2))
    parts = []
    for size in (height, width):
        places = torch.arange(1, size + 1, device=like.device, dtype=torch.float32) / size * 2 * math.pi
        angles = places[:, None] / powers
        parts.append(torch.stack([angles.sin(), angles.cos()], 2).flatten(1))
    rows, columns = parts[0][:, None].expand(-1, width, -1), parts[1][None].expand(height, -1, -1)
    return torch.cat([rows, columns], 2).flatten(0, 1).to(like.dtype)


class SetEncoderLayer(nn.Module):
    """Self-attention and a feed-forward layer, each with a residual and a norm behind it.

    Args:
        spec: Features, heads, hidden units and dropout.
    """

    def __init__(self, spec: DETRSpec) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(
            spec.features, spec.attention_heads, spec.attention_dropout, batch_first=True
        )
        self.feedforward = nn.Sequential(
            nn.Linear(spec.features, spec.feedforward),
            nn.ReLU(),
            nn.Dropout(spec.attention_dropout),
            nn.Linear(spec.feedforward, spec.features),
        )
        self.norms = nn.ModuleList(nn.LayerNorm(spec.features) for _ in range(2))
        self.dropout = nn.Dropout(spec.attention_dropout)

    def forward(self, tokens: Tensor, places: Tensor) -> Tensor:
        """Tokens (b, n, features) and their places (n, features) -> tokens."""
        placed = tokens + places
        tokens = self.norms[0](tokens + self.dropout(self.attention(placed, placed, tokens, need_weights=False)[0]))
        after: Tensor = self.norms[1](tokens + self.dropout(self.feedforward(tokens)))
        return after


class SetDecoderLayer(nn.Module):
    """Attention among queries, attention to the encoder's tokens and a feed-forward layer, each with a norm behind it.

    Args:
        spec: Features, heads, hidden units and dropout.
    """

    def __init__(self, spec: DETRSpec) -> None:
        super().__init__()
        self.own = SetEncoderLayer(spec)
        self.to_image = nn.MultiheadAttention(
            spec.features, spec.attention_heads, spec.attention_dropout, batch_first=True
        )
        self.image_norm = nn.LayerNorm(spec.features)

    def forward(self, held: Tensor, queries: Tensor, tokens: Tensor, places: Tensor) -> Tensor:
        """What queries hold (b, q, features), the queries, the image's tokens and places -> what queries hold."""
        own, asked = self.own, held + queries
        held = own.norms[0](held + own.dropout(own.attention(asked, asked, held, need_weights=False)[0]))
        seen = self.to_image(held + queries, tokens + places, tokens, need_weights=False)[0]
        held = self.image_norm(held + own.dropout(seen))
        after: Tensor = own.norms[1](held + own.dropout(own.feedforward(held)))
        return after


class SetHead(nn.Module):
    """The last map -> classes and boxes of all queries, after each layer of the decoder.

    Args:
        spec: What the user chose.
        channels: Of the map.
        classes: Classes of objects.
    """

    def __init__(self, spec: DETRSpec, channels: int, classes: int) -> None:
        super().__init__()
        features = spec.features
        self.projection = nn.Conv2d(channels, features, 1)
        self.queries = nn.Parameter(torch.randn(spec.queries, features))
        self.encoder = nn.ModuleList(SetEncoderLayer(spec) for _ in range(spec.layers))
        self.decoder = nn.ModuleList(SetDecoderLayer(spec) for _ in range(spec.layers))
        self.norm = nn.LayerNorm(features)
        self.classes = nn.Linear(features, classes + 1)
        self.box = nn.Sequential(
            nn.Linear(features, features), nn.ReLU(), nn.Linear(features, features), nn.ReLU(), nn.Linear(features, 4)
        )
        for parameter in (*self.encoder.parameters(), *self.decoder.parameters()):
            if parameter.ndim > 1:
                nn.init.xavier_uniform_(parameter)

    def forward(self, map_bchw: Tensor) -> tuple[Tensor, Tensor]:
        """(b, c, h, w) -> scores (layers, b, q, classes + 1) and boxes (layers, b, q, 4): middle and sides, 0 to 1."""
        map_bchw = self.projection(map_bchw)
        tokens = map_bchw.flatten(2).transpose(1, 2)
        height, width = map_bchw.shape[2:]
        places = box_encoding(height, width, map_bchw.shape[1], tokens)
        for layer in self.encoder:
            tokens = layer(tokens, places)
        queries = self.queries.to(tokens.dtype)
        held, all_held = torch.zeros_like(queries).expand(len(tokens), -1, -1), []
        for layer in self.decoder:
            held = layer(held, queries, tokens, places)
            all_held.append(self.norm(held))
        every = torch.stack(all_held)
        return self.classes(every), self.box(every).sigmoid()


def corners(boxes: Tensor) -> Tensor:
    """Boxes as middle and sides -> left, top, right, bottom, (…, 4) both.

    Args:
        boxes: In any unit.
    """
    middle, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([middle - half, middle + half], -1)


def generalised_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Generalised overlap of each box with each other one: (n, 4) and (m, 4) corners -> (n, m), from -1 to 1.

    Args:
        boxes: Left, top, right, bottom.
        others: Likewise.

    Source:
        Rezatofighi et al. 2019, "Generalized Intersection over Union", equation in section 3.
    """
    own, other = boxes[:, None], others[None]
    areas = [(part[..., 2:] - part[..., :2]).clamp(min=0).prod(-1) for part in (own, other)]
    shared = (torch.minimum(own[..., 2:], other[..., 2:]) - torch.maximum(own[..., :2], other[..., :2])).clamp(min=0)
    intersection = shared.prod(-1)
    union = areas[0] + areas[1] - intersection
    around = torch.maximum(own[..., 2:], other[..., 2:]) - torch.minimum(own[..., :2], other[..., :2])
    hull = around.prod(-1).clamp(min=1e-9)
    return intersection / union.clamp(min=1e-9) - (hull - union) / hull


class DETR(Detector):
    """(b, c, h, w) -> losses, or boxes.

    Args:
        spec: What the user chose.
        data_spec: The images and classes that it is for.
    """

    def __init__(self, spec: DETRSpec, data_spec: DataSpec) -> None:
        maps = detector_maps(spec, data_spec, 1)[-1:]
        super().__init__(backbone_of(spec, data_spec), maps, frozen_norms=spec.frozen_norms)
        self._spec, self._classes = spec, data_spec.num_classes
        self.head = SetHead(spec, maps[0].channels, data_spec.num_classes)

    def forward(self, x_bchw: Tensor, targets: Sequence[Target] | None = None) -> Any:
        """Images, and in train mode their targets -> losses by name, or boxes of each image."""
        scores, boxes = self.head(next(reversed(self.encode(x_bchw).values())))
        if x_bchw.is_meta:
            return torch.cat([scores.flatten(), boxes.flatten()])
        sides = x_bchw.new_tensor([x_bchw.shape[3], x_bchw.shape[2]] * 2)
        if self.training and targets is not None:
            return self._losses(scores.float(), boxes.float(), [self._scaled(target, sides) for target in targets])
        return [self._predicted(*of_image, sides) for of_image in zip(scores[-1], boxes[-1], strict=True)]

    @staticmethod
    def _scaled(target: Target, sides: Tensor) -> Target:
        shares = target["boxes"] / sides
        left_top, right_bottom = shares[:, :2], shares[:, 2:]
        middles = torch.cat([(left_top + right_bottom) / 2, right_bottom - left_top], -1)
        return {"boxes": middles, "labels": target["labels"]}

    def _predicted(self, scores: Tensor, boxes: Tensor, sides: Tensor) -> Target:
        best, labels = scores.softmax(-1)[:, :-1].max(-1)
        order = best.argsort(descending=True, stable=True)[: self._spec.max_detections]
        order = order[best[order] >= self._spec.score_threshold]
        inside = corners(boxes[order]).clamp(0, 1) * sides
        return {"boxes": inside, "scores": best[order], "labels": labels[order]}

    def _losses(self, scores: Tensor, boxes: Tensor, targets: Sequence[Target]) -> dict[str, Tensor]:
        """The parts of the loss, each summed over the layers of the decoder that learn."""
        objects = max(sum(len(target["labels"]) for target in targets), 1)
        layers = range(len(scores)) if self._spec.auxiliary_losses else [len(scores) - 1]
        parts = {name: scores.sum() * 0 + boxes.sum() * 0 for name in ("loss_class", "loss_corners", "loss_overlap")}
        for layer in layers:
            pairs = [self._matched(*of_image) for of_image in zip(scores[layer], boxes[layer], targets, strict=True)]
            expected = torch.full(scores.shape[1:3], self._classes, device=scores.device)
            for row, (queries, truths) in enumerate(pairs):
                expected[row, queries] = targets[row]["labels"][truths]
            weights = scores.new_ones(self._classes + 1)
            weights[-1] = self._spec.no_object_weight
            by_class = functional.cross_entropy(scores[layer].transpose(1, 2), expected, weights)
            parts["loss_class"] = parts["loss_class"] + CLASS_COST * by_class
            for row, (queries, truths) in enumerate(pairs):
                mine, true = boxes[layer, row, queries], targets[row]["boxes"][truths]
                overlap = generalised_iou(corners(mine), corners(true)).diagonal()
                distance = functional.l1_loss(mine, true, reduction="sum")
                parts["loss_corners"] = parts["loss_corners"] + CORNER_COST * distance / objects
                parts["loss_overlap"] = parts["loss_overlap"] + OVERLAP_COST * (1 - overlap).sum() / objects
        return parts

    @torch.no_grad()
    def _matched(self, scores: Tensor, boxes: Tensor, target: Target) -> tuple[Tensor, Tensor]:
        """Which query is matched with which object, so that all pairs together cost least."""
        from scipy.optimize import linear_sum_assignment

        by_class = -scores.softmax(-1)[:, target["labels"]]
        cost = (
            CLASS_COST * by_class
            + CORNER_COST * torch.cdist(boxes, target["boxes"], p=1)
            - OVERLAP_COST * generalised_iou(corners(boxes), corners(target["boxes"]))
        )
        pairs = linear_sum_assignment(np.nan_to_num(cost.double().cpu().numpy(), nan=1e9))
        queries, truths = (torch.as_tensor(side, device=boxes.device) for side in pairs)
        return queries, truths


def build(spec: DETRSpec, data_spec: DataSpec) -> DETR:
    """The detector of ``spec``: images and targets -> losses, images -> boxes.

    Args:
        spec: What the user chose.
        data_spec: The images and classes that it is for.

    Raises:
        UserError: The backbone makes no maps of such images.
    """
    return DETR(spec, data_spec)
