"""Sequences: the paper's size, what masks hide, beam search against all texts, dates and their tokens."""

from __future__ import annotations

import itertools
import re
from datetime import date
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from expflow.architectures import build, count
from expflow.architectures.catalogue import text_data_spec
from expflow.architectures.transformer import Transformer
from expflow.data.dataspec import DataSpec, FieldSpec
from expflow.data.kinds import field_value
from expflow.data.kinds.text import END, PAD, SPECIAL, START, text_field, text_of, vocabulary_of
from expflow.data.sources.written_dates import FORMS, open_written_dates, written
from expflow.errors import UserError
from expflow.registry import MODELS, SOURCES
from expflow.tasks.generation import generated
from tests.architectures.nets import data

VOCABULARY = (*SPECIAL, "a", "b")
TEXTS = DataSpec({"source": text_field(VOCABULARY, 5), "target": text_field(VOCABULARY, 3)})


def small(seed: int = 0, **keys: Any) -> Transformer:
    torch.manual_seed(seed)
    chosen = {"width": 8, "depth": 2, "heads": 2, "hidden": 8, "dropout": 0.0, **keys}
    network = build(MODELS.spec("transformer")(name="transformer", **chosen), TEXTS)
    assert isinstance(network, Transformer)
    return network.eval()


@pytest.mark.parametrize(
    ("keys", "without_embeddings"),
    [({}, 44_138_496), ({"width": 1024, "heads": 16, "hidden": 4096}, 214_245_376 - 37_000 * 1024)],
)
def test_the_papers_networks_have_the_papers_parameters(keys: dict[str, int], without_embeddings: int) -> None:
    spec = MODELS.spec("transformer")(name="transformer", **keys)
    embeddings = 3 * 37_000 * spec.width + 37_000  # of source and target, and the head with its bias
    assert count(spec, text_data_spec()).params - embeddings == without_embeddings


def test_a_token_sees_what_is_before_it_and_no_padding() -> None:
    source, target = torch.tensor([[3, 4, 3, END, PAD, PAD]]), torch.tensor([[START, 3, 4, 4]])
    for keys, sees_ahead in (({}, False), ({"causal": False}, True), ({"norm_place": "pre"}, False)):
        network = small(**keys)
        with torch.no_grad():
            scores = network(source, target)
            later = target.clone()
            later[0, 3] = 3
            assert torch.allclose(scores[:, :3], network(source, later)[:, :3], atol=1e-6) is not sees_ahead
            shorter = network(source[:, :4], target)
            assert torch.allclose(scores, shorter, atol=1e-5), "padding of the source changes nothing"


def test_without_positions_the_source_is_a_set() -> None:
    source, target = torch.tensor([[3, 4, 4, END]]), torch.tensor([[START, 3]])
    shuffled = torch.tensor([[4, END, 3, 4]])
    with torch.no_grad():
        for kind in ("none", "sine", "learned"):
            network = small(positions=kind)
            same = torch.allclose(network(source, target), network(shuffled, target), atol=1e-5)
            assert same is (kind == "none")


def likeliest(network: Transformer, source: Tensor, length: int) -> list[int]:
    """The likeliest of all texts of at most so many tokens, each of them scored whole."""
    best, most = list[int](), -float("inf")
    for size in range(1, length + 1):
        for body in itertools.product((3, 4), repeat=size):
            for text in ([*body[:-1], END], list(body)) if size == length else ([*body[:-1], END],):
                before = torch.tensor([[START, *text[:-1]]])
                logs = network(source, before).log_softmax(2)[0]
                total = sum(logs[place, token].item() for place, token in enumerate(text))
                if total > most:
                    best, most = text, total
    return best + [PAD] * (length - len(best))


@pytest.mark.parametrize("seed", range(6))
def test_as_many_beams_as_texts_find_the_likeliest_one(seed: int) -> None:
    network = small(seed)
    nn.init.normal_(network.head.weight, std=1.5)
    network.head.bias.data[PAD] = -30  # neither padding nor start are ever written
    network.head.bias.data[START] = -30
    source = torch.tensor([[3, 4, END, PAD], [4, 4, 3, END]])
    with torch.no_grad():
        expected = [likeliest(network, source[at : at + 1], 3) for at in range(2)]
        assert generated(network, source, 3, beams=64).tolist() == expected


def test_greedy_takes_the_likeliest_token_each_time_and_stops_at_the_end() -> None:
    network, source = small(3), torch.tensor([[3, 4, END, PAD], [4, 4, 3, END]])
    with torch.no_grad():
        tokens = generated(network, source, 4)
        for row in range(2):
            written_so_far = [START]
            for _ in range(4):
                scores = network(source[row : row + 1], torch.tensor([written_so_far]))[0, -1]
                scores[[PAD, START]] = -torch.inf
                written_so_far.append(PAD if END in written_so_far else int(scores.argmax()))
            assert tokens[row].tolist() == written_so_far[1:]


def test_a_text_becomes_tokens_and_again_a_text() -> None:
    field = text_field(vocabulary_of(["ab", "c"]), 4)
    assert field.vocabulary == (*SPECIAL, "a", "b", "c")
    tokens = field_value(field, "source.txt", b"cab")
    assert tokens.tolist() == [5, 3, 4, END, PAD]
    assert text_of(tokens.tolist(), field.vocabulary) == "cab"
    assert FieldSpec(field.shape, field.dtype, kind="text", vocabulary=field.vocabulary) == field
    spec = DataSpec({"source": field})
    assert DataSpec.from_json(spec.to_json()) == spec
    with pytest.raises(ValueError, match="the characters 'xy' are not in the vocabulary"):
        field_value(field, "source.txt", b"axy")
    with pytest.raises(ValueError, match="a text of 5 characters, and the manifest says 4 at most"):
        field_value(field, "source.txt", b"aaaaa")


def test_dates_are_written_in_ways_of_which_none_is_ambiguous() -> None:
    day = date(1998, 5, 3)
    assert [written(day, form) for form in range(len(FORMS))] == [
        "3 May 1998",
        "May 3, 1998",
        "Sunday, 3 May 1998",
        "May 3 1998",
        "3. May. 1998",
        "03/May/1998",
        "1998 May 3",
        "day 3 of May 1998",
    ]
    source = open_written_dates(
        SOURCES.spec("written_dates")(name="written_dates", train_dates=300, val_dates=50), None
    )
    days = [item.name for items in source.splits.values() for item in items]
    assert len(set(days)) == len(days) == 300 + 50 + 500
    for items in source.splits.values():
        for item in items:
            sample = source.read(item)
            assert re.fullmatch(r"\d{4}-\d\d-\d\d", sample["target"])
            for field in ("source", "target"):
                field_value(source.shapes[field], source.fields[field], sample[field].encode())


def test_data_without_texts_are_refused() -> None:
    spec = MODELS.spec("transformer")(name="transformer")
    with pytest.raises(UserError, match="the text fields source and target; these have image"):
        build(spec, data(3, 8, 5))
