"""The commands models, models show and models compare."""

import csv
import io
import json
import subprocess
import sys

import pytest

from expflow import cli
from expflow.registry import MODELS


@pytest.fixture(autouse=True)
def _no_results_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def call(*arguments):
    with pytest.raises(SystemExit) as left:
        cli.main(["models", *arguments])
    return left.value.code


def printed(capsys, *arguments):
    assert call(*arguments) == 0
    return capsys.readouterr().out


def refused(capsys, *arguments):
    assert call(*arguments) == 2
    return capsys.readouterr().err


def test_without_a_name_all_are_listed(capsys):
    families, _, _ = printed(capsys).partition("\n\n")
    assert {line.split()[0] for line in families.splitlines()[1:]} >= set(MODELS.names())


def test_the_list_as_json_has_every_key_with_its_meaning(capsys):
    data = json.loads(printed(capsys, "--json"))
    assert [entry["name"] for entry in data["models"]] == MODELS.names()
    keys = [key for entry in data["models"] for key in entry["arguments"]]
    assert all(key["description"] for key in keys)


def test_well_known_names_are_listed_below_their_families(capsys):
    lines = " ".join(printed(capsys).split())
    assert "resnet: resnet18, resnet34, resnet50" in lines
    assert "vit: vit_ti_16, vit_s_16" in lines
    presets = json.loads(printed(capsys, "--json"))["presets"]
    assert {"name": "vgg16_bn", "component": "vgg", "arguments": {"depth": 16, "norm": "batch"}} in presets


def test_a_well_known_name_is_shown_and_its_keys_can_be_set(capsys):
    assert json.loads(printed(capsys, "show", "resnet50", "--json"))["totals"]["params"] == 25_557_032
    deeper = json.loads(printed(capsys, "show", "resnet50,depth=101", "--json"))
    assert deeper["totals"]["params"] == 44_549_160
    assert deeper["keys"]["name"] == "resnet"


def test_a_child_is_shown_with_its_configuration_string(capsys):
    out = printed(capsys, "show", "child", "--set", "layers=3x5 s1 n24, 3x3 s2 n8 +1", "--input", "1x8x8")
    assert "layer 1        Filter height: 3, Filter width: 5, Stride: 1, Num filters: 24" in out.splitlines()


def test_alexnets_table(capsys):
    out = printed(capsys, "show", "alexnet")
    lines = out.splitlines()
    first = next(line for line in lines if line.startswith("conv1"))
    assert first.split() == "conv1 Conv2d 3x227x227 11 4 0 96x55x55 1,134.4 34,944 105,415,200 11".split()  # noqa: SIM905
    assert "parameters     62,378,344" in lines
    assert "multiply-adds  1,135,256,096 (with the pools' 1,102,176: 1,136,358,272)" in lines


def test_keys_input_and_classes_of_the_network_can_be_set(capsys):
    out = printed(
        capsys, "show", "mlp", "--set", "hidden=7", "--set", "model.depth=2", "--input", "1x4x5", "--classes", "3"
    )
    assert "parameters     227" in out  # 20 * 7 + 7, 7 * 7 + 7, 7 * 3 + 3


def test_a_table_as_json(capsys):
    data = json.loads(printed(capsys, "show", "mlp,hidden=5", "--input", "1x2x2", "--classes", "2", "--json"))
    assert data["totals"]["params"] == 4 * 5 + 5 + 5 * 2 + 2
    assert data["keys"]["hidden"] == 5
    assert (data["input"], data["classes"]) == ([1, 2, 2], 2)
    assert [row["layer"] for row in data["rows"] if row["macs"]] == ["hidden1", "head"]


def test_a_table_as_csv_adds_up(capsys):
    rows = list(csv.DictReader(io.StringIO(printed(capsys, "show", "alexnet", "--csv"))))
    assert sum(int(row["params"]) for row in rows) == 62_378_344
    assert rows[0]["output"] == "96x55x55"


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_bars_are_drawn(capsys, tmp_path, ending):
    file = tmp_path / f"bars.{ending}"
    assert "figure" in printed(capsys, "show", "lenet5", "--bars", str(file))
    assert file.read_bytes()[:5] in (b"\x89PNG\r", b"<?xml")


