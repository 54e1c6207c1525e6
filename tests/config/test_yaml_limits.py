"""Files that are no experiments: each is refused at once, in few words, whatever its size, depth or errors."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from expflow.config import load, load_site
from expflow.config.component_argument import parse_component
from expflow.config.inheritance import MAX_EXTENDS
from expflow.config.yaml_reader import MAX_VALUES, parse
from expflow.errors import MAX_PROBLEMS, ExperimentInvalid, Problem, UserError
from expflow.files import read_bounded
from tests.config.files import BASE, loaded, problems, write
from tests.fuzz.bounds import within_bounds

SCRIPTED = "task: scripted\ntrainer: {epochs: 1}\n"


def refused(path: Path) -> str:
    with pytest.raises(ExperimentInvalid) as error, within_bounds(str(path)):
        load(path)
    return str(error.value)


# extends


@pytest.mark.parametrize("times", [2, 3])
def test_a_file_that_is_named_again_and_again_is_read_once(tmp_path, times, monkeypatch):
    for number in range(24):
        names = ", ".join([f"f{number + 1}.yaml"] * times)
        write(tmp_path, f"extends: [{names}]\n" if number < 23 else SCRIPTED, f"f{number}.yaml")
    files = []

    def counted(path, most):
        files.append(path.name)
        return read_bounded(path, most)

    monkeypatch.setattr("expflow.config.yaml_reader.read_bounded", counted)
    with within_bounds("a tower of extends"):
        assert load(tmp_path / "f0.yaml").experiment.trainer.epochs == 1
    assert sorted(files) == sorted(f"f{number}.yaml" for number in range(24))


def test_the_order_of_extends_counts_also_where_a_file_is_named_twice(tmp_path):
    write(tmp_path, "trainer: {epochs: 3}\n", "a.yaml")
    write(tmp_path, "trainer: {epochs: 4}\n", "b.yaml")
    for names, epochs in (("a.yaml, b.yaml, a.yaml", 3), ("a.yaml, a.yaml, b.yaml", 4)):
        text = f"extends: [{names}]\ntask: scripted\n"
        assert loaded(tmp_path, text).experiment.trainer.epochs == epochs


def test_a_file_on_two_ways_is_no_circle(tmp_path):
    write(tmp_path, SCRIPTED, "base.yaml")
    write(tmp_path, "extends: base.yaml\n", "left.yaml")
    write(tmp_path, "extends: base.yaml\n", "right.yaml")
    assert loaded(tmp_path, "extends: [left.yaml, right.yaml]\n").experiment.task.name == "scripted"
    write(tmp_path, "extends: exp.yaml\n", "left.yaml")
    (problem,) = problems(tmp_path, "extends: [left.yaml, right.yaml]\n")
    assert "files extend each other in a circle: exp.yaml -> left.yaml -> exp.yaml" in problem


def test_a_long_chain_and_a_long_list_of_extends_are_refused(tmp_path):
    for number in range(2000):
        write(tmp_path, f"extends: f{number + 1}.yaml\n", f"f{number}.yaml")
    assert f"extends: more than {MAX_EXTENDS} entries in all files" in refused(tmp_path / "f0.yaml")
    write(tmp_path, SCRIPTED, "base.yaml")
    write(tmp_path, f"extends: [{', '.join(['base.yaml'] * 5000)}]\n")
    assert "more than 100 entries" in refused(tmp_path / "exp.yaml")


def test_what_files_hand_on_is_bounded(tmp_path):
    values = ", ".join(map(str, range(20_000)))
    write(tmp_path, f"{SCRIPTED}about: {{time: x}}\nmodel: {{layout: [{values}]}}\n", "large.yaml")
    write(tmp_path, "extends: [large.yaml, large.yaml, large.yaml]\n")
    assert "keys and values in the files that are extended" in refused(tmp_path / "exp.yaml")


# Size, count and depth


@pytest.mark.parametrize(
    "text",
    [
        "".join(f"k{number}: 1\n" for number in range(100_000)),
        "a: [" + "1," * 400_000 + "1]\n",
        "a: [" + "{}," * 300_000 + "1]\n",
        "? a\n" * 200_000,
        "- 1\n" * 250_000,
        "a: {" * 100_000,
        "[" * 1_000_000,
        "&a " * 300_000,
        "a: *b\n" * 100_000,
        "a: !x 1\n" * 100_000,
        '"' + "a" * 1_000_000 + '": 1\n',
        "a: " + "9" * 1_000_000 + "\n",
        "# comment\n" * 100_000,
        "\n" * 1_000_000,
        " " * 1_000_000,
        "'" * 1_000_000,
        "a" * 1_000_000,
        "a: |\n" + " b\n" * 300_000,
        "%TAG ! x\n" * 100_000,
        "--- a\n" * 150_000,
    ],
    ids=lambda text: ascii(text[:12]),
)
def test_a_file_of_a_megabyte_is_refused_in_few_words(tmp_path, text):
    (tmp_path / "exp.yaml").write_text(text)
    assert len(refused(tmp_path / "exp.yaml")) < 200_000


def test_a_few_of_many_problems_are_shown_and_the_others_counted(tmp_path):
    write(tmp_path, SCRIPTED + "".join(f"key{number}: 1\n" for number in range(5000)))
    lines = refused(tmp_path / "exp.yaml").splitlines()
    assert len(lines) == MAX_PROBLEMS + 1
    assert "key0: unknown key" in lines[0]
    assert lines[-1] == "and at least 1 more"
    arguments = ", ".join(f"key{number}: 1" for number in range(5000))
    write(tmp_path, BASE.replace("depth: 20", f"depth: 20, {arguments}"))
    assert len(refused(tmp_path / "exp.yaml").splitlines()) == MAX_PROBLEMS + 1


def test_a_problem_of_a_megabyte_is_shortened():
    shown = str(Problem("f", 1, 1, "k" * 10**6, "m" * 10**6))
    assert len(shown) < 4000
    assert shown.startswith("f:1:1: kkk")


def test_many_values_are_refused_by_their_number():
    with pytest.raises(ExperimentInvalid, match=f"f:1:.*more than {MAX_VALUES:,} keys and values"):
        parse("a: [" + "1," * MAX_VALUES + "1]\n", "f")


@pytest.mark.parametrize("key", [".".join("a" * 5000), "trainer." + ".".join("b" * 5000), "." * 5000])
def test_a_setting_of_many_parts_is_refused(tmp_path, key):
    with pytest.raises(UserError), within_bounds(key[:20]):
        load(write(tmp_path, SCRIPTED), [f"{key}=1"])
    with pytest.raises(UserError), within_bounds(key[:20]):
        parse_component("model", "resnet", [f"{key}=1"], tmp_path)


# What is no text, and what is no file


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('a: "\\UFFFFFFFF"\n', "not YAML behind this place"),
        ('a: "x\\0y"\n', r"expected text, found the character \0"),
        ('"x\\0y": 1\n', r"expected text, found the character \0"),
        ('extends: "x\\0y"\n', r"expected text, found the character \0"),
        ("%YAML 1.99999999999999999999\n---\na: 1\n", "exp.yaml:"),
    ],
)
def test_odd_characters_are_refused_with_their_place(tmp_path, text, message):
    (tmp_path / "exp.yaml").write_text(text)
    assert message in refused(tmp_path / "exp.yaml")


def test_pipes_and_devices_are_no_files(tmp_path):
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "zero.yaml").symlink_to("/dev/zero")
    (tmp_path / "folder.yaml").mkdir()
    for name, reason in (("pipe", "a pipe"), ("zero", "a device"), ("folder", "a folder")):
        assert f"it is {reason} and no file" in refused(tmp_path / f"{name}.yaml")
        write(tmp_path, f"extends: {name}.yaml\n")
        assert f"exp.yaml:1:10: extends: it is {reason} and no file" in refused(tmp_path / "exp.yaml")


def test_a_site_file_has_the_same_limits(tmp_path):
    (tmp_path / "expflow.site.yaml").write_text("".join(f"k{number}: 1\n" for number in range(100_000)))
    with pytest.raises(ExperimentInvalid, match="keys and values"), within_bounds("site"):
        load_site(tmp_path, {"HOME": str(tmp_path)})
    (tmp_path / "expflow.site.yaml").unlink()
    os.mkfifo(tmp_path / "expflow.site.yaml")  # no file, and so no settings
    assert load_site(tmp_path, {"HOME": str(tmp_path)}).storage


# Numbers


@pytest.mark.parametrize(
    ("model", "key"),
    [
        ("{name: resnet, depth: 2000000000}", "depth"),
        ("{name: resnet, depth: 2000000001}", "depth"),
        ("{name: resnet, depth: 20, width: 2000000000000}", "width"),
        ("{name: resnet, layout: [2000000000]}", "layout.0"),
        ("{name: resnet, layout: [{blocks: 2000000000}]}", "layout.0.blocks"),
        ("{name: densenet, depth: 2000000002}", "depth"),
        ("{name: densenet, layout: [1, 2000000000]}", "layout.1"),
        ("{name: vgg, stages: [[2000000000, 1]]}", "stages"),
        ("{name: googlenet, modules: [1, 1, 2000000000]}", "modules.2"),
        ("{name: mlp, depth: 2000000000}", "depth"),
        ("{name: vit, depth: 2000000000}", "depth"),
        ("{name: vit, width: 2000000000, heads: 7}", "width"),
        ("{name: mixer, depth: 2000000000}", "depth"),
        ("{name: convmixer, depth: 2000000000}", "depth"),
        ("{name: gmlp, depth: 2000000000}", "depth"),
        ("{name: mobilenet_v1, depth: 2000000000}", "depth"),
    ],
)
def test_numbers_that_no_network_has_are_refused_when_the_file_is_read(tmp_path, model, key):
    write(tmp_path, BASE.replace("{name: resnet, depth: 20}", model))
    assert f"model.{key}: " in refused(tmp_path / "exp.yaml")


@pytest.mark.parametrize(
    "line",
    [
        "trainer: {epochs: 2000000000}",
        "resources: {ranks: 2000000000}",
        "resources: {cpus_per_rank: 2000000000}",
        "trainer: {image_sizes: [[0, 2000000000]]}",
        "data: {name: digits, workers: 2000000000}",
        "sweep: {seeds: 2000000000}",
        "sweep: {space: {optimizer.lr: [0.1]}, searcher: {name: random, trials: 2000000000}}",
        "sweep: {space: {trainer.accumulate: {int: [1, 2000000000]}}}",
    ],
)
def test_other_numbers_have_bounds_too(tmp_path, line):
    key = line.split(":")[0]
    write(tmp_path, "".join(f"{row}\n" for row in BASE.splitlines() if not row.startswith(key)) + line + "\n")
    refused(tmp_path / "exp.yaml")
