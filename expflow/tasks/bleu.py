"""BLEU (Papineni et al. 2002, "BLEU: a Method for Automatic Evaluation of Machine Translation"), as sacrebleu has it.

Counts of a batch add up to those of a split, over batches and ranks, so the score is that of the whole split. Words are
those of mteval-v13a, the score's usual tokenizer; an order of n-grams without a match counts half of one, then a
quarter, and so on (its smoothing ``exp``). The package itself is not needed for this, and takes seconds to import what
it is checked against.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

ORDER = 4
"""Words of the longest n-grams."""

_SPLITS = (
    (re.compile(r"([{-~\[-` -&(-+:-@/])"), r" \1 "),
    (re.compile(r"([^0-9])([.,])"), r"\1 \2 "),
    (re.compile(r"([.,])([^0-9])"), r" \1 \2"),
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),
)
"""Where mteval-v13a puts spaces: around punctuation, but not within numbers."""


def words_of(text: str) -> list[str]:
    """The words and punctuation marks of a text.

    Args:
        text: The text.
    """
    text = f" {text} "
    for pattern, replacement in _SPLITS:
        text = pattern.sub(replacement, text)
    return text.split()


def _n_grams(words: Sequence[str], order: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[place : place + order]) for place in range(len(words) - order + 1))


def bleu_counts(written: str, right: str) -> list[int]:
    """2 * ORDER + 2 numbers: of each order the n-grams that are right, and all of them; the words of both texts.

    Args:
        written: The text that is judged.
        right: The text that it should be.

    Source:
        Papineni et al. 2002, section 2.1: an n-gram is right no more often than it occurs in the right text.
    """
    ours, theirs = words_of(written), words_of(right)
    matches, totals = [], []
    for order in range(1, ORDER + 1):
        n_grams = _n_grams(ours, order)
        matches.append((n_grams & _n_grams(theirs, order)).total())
        totals.append(n_grams.total())
    return [*matches, *totals, len(ours), len(theirs)]


def bleu(counts: Tensor) -> Tensor:
    """() the score, from 0 to 100, of summed :func:`bleu_counts`.

    Args:
        counts: (2 * ORDER + 2,).

    Source:
        Papineni et al. 2002, section 2.3.
    """
    counts = counts.double()
    matches, totals, (ours, theirs) = counts[:ORDER], counts[ORDER : 2 * ORDER], counts[2 * ORDER :]
    halvings = 0.5 ** (matches == 0).cumsum(0)
    shares = torch.where(matches > 0, matches, halvings) / totals.clamp(min=1)
    brevity = (1 - theirs / ours.clamp(min=1)).clamp(max=0).exp()
    score = 100 * brevity * shares.log().mean().exp()
    return torch.where((totals > 0).all() & (matches > 0).any(), score, 0.0)
