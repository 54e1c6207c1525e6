"""What a sequence model reads while it writes: the attention of its last decoder layer to the source, between words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from expflow.architectures.attention import MultiHeadAttention
from expflow.architectures.transformer import SOURCE, TARGET, Transformer
from expflow.data.kinds.text import END, PAD, START
from expflow.errors import UserError
from expflow.tasks.generation import generated
from expflow.training.evaluation.attention_maps import attention_weights
from expflow.training.evaluation.evaluator import Evaluator, Weights
from expflow.training.evaluation.top_patches import network_of

TEXTS = 4
"""Texts that are shown."""


@dataclass(frozen=True)
class TextAttention:
    """The attention of one written text to the one that was read.

    Attributes:
        source: What was read, in words, or in characters where one of the texts is a single word; the end is `·`.
        written: What the network wrote, likewise, without its end.
        weights: (written, source), the mean over heads; each row adds up to 1.
    """

    source: tuple[str, ...]
    written: tuple[str, ...]
    weights: NDArray[np.float64]


def text_attention(evaluator: Evaluator, weights: Weights, split: str = "val") -> tuple[TextAttention, ...]:
    """The attention of a trained sequence model to the first texts of a split.

    Args:
        evaluator: Holds network and data.
        weights: The trained weights.
        split: Whose texts are read.

    Raises:
        UserError: The network is no transformer from one text to another, or writes nothing for any of the texts.
    """
    evaluator.put_weights(weights, "these weights")
    network = network_of(evaluator.task)
    if not isinstance(network, Transformer):
        raise UserError(f"this network is {type(network).__name__}, and no transformer that writes texts")
    evaluator.task.eval()
    batch: Any = next(iter(evaluator.batches(split)))
    fields = evaluator.data_spec.fields
    read = batch[SOURCE][:TEXTS].cpu()
    with torch.no_grad():
        wrote = generated(network, read, fields[TARGET].shape[0])
        seen = _source_attention(network, read, wrote)
    words, answers = fields[SOURCE].vocabulary, fields[TARGET].vocabulary
    drawn = [_of_text(read[at], wrote[at], seen[at], words, answers) for at in range(len(read))]
    if not any(text.written for text in drawn):
        raise UserError("the network writes nothing for the first texts of val, so there is no attention to draw")
    return tuple(text for text in drawn if text.written)


def _source_attention(network: Transformer, read_bs: Tensor, wrote_bt: Tensor) -> Tensor:
    """(b, t, s), the mean over heads, of the last layer."""
    layer: Any = network.decoder[-1]
    attention: MultiHeadAttention = layer.source_attention
    kept: list[Tensor] = []

    def look(module: Any, args: tuple[Tensor, ...]) -> None:
        kept.append(attention_weights(module, *args).mean(1))

    handle = attention.register_forward_pre_hook(look)
    try:
        network(read_bs, torch.cat([torch.full_like(wrote_bt[:, :1], START), wrote_bt[:, :-1]], 1))
    finally:
        handle.remove()
    return kept[0]


def _of_text(
    read_s: Tensor, wrote_t: Tensor, weights_ts: Tensor, words: Sequence[str], answers: Sequence[str]
) -> TextAttention:
    source = [words[token] if token != END else "·" for token in read_s.tolist() if token != PAD]
    written = [answers[token] for token in wrote_t.tolist() if token not in (END, PAD)]
    weights = weights_ts[: len(written), : len(source)].double().numpy()
    if " " not in source[:-1] or " " not in written:
        return TextAttention(tuple(source), tuple(written), weights)
    rows, columns = word_numbers(written), word_numbers(source[:-1])
    columns.append(columns[-1] + 1)  # the end is a word of its own
    of_words = np.zeros((rows[-1] + 1, columns[-1] + 1))
    for row, values in zip(rows, weights, strict=True):
        of_words[row] += np.bincount(columns, values, columns[-1] + 1) / rows.count(row)
    return TextAttention((*"".join(source[:-1]).split(" "), "·"), tuple("".join(written).split(" ")), of_words)


def word_numbers(characters: Sequence[str]) -> list[int]:
    """Return for each character which word it is of; a space is of the word before it.

    Args:
        characters: Of a text.
    """
    numbers, word = [], 0
    for character in characters:
        numbers.append(word)
        word += character == " "
    return numbers
