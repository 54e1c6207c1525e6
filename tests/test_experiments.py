"""The shipped experiments: every network in them can be built for its data, and costs what the papers say."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torchvision.models import alexnet

from expflow import cli
from expflow.architectures import count
from expflow.architectures.catalogue import image_data_spec, text_data_spec
from expflow.config import load
from expflow.config.identity import canonical_json, dump
from expflow.config.space import sample
from expflow.data.dataspec import FieldSpec
from expflow.data.sources.stamp_files import INSTALLED
from expflow.tasks import cost
from tests.data.sources.labelled_sets import write_voc

FOLDER = Path(__file__).parents[1] / "experiments"
EXPERIMENTS = sorted(FOLDER.glob("*.yaml"))
DIGITS = 8
SHAPES = {
    "digits": ((1, DIGITS, DIGITS), 10),
    "digit_scenes": ((3, 48, 48), 2),
    "noisy_curve": ((1, 1, 1), 1),
    "voc2012": ((3, 224, 224), 21),
    "voc2012_labels": ((3, 224, 224), 20),
    "fashion_mnist": ((1, 28, 28), 10),
    "cifar10": ((3, 32, 32), 10),
    "imagenet": ((3, 224, 224), 1000),
    "coco": ((3, 800, 800), 80),
    "tree_crowns": ((3, 128, 128), 1),
    "nuclei": ((1, 64, 64), 2),
}


FIRST_SEARCHES = {
    "nas_controller_proof": "sweep.searcher",
    "gan_average": "task.features",
    "style_weight": "task.features",
    "fast_style": "task.features",
}
"""Those that need what other experiments found, and the key that says so."""

BEGIN_WITH_OTHERS = (
    "mae_pretraining",
    "knn_probe",
    "transfer_digits_to_fashion",
    "transfer_fashion_to_digits",
    "segmentation_pretrained",
    "synthetic_to_real",
)
"""Those that begin with what another experiment has learned."""


def recipes(name):
    loaded = load(FOLDER / f"{name}.yaml")
    sweep = loaded.experiment.sweep
    if sweep is None or sweep.searcher.name == "grid":
        chosen = loaded.grid()
    else:  # nobody can go through an interval
        chosen = [sample(sweep.space, random.Random(seed)) for seed in range(5)]
    return [(values, loaded.configure(values)) for values in chosen]


def data_of(recipe):
    """Images and classes of the recipe's data, of the leading one of several sources, without the data."""
    if isinstance(recipe.data, dict):
        return next(iter(recipe.data.values())).published
    if recipe.data.name == "written_dates":
        return text_data_spec(32, 40)
    if recipe.data.name == "caption_pairs":
        return text_data_spec(81, 60)
    if recipe.data.name == "emoji":
        return recipe.data.published
    palette = tuple((number,) for number in range(recipe.data.palette))
    (channels, *sizes), classes = SHAPES[recipe.data.name]
    height, width = [recipe.data.image_size] * 2 if recipe.data.image_size else sizes
    described = image_data_spec((channels, height, width), classes)
    image, names = replace(described.fields["image"], palette=palette), described.classes
    if hasattr(recipe.task, "style"):
        names = (recipe.task.style, *names[1:])
    return replace(described, fields={"image": image, "label": FieldSpec((), "int64")}, classes=names)


def counted(name):
    return [(values, count(recipe.model, data_of(recipe))) for values, recipe in recipes(name)]


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_every_network_of_an_experiment_can_be_built(path):
    models = {}
    for _, recipe in recipes(path.stem):
        network = recipe.model if recipe.model is not None else recipe.task  # what is fitted once has none
        networks = network if isinstance(network, dict) else {"": network}
        described = {name: dump(network) for name, network in networks.items()}
        models[canonical_json([described, repr(data_of(recipe))])] = recipe
    assert models
    for recipe in models.values():
        counted_network = cost(recipe, data_of(recipe))
        assert counted_network.params > 0
        assert recipe.model is None or counted_network.parts or counted_network.macs > 0


def source(path):
    """The recipe's data, of several sources the leading one."""
    data = load(path).experiment.recipe.data
    return next(iter(data.values())) if isinstance(data, dict) else data


