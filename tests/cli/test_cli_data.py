"""What a newcomer types about data, and what is answered: shards of others, wrong names, damage."""

import json
import re
from pathlib import Path

import jsonschema
import pytest
from PIL import Image

from expflow.cli import main
from expflow.cli.documents.schemas import document_schema
from tests.data.photographs import jpeg
from tests.data.tiny import tar_of


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))
    monkeypatch.setenv("EXPFLOW_CACHE", str(tmp_path / "cache"))

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            main([*map(str, arguments)])
        printed = capsys.readouterr()
        return ended.value.code or 0, printed.out, printed.err

    return run


@pytest.fixture
def shards(tmp_path):
    """Someone else's shards, of images that differ in size."""
    (tmp_path / "theirs").mkdir()
    members = {}
    for number, size in enumerate([(32, 20), (20, 32), (48, 48)]):
        members |= {f"{number:02d}.jpg": jpeg(size=size), f"{number:02d}.cls": b"%d" % (number % 2)}
    (tmp_path / "theirs" / "train-000.tar").write_bytes(tar_of(members))
    return tmp_path / "theirs"


def test_shards_of_others_are_looked_at_as_they_are(shards, call):
    code, out, err = call("data", "verify", "theirs")
    assert (code, err) == (0, "")
    assert out.endswith("every shard is as its manifest says\n")
    code, out, err = call("data", "stats", "theirs")
    assert (code, err) == (0, "")
    assert "3" in out
    code, out, err = call("data", "show", "theirs")
    assert (code, out, err) == (0, "picture  shards-train.png\n", "")
    with Image.open("shards-train.png") as sheet:
        assert sheet.size[0] > 3 * 100
    code, out, err = call("data", "build", "shards,path=theirs")
    assert (code, err) == (0, "")
    assert "3 train; 2 classes; images 3 channels, of their own sizes" in out


def test_training_from_them_asks_for_a_size(shards, call):
    Path("exp.yaml").write_text(
        "data: {name: shards, path: theirs}\nmodel: {name: resnet, layout: cifar, depth: 8}\ntask: classification\n"
        "loss: cross_entropy\noptimizer: {name: sgd, lr: 0.1}\nschedule: one_cycle\ntrainer: {epochs: 1}\n"
    )
    code, _, err = call("plan", "exp.yaml")
    assert code == 2
    assert "write data.image_size" in err


@pytest.mark.parametrize("what", ["pipe:cat x", "shards,path=pipe:cat x"])
def test_commands_are_refused(what, call):
    code, _, err = call("data", "verify", what)
    assert code == 3
    assert "pipe: this address is refused: it runs a command" in err


def test_a_name_that_is_nearly_right(call):
    code, _, err = call("data", "show", "imagnet")
    assert code == 2
    assert err.startswith("error: no data source (or file) is named 'imagnet'; did you mean 'imagenet'? known: ")


def test_damage_is_told_with_what_to_do(call):
    root, _ = call("data", "build", "digits")[1].splitlines()
    shard = next(Path(root).glob("val*.tar"))
    content = bytearray(shard.read_bytes())
    content[700] ^= 1
    shard.write_bytes(content)
    code, _, err = call("data", "verify", "digits")
    assert code == 3
    assert err.startswith(
        f"error: {root} is not what its manifest says; delete {root} and the same command builds it again\n{shard.name}"
    )


def test_a_picture_of_what_is_not_there(call, shards):
    code, _, err = call("data", "show", "theirs", "--split", "val")
    assert (code, err) == (3, "error: these data have no split 'val', only train\n")
    code, _, err = call("data", "show", "theirs", "--out", "a.jpg")
    assert (code, err) == (2, "error: --out a.jpg: expected a file that ends in .png\n")


TWO_SOURCES = """data:
  image: {name: digits, limit: 37, batch_size: 8}
  condition: {name: digits, split_seed: 1, val_fraction: 0.05, limit: 90, batch_size: 8}
model:
  to_image: {name: resnet_generator, width: 2, blocks: 1}
  to_condition: {name: resnet_generator, width: 2, blocks: 1}
  image_judge: {name: patch_discriminator, width: 2, norm: instance, layers: 1}
  condition_judge: {name: patch_discriminator, width: 2, norm: instance, layers: 1}
task: {name: cyclegan, condition: source, samples: 4}
optimizer: {name: adam, lr: 0.0001}
trainer: {epochs: 1}
"""


