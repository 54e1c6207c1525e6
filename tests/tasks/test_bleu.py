"""BLEU against values that sacrebleu gives, worked out by hand here."""

from __future__ import annotations

import math

import pytest
import torch

from expflow.tasks.bleu import bleu, bleu_counts, words_of


def score(*pairs: tuple[str, str]) -> float:
    counts = torch.tensor([bleu_counts(*pair) for pair in pairs]).sum(0)
    return float(bleu(counts))


def test_words_are_those_of_mteval() -> None:
    assert words_of("A fish, 3.5 m long.") == ["A", "fish", ",", "3.5", "m", "long", "."]
    assert words_of("2000-01-01") == ["2000", "-", "01", "-", "01"]
    assert words_of("don't (stop)/go") == ["don't", "(", "stop", ")", "/", "go"]


def test_counts_are_clipped() -> None:
    # Papineni et al. 2002, example 2: "the" is right twice, not seven times
    assert bleu_counts("the the the the the the the", "the cat is on the mat")[:5] == [2, 0, 0, 0, 7]
    assert bleu_counts("there is a cat on the mat", "the cat is on the mat") == [5, 2, 1, 0, 7, 6, 5, 4, 7, 6]


def test_the_score_is_the_geometric_mean_with_a_brevity_penalty() -> None:
    assert score(("a b c d e", "a b c d e")) == pytest.approx(100)
    # 3/4 words, 2/3, 1/2 and none of one, which counts half: no brevity penalty
    expected = 100 * (3 / 4 * 2 / 3 * 1 / 2 * 0.5 / 1) ** 0.25
    assert score(("a b c x", "a b c d")) == pytest.approx(expected)
    # all n-grams right, but four words in the place of six
    assert score(("a b c d", "a b c d e f")) == pytest.approx(100 * math.exp(1 - 6 / 4))
    # "2000 - 01 - 01" beside "2000 - 01 - 02" and a text that is missing: 4/5, 3/4, 2/3, 1/2 and 7 words to be written
    shares = 4 / 5 * 3 / 4 * 2 / 3 * 1 / 2
    assert score(("2000-01-01", "2000-01-02"), ("", "a b")) == pytest.approx(100 * math.exp(1 - 7 / 5) * shares**0.25)


def test_two_orders_without_a_match_count_a_half_and_a_quarter() -> None:
    expected = 100 * (2 / 4 * 1 / 3 * (0.5 / 2) * (0.25 / 1)) ** 0.25
    assert score(("a b x y", "a b c d")) == pytest.approx(expected)


@pytest.mark.parametrize("pair", [("", "a b c d"), ("a b c", "a b c"), ("w x y z", "a b c d")])
def test_nothing_right_and_nothing_of_four_words_is_zero(pair: tuple[str, str]) -> None:
    assert score(pair) == 0.0