@pytest.mark.parametrize("model", ["lenet5", "vit", "vgg11", "mlp"])
def test_receptive_fields_are_drawn(capsys, tmp_path, model):
    file = tmp_path / "fields.svg"
    assert "figure" in printed(capsys, "show", model, "--receptive", str(file))
    assert "side of the receptive field (pixels)" in file.read_text()


def test_a_child_is_drawn(capsys, tmp_path):
    file = tmp_path / "child.svg"
    assert "figure" in printed(capsys, "show", "child", "--set", "layers=3x5 s1 n24, 5x3 s2 n36", "--draw", str(file))
    assert "5x3 s2 n36" in file.read_text()


def test_several_names_are_compared(capsys):
    lines = printed(capsys, "vgg,layers=11", "alexnet").splitlines()
    assert lines[1].split()[:4] == ["vgg,layers=11", "3x224x224", "132,863,336", "7,609,090,048"]
    assert lines[1].split()[-3:] == ["69.02", "ImageNet", "VGG11_Weights.IMAGENET1K_V1"]
    assert lines[2].split()[:4] == ["alexnet", "3x227x227", "62,378,344", "1,135,256,096"]


def test_compare_may_be_said(capsys):
    names = ("vgg,layers=11", "alexnet")
    assert printed(capsys, "compare", *names) == printed(capsys, *names)


def test_a_comparison_as_json_with_a_chart_keeps_stdout_clean(capsys, tmp_path):
    file = tmp_path / "chart.png"
    data = json.loads(printed(capsys, "vgg,layers=11", "alexnet", "--json", "--out", str(file)))
    assert [entry["top1"] for entry in data["models"]] == [0.6902, None]
    assert file.read_bytes()[:4] == b"\x89PNG"


def test_a_chart_needs_an_accuracy(capsys, tmp_path):
    assert "no chart" in refused(capsys, "mlp", "linear", "--out", str(tmp_path / "chart.png"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("show", "alexnett"), "nearest: alexnet"),
        (("show", "mlp", "--set", "depht=3"), "nearest valid key: depth"),
        (("show", "mlp", "--set", "depth"), "expected key=value"),
        (("show", "mlp", "--set", "depth=deep"), "whole number"),
        (("show", "resnet", "--set", "depth=21"), "nearest: 20 and 26"),
        (("show", "mlp", "--input", "3x224"), "such as 3x224x224"),
        (("show", "mlp", "--input", "3x0x4"), "such as 3x224x224"),
        (("show", "mlp", "--bars", "bars.txt"), "expected a file that ends in .png or .svg"),
        (("show", "mlp", "--draw", "child.svg"), "mlp is no child of an architecture search"),
        (("show", "child", "--set", "layers=3x3 s1 n4", "--draw", "child.png"), "is to end in .svg"),
        (("show", "mlp", "--receptive", "field.txt"), "expected a file that ends in .png or .svg"),
        (("show", "alexnet", "--input", "3x20x20"), "cannot take images of 20x20"),
        (("alexnett", "mlp"), "nearest: alexnet"),
    ],
)
def test_what_cannot_be_built_says_why(capsys, arguments, message):
    assert message in refused(capsys, *arguments)


def test_a_file_that_cannot_be_written_says_so(capsys, tmp_path):
    assert "cannot be written" in refused(capsys, "show", "linear", "--bars", str(tmp_path / "no" / "bars.png"))


LIGHTLY = """
import sys
from expflow import cli
try:
    cli.main(["models", "show", "timm/resnet10t"])
finally:
    print({"timm", "triton"} & {*sys.modules}, file=sys.stderr)
"""


def test_a_network_of_a_package_is_shown_without_the_compiler_for_gpus():
    done = subprocess.run([sys.executable, "-c", LIGHTLY], capture_output=True, text=True, check=True)
    assert "\nparameters     5,435,488" in done.stdout
    assert done.stderr == "{'timm'}\n"  # and what is not collected at exit complains of nothing