def test_a_file_with_several_data_slots_is_gone_through_slot_by_slot(call):
    Path("exp.yaml").write_text(TWO_SOURCES)
    code, out, err = call("data", "build", "exp.yaml")
    assert (code, err) == (0, "")
    places = [line.split(": ") for line in out.splitlines() if line.startswith(("image: ", "condition: "))]
    assert [slot for slot, _ in places] == ["image", "condition"]
    assert places[0][1] != places[1][1]
    assert all(Path(place).is_dir() for _, place in places)
    code, out, _ = call("data", "show", "exp.yaml", "--samples", "3")
    lines = out.splitlines()
    assert code == 0
    assert [line.split()[:2] for line in lines[:2]] == [["image:", "digits"], ["condition:", "digits"]]
    assert "37 train" in lines[0]
    assert "90 train" in lines[1]
    assert lines[2] == "picture  exp-train.png"
    call("data", "show", "digits", "--samples", "3")
    with Image.open("exp-train.png") as both, Image.open("digits-train.png") as one:
        assert both.size[0] == one.size[0]
        assert both.size[1] > 2 * one.size[1], "one part below the other, each under its title"
    code, out, _ = call("data", "stats", "exp.yaml")
    assert code == 0
    assert next(line.split()[:2] for line in out.splitlines() if "digits" in line) == ["image:", "digits"]
    code, out, _ = call("data", "verify", "exp.yaml")
    assert code == 0
    assert [line.partition(":")[0] for line in out.splitlines()] == ["image", "condition"]


def test_it_is_one_document_for_programs(call):
    Path("exp.yaml").write_text(TWO_SOURCES)
    document = json.loads(call("data", "show", "exp.yaml", "--json")[1])
    jsonschema.Draft202012Validator(document_schema("data_slots")).validate(document)
    assert list(document["slots"]) == ["image", "condition"]
    assert document["picture"] == "exp-train.png"
    keys = {slot: data["key"] for slot, data in document["slots"].items()}
    assert keys["image"] != keys["condition"]
    plan = json.loads(call("plan", "exp.yaml", "--no-time", "--no-check", "--json")[1])
    assert [(source["slot"], source["key"]) for source in plan["data"]] == list(keys.items())
    assert [source["samples"]["train"] for source in plan["data"]] == [37, 90]


def test_a_plan_names_each_data_source_with_its_slot(call, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    Path("exp.yaml").write_text(TWO_SOURCES)
    code, out, _ = call("plan", "exp.yaml", "--no-time", "--no-check")
    assert code == 0
    lines = [line for line in out.splitlines() if line.startswith("data")]
    assert re.fullmatch(r"data\.image: digits \w{12}: 37 train, \d+ val, \d+ test", lines[0])
    assert re.fullmatch(r"data\.condition: digits \w{12}: 90 train, \d+ val, \d+ test", lines[1])
    assert len(lines) == 2
    Path("one.yaml").write_text(
        "data: {name: digits, limit: 50}\nmodel: linear\ntask: classification\noptimizer: {name: sgd, lr: 1}\n"
        "sweep: {space: {data.limit: [50, 60]}}\n"
    )
    lines = [line for line in call("plan", "one.yaml", "--no-time", "--no-check")[1].splitlines() if "train" in line]
    assert [line.partition("train")[0].split()[-1] for line in lines if line.startswith("data:")] == ["50", "60"]


def test_what_is_wrong_with_a_source_names_its_slot(call, shards):
    Path("exp.yaml").write_text(TWO_SOURCES.replace("{name: digits, split_seed: 1,", "{name: folder, path: nowhere,"))
    for command in (("data", "show", "exp.yaml"), ("plan", "exp.yaml")):
        code, _, err = call(*command)
        assert code == 2
        assert "exp.yaml:3:" in err
        assert "data.condition.path: no " in err
    Path("exp.yaml").write_text(
        TWO_SOURCES.replace(
            "{name: digits, split_seed: 1, val_fraction: 0.05, limit: 90, batch_size: 8}",
            "{name: shards, path: theirs, batch_size: 8}",
        )
    )
    for command in (("data", "show", "exp.yaml"), ("plan", "exp.yaml")):
        code, _, err = call(*command)
        assert code == 2
        assert "data.condition: " in err
        assert "image_size" in err


@pytest.mark.parametrize("option", [("--out", "there"), ("--from", ".")])
def test_what_is_about_one_source_is_refused_of_several(call, option):
    Path("exp.yaml").write_text(TWO_SOURCES)
    code, _, err = call("data", "build", "exp.yaml", *option)
    assert code == 2
    assert f"{option[0]} is about one source, and the data are several: image (digits), condition (digits)" in err


def test_labels_of_a_classifier_are_said_to_be_the_sources_own_here(call):
    Path("exp.yaml").write_text(
        "data: {name: digits, labels_from: other/best}\nmodel: linear\ntask: classification\n"
        "optimizer: {name: sgd, lr: 1}\n"
    )
    code, out, _ = call("data", "show", "exp.yaml")
    assert code == 0
    assert "trials train on those that other/best gives to the train split (data.labels_from)" in out
