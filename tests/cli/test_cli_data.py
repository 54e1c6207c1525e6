"""What a newcomer types about data, and what is answered: shards of others, wrong names, damage."""

from pathlib import Path

import pytest
from PIL import Image

from expflow.cli import main
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
