"""What cannot be built is refused by `plan`: where, why, and the nearest legal value."""

import pytest

from expflow import cli
from expflow.architectures import count
from expflow.architectures.catalogue import image_data_spec
from expflow.errors import UserError
from expflow.registry import MODELS

GROUPS = "3 groups do not divide the 16, 32, 64 channels of the stages; nearest: 2 and 4"
NOTHING_LEFT = "its convolutions and pooling would leave nothing of them; the smallest that it takes"


@pytest.mark.parametrize(
    ("model", "column", "message"),
    [
        ("{name: vit, patch: 2, width: 512, heads: 6}", 49, "6 heads do not divide a width of 512; nearest: 4 and 8"),
        ("{name: resnet, depth: 11, block: bottleneck, groups: 3}", 61, f"groups: {GROUPS}"),
        ("{name: shufflenet_v1, groups: 5}", 38, "groups: expected 1, 2, 3, 4 or 8, found 5"),
        ("alexnet", 8, f"model alexnet cannot take images of 8x8 pixels: {NOTHING_LEFT}: 67x67"),
        ("{name: vgg, layers: 16}", 8, f"model vgg cannot take images of 8x8 pixels: {NOTHING_LEFT}: 32x32"),
        ("{name: vit, patch: 3}", 8, "patches of 3x3 pixels do not tile an image of 8x8; nearest: 2 and 4"),
        ("squeezenet", 8, "model squeezenet cannot take this data (1x8x8): RuntimeError: Given input size"),
        ("squeezenet", 8, "; nearest legal size: 21x21 (data.image_size: 21)"),
        ("{name: timm/vit_tiny_patch16_224, patch_size: 4, num_heads: 5}", 8, "; nearest legal num_heads: 4 and 6"),
    ],
)  # fmt: skip
def test_plan_refuses_with_place_reason_and_the_nearest_legal_value(
    model, column, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EXPFLOW_CACHE", str(tmp_path / "cache"))
    (tmp_path / "exp.yaml").write_text(f"data: digits\nmodel: {model}\ntask: classification\noptimizer: sgd\n")
    with pytest.raises(SystemExit) as left:
        cli.main(["plan", "exp.yaml", "--no-time"])
    assert left.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith(f"error: exp.yaml:2:{column}: model")
    assert message in err


@pytest.mark.parametrize(
    ("name", "arguments", "size", "nearest"),
    [
        ("inception_v3", {}, 70, "size: 75x75"),
        ("torchvision/alexnet", {}, 32, "size: 63x63"),
        ("convnext", {}, 8, "size: 32x32"),
        ("mvit_v2", {}, 8, "size: 32x32"),
        ("timm/levit_128s", {}, 100, "size: 96x96"),  # its tables of positions are for multiples of 16
        ("timm/vit_tiny_patch16_224", {"embed_dim": 190}, 32, "embed_dim: 189 and 192"),
    ],
)
def test_the_value_that_a_refused_network_of_a_package_is_told_is_legal_and_near(name, arguments, size, nearest):
    make = MODELS.spec(name)
    with pytest.raises(UserError, match=f"; nearest legal {nearest}"):
        count(make(name=name, **arguments), image_data_spec((3, size, size), 7))
    key, _, values = nearest.partition(": ")
    for value in values.split(" and "):
        if key == "size":
            legal = int(value.partition("x")[0])
            assert count(make(name=name, **arguments), image_data_spec((3, legal, legal), 7)).macs
        else:
            assert count(make(name=name, **{key: int(value)}), image_data_spec((3, size, size), 7)).macs


def test_a_package_that_cannot_be_helped_says_its_own_reason():
    spec = MODELS.spec("timm/resnet18")(name="timm/resnet18", act_layer="nosuch")
    with pytest.raises(UserError, match="cannot be built") as raised:
        count(spec, image_data_spec((3, 32, 32), 7))
    assert "nearest" not in str(raised.value)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("{name: resnet, layout: cifar, depth: 2000000000}", "at most"),
        ("{name: vit, patch: 4, width: 8, heads: 2, depth: 1000000000}", "at most"),
        ("{name: resnet, layout: [10000, 1]}", "more than 2,000 modules and parameters"),
        ("{name: densenet, layout: [10000, 10000]}", "more than 2,000 modules and parameters"),
    ],
)
def test_a_network_of_too_many_parts_is_refused(model, message, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("expflow.architectures.size_limit.MAX_PARTS", 2_000)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EXPFLOW_CACHE", str(tmp_path / "cache"))
    (tmp_path / "exp.yaml").write_text(f"data: digits\nmodel: {model}\ntask: classification\noptimizer: sgd\n")
    with pytest.raises(SystemExit) as left:
        cli.main(["plan", "exp.yaml", "--no-time", "--no-check"])
    err = capsys.readouterr().err
    assert left.value.code == 2, err
    assert err.startswith("error: exp.yaml:2:"), err
    assert message in err, err
