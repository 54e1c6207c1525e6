"""Texts that a sequence model writes token by token, greedily or with several beams."""

from __future__ import annotations

import torch
from torch import Tensor

from expflow.architectures.transformer import Transformer
from expflow.data.kinds.text import END, PAD, START


def generated(model: Transformer, source_bs: Tensor, length: int, beams: int = 1) -> Tensor:
    """(b, length) tokens that the model writes for a source, END behind the last one and padding behind that.

    With one beam each token is the likeliest after those before it (greedy). With more so many beginnings are kept at
    each place, those of the largest sum of log-probabilities; one that has ended keeps its sum. The best of the last
    ones is the answer; sums are not divided by lengths.

    Args:
        model: The network, in eval mode.
        source_bs: (b, s) tokens of the sources.
        length: Most tokens, END among them.
        beams: How many beginnings are kept.
    """
    b = source_bs.shape[0]
    memory, seen = model.encoded(source_bs)
    memory, seen = (part.repeat_interleave(beams, 0) for part in (memory, seen))
    tokens = torch.full((b * beams, 1), START, device=source_bs.device)
    sums_bk = torch.full((b, beams), -torch.inf, device=source_bs.device)
    sums_bk[:, 0] = 0  # at first all beams are the same one
    for _ in range(length):
        log_nv = model.decoded(tokens, memory, seen)[:, -1].float().log_softmax(1)
        ended = ((tokens == END) | (tokens == PAD)).any(1)
        log_nv[ended] = -torch.inf  # what has ended goes on with padding, at no cost
        log_nv[:, PAD] = torch.where(ended, 0.0, -torch.inf)
        log_nv[:, START] = -torch.inf
        totals = (sums_bk[..., None] + log_nv.view(b, beams, -1)).flatten(1)
        sums_bk, best = totals.topk(beams, dim=1)
        words = log_nv.shape[1]
        rows = (torch.arange(b, device=best.device)[:, None] * beams + best // words).flatten()
        tokens = torch.cat([tokens[rows], (best % words).flatten()[:, None]], 1)
    return tokens.view(b, beams, -1)[:, 0, 1:]
