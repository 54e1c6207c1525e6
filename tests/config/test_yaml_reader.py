import math

import pytest

from expflow.config.tree import plain
from expflow.config.yaml_reader import parse, scalar
from expflow.errors import ExperimentInvalid


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E5", 1e5),
        (".5", 0.5),
        ("5.", 5.0),
        ("-3", -3),
        ("017", 17),
        ("0o17", 15),
        ("0xff", 255),
        ("no", "no"),
        ("NO", "NO"),
        ("on", "on"),
        ("12:30", "12:30"),
        ("2020-01-01", "2020-01-01"),
        ("1_000", "1_000"),
        ("true", True),
        ("~", None),
        ("", None),
        (".inf", math.inf),
        ("1.2.3", "1.2.3"),
    ],
)
def test_plain_scalars_are_those_of_yaml_1_2(text, value):
    assert scalar(text) == value
    assert type(scalar(text)) is type(value)


def test_quoted_scalars_are_text():
    assert plain(parse("a: '1'\nb: \"true\"\nc: |\n  x\n", "f")) == {"a": "1", "b": "true", "c": "x\n"}


def test_every_value_and_key_knows_its_place():
    root = parse("a:\n  b: [1, {c: x}]\n", "f.yaml")
    inner = root.items["a"].items["b"].value[1].items["c"]
    assert (inner.mark.line, inner.mark.column, inner.key_mark.column) == (2, 14, 11)


def test_an_empty_file_is_an_empty_mapping():
    assert plain(parse("", "f")) == {}
    assert plain(parse("# only a comment\n", "f")) == {}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1\n", "f:2:1: a: not YAML: expected ',' or ']', but got '<stream end>'"),
        ("a: 1\n---\nb: 2\n", "f:2:1: a second document; one file is one experiment"),
        ("a: !!python/name:os.system x\n", "f:1:4: a: expected a plain value, found the tag !!python/name:os.system; "),
        ("a: \x07\n", "f:1:4: not YAML: the character '\\x07' is not allowed"),
        ("? [1]\n: 2\n", "f:1:3: expected a word as key, found a list or mapping"),
        ('a: "\\ud800"\n', "f:1:4: a: expected text, found half of a surrogate pair"),
        ("a: " + "[" * 5000, "f:1:33: a: nested deeper than 30 levels"),
    ],
)
def test_what_is_refused(text, message):
    with pytest.raises(ExperimentInvalid) as error:
        parse(text, "f")
    assert message in str(error.value)


def test_an_alias_bomb_is_not_expanded():
    bomb = "a: &a [x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(20)
    )
    with pytest.raises(ExperimentInvalid, match="alias"):
        parse(bomb, "f")


def test_numbers_of_many_digits_stay_text():
    assert isinstance(scalar("9" * 5000), str)