@pytest.mark.parametrize(
    "path",
    [path for path in EXPERIMENTS if source(path).name != "fashion_mnist"],  # its shards take half a minute
    ids=lambda path: path.stem,
)
def test_plan_shows_an_experiment_or_says_where_its_data_come_from(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EXPFLOW_CACHE", str(tmp_path / "cache"))
    with pytest.raises(SystemExit) as left:
        cli.main(["plan", str(path), "--no-time", "--no-check"])
    out, err = capsys.readouterr()
    experiment = load(path).experiment
    if path.stem in BEGIN_WITH_OTHERS or path.stem in FIRST_SEARCHES:
        assert left.value.code == 2
        assert FIRST_SEARCHES.get(path.stem, "init") in err
        assert "expflow sweep" in err
    elif path.stem == "voc_multilabel_pretraining":  # says of the published weights where to get them, too
        assert left.value.code == 3
        assert "torchvision/AlexNet_Weights.IMAGENET1K_V1" in err
        assert "get it from https://" in err
    elif path.stem == "captions":  # its data are Debian's, where they are installed
        assert left.value.code == (0 if INSTALLED.is_dir() else 2)
        assert INSTALLED.is_dir() or "install Debian's package tuxpaint-stamps-default" in err
    elif path.stem == "emoji_from_stamps":  # of both sources somebody has to get the files
        assert left.value.code == (3 if INSTALLED.is_dir() else 2)
        assert ("data.image: " if INSTALLED.is_dir() else "data.condition.path: ") in err
    elif source(path).name in ("digits", "digit_scenes", "noisy_curve", "written_dates"):
        assert (left.value.code, err) == (0, "")
        number = (
            len(recipes(path.stem)) * len(experiment.sweep.seeds) if experiment.sweep.searcher.name == "grid" else ""
        )
        assert f"{number} trials of" in out
    else:
        assert left.value.code == 3
        assert "run `expflow data build" in err
        assert source(path).where in err
        if source(path).published is None:  # what its images are like is not known before they are there
            assert "parameters" not in out
            return
        rows = [line for line in out.splitlines() if line.rstrip().endswith("new")]
        if experiment.sweep.searcher.name != "grid":  # its first proposals
            assert rows
            return
        costs = [count(recipe.model, data_of(recipe)) for _, recipe in recipes(path.stem)]
        assert len(rows) == len(costs) * len(experiment.sweep.seeds)
        for line, cost in zip(rows[:: len(experiment.sweep.seeds)], costs, strict=True):
            assert f"{cost.params:,}" in line
            assert f"{cost.macs:,}" in line


def test_a_plan_without_data_or_knowledge_of_them_only_says_what_is_missing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EXPFLOW_CACHE", str(tmp_path / "cache"))
    words = ["--set", "data.name=imagenet22k", "--set", "data.image_size=64"]
    with pytest.raises(SystemExit) as left:
        cli.main(["plan", str(FOLDER / "resnet_depth_imagenet.yaml"), *words])
    out, err = capsys.readouterr()
    assert left.value.code == 3
    assert "parameters" not in out
    assert "the shards of imagenet22k are not built yet" in err


def test_the_ten_resnexts_are_those_of_the_paper():
    costs = counted("resnext_groups")
    rows = [
        (model["depth"], model["groups"], model["group_width"]) for model in (values["model"] for values, _ in costs)
    ]
    shapes = [(1, 64), (2, 40), (4, 24), (8, 14), (32, 4)]
    assert rows == [(depth, *shape) for depth in (50, 101) for shape in shapes]
    assert [cost.params for _, cost in costs] == [
        25_557_032, 25_425_000, 25_292_968, 25_603_016, 25_028_904,
        44_549_160, 44_456_296, 44_363_432, 45_104_328, 44_177_704,
    ]  # fmt: skip
    giga = [round(cost.macs / 1e9, 3) for _, cost in costs]
    assert giga == [4.089, 4.125, 4.160, 4.267, 4.230, 7.801, 7.844, 7.886, 8.077, 7.970]


def test_residual_nets_of_imagenet_and_cifar_have_their_published_sizes():
    assert [cost.params for _, cost in counted("resnet_depth_imagenet")] == [
        11_689_512, 21_797_672, 25_557_032, 44_549_160, 60_192_808,
    ]  # fmt: skip
    cifar = {values["model.depth"]: cost.params for values, cost in counted("resnet_depth_cifar10")}
    assert cifar == {20: 269_722, 32: 464_154, 56: 853_018, 110: 1_727_962}


def test_alexnet_and_zfnet_are_the_lectures():
    params = [cost.params for _, cost in counted("alexnet_to_zfnet")]
    assert params[:2] == [60_965_224, 62_378_344]  # two streams, one


def test_small_filters_see_as_much_with_fewer_weights():
    by_values = {(values["model.field"], values["model.small"]): cost for values, cost in counted("small_filters")}
    width, pixels = 32, DIGITS**2
    for field, weights in ((5, (25, 18)), (7, (49, 27))):
        large, small = by_values[field, False], by_values[field, True]
        assert large.params - small.params == (weights[0] - weights[1]) * width**2
        assert large.macs - small.macs == (weights[0] - weights[1]) * width**2 * pixels


def test_a_bottleneck_has_four_times_the_channels_at_about_the_price():
    costs = counted("bottleneck_cost")
    by_values = {(values["model"]["block"], values["model"]["width"]): cost.macs for values, cost in costs}
    assert 0.9 < by_values["bottleneck", 16] / by_values["basic", 16] < 1.4  # the first block of a stage is dearer
    assert by_values["basic", 64] > 12 * by_values["bottleneck", 16]


def test_separable_convolutions_cost_8_times_less():
    costs = counted("mobile_width")
    by_values = {(values["model"]["width_factor"], values["model"]["convolution"]): cost.macs for values, cost in costs}
    assert 7 < by_values[0.25, "full"] / by_values[0.25, "separable"] < 9


def test_multilabel_pretraining_plans_where_photographs_and_weights_are_there(tmp_path, monkeypatch, capsys):
    """The photographs are a few small ones, and the weights those of a network that was just drawn."""
    monkeypatch.setenv("EXPFLOW_CACHE", str(tmp_path / "cache"))
    write_voc(tmp_path / "voc", 8)
    torch.save(alexnet().state_dict(), tmp_path / "alexnet.pth")
    text = (FOLDER / "voc_multilabel_pretraining.yaml").read_text()
    (tmp_path / "voc.yaml").write_text(text.replace("torchvision/AlexNet_Weights.IMAGENET1K_V1", "alexnet.pth"))
    monkeypatch.chdir(tmp_path)
    words = ["--set", f"data.path={tmp_path / 'voc'}", "--set", "data.val_fraction=0.25", "--no-time", "--no-check"]
    with pytest.raises(SystemExit) as left:
        cli.main(["plan", "voc.yaml", *words])
    out, err = capsys.readouterr()
    assert (left.value.code, err) == (0, "")
    assert "12 trials of 4 configs" in out
