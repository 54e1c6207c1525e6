"""Well-known names (`resnet50`), and keys that were renamed: both stand for something else before ids are made."""

import json

import pytest

from expflow.config import config_id, identity_tree
from expflow.config.component_argument import parse_component
from expflow.config.identity import dump, recipe_from_identity
from expflow.config.jsonschema import json_schema
from expflow.registry import MODELS, Registry
from tests.config.files import BASE, loaded, problems


def model(text):
    return BASE.replace("{name: resnet, depth: 20}", text)


def recipe(folder, text, sets=()):
    return loaded(folder, model(text), sets).experiment.recipe


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("resnet50", "{name: resnet, layout: imagenet, depth: 50}"),
        ("resnet20", "{name: resnet, depth: 20}"),
        ("resnext50_32x4d", "{name: resnet, layout: imagenet, depth: 50, groups: 32, group_width: 4}"),
        ("vgg16", "{name: vgg, depth: 16}"),
        ("densenet121", "{name: densenet, layout: imagenet, depth: 121}"),
        ("vit_b_16", "vit"),
        ("vit_l_32", "{name: vit, depth: 24, width: 1024, heads: 16, patch: 32}"),
        ("mixer_b_16", "mixer"),
        ("efficientnet_b3", "{name: efficientnet, variant: b3}"),
        ("swin_t", "swin"),
        ("seresnet101", "{name: seresnet, depth: 101}"),
    ],
)
def test_a_well_known_name_is_its_family_with_keys(tmp_path, name, family):
    assert config_id(recipe(tmp_path, name)) == config_id(recipe(tmp_path, family))


def test_what_is_written_beside_the_name_wins(tmp_path):
    net = recipe(tmp_path, "{name: resnet50, depth: 101, norm: group}").model
    assert (net.name, net.layout, net.depth, net.norm) == ("resnet", "imagenet", 101, "group")
    assert recipe(tmp_path, "resnet50", ["model.depth=34"]).model.depth == 34
    assert recipe(tmp_path, "{name: resnet, depth: 20, width: 8}", ["model=resnet18"]).model.width == 64
    assert recipe(tmp_path, "vgg16", ["model.layers=11"]).model.depth == 11


def test_well_known_names_and_their_keys_are_searched(tmp_path):
    text = model("resnet50") + "sweep: {space: {model.depth: [50, 101], model.norm: [batch, group]}}\n"
    assert len(loaded(tmp_path, text).grid()) == 4
    several = model("resnet18") + "sweep: {space: {model: [resnet18, vgg11, {name: densenet121, growth: 16}]}}\n"
    experiment = loaded(tmp_path, several)
    built = [experiment.configure(values).model for values in experiment.grid()]
    assert [net.name for net in built] == ["resnet", "vgg", "densenet"]


def test_a_condition_may_ask_for_a_key_of_a_well_known_name(tmp_path):
    space = "{optimizer.lr: {choice: [0.1, 0.2], when: {model.depth: 50}}}"
    assert len(loaded(tmp_path, model("resnet50") + f"sweep: {{space: {space}}}\n").grid()) == 2
    assert "never active" in problems(tmp_path, model("resnet18") + f"sweep: {{space: {space}}}\n")[0]


@pytest.mark.parametrize(("name", "close"), [("resnet5o0", "resnet50"), ("vgg_16", "vgg16"), ("vit-b-16", "vit_b_16")])
def test_a_misspelt_one_gets_the_nearest(tmp_path, name, close):
    (problem,) = problems(tmp_path, model(name))
    assert f"no model is named '{name}'; nearest: {close}" in problem


def test_a_short_name_of_the_users_goes_before(monkeypatch):
    monkeypatch.setattr(MODELS, "_short_names", {"resnet50": "my_net:Net"})
    assert MODELS.preset("resnet50") is None
    assert MODELS.preset("resnet34") is not None


def test_no_preset_is_a_component_and_every_one_reads():
    assert not MODELS.presets.keys() & set(MODELS.names())
    for name, preset in MODELS.presets.items():
        assert parse_component("model", name).name == preset.component


def test_kinds_without_presets_have_none():
    assert Registry("loss", "expflow.losses.components:LOSSES").presets == {}


def test_the_schema_for_editors_knows_them():
    schema = json_schema()["$defs"]
    assert "resnet50" in schema["model"]["anyOf"][0]["enum"]
    assert {"vgg", "vgg16"} <= set(schema["model.vgg"]["properties"]["name"]["enum"])
    assert schema["model.vgg"]["properties"]["layers"]["deprecated"] is True


@pytest.mark.parametrize(
    ("former", "present"),
    [
        ("{name: vgg, layers: 16}", "{name: vgg, depth: 16}"),
        ("{name: vgg, layers: M}", "vgg_m"),
        ("{name: seresnet, variant: 18}", "{name: seresnet, depth: 18}"),
        ("{name: resmlp, variant: 24}", "{name: resmlp, depth: 24}"),
    ],
)
def test_a_renamed_key_is_read_and_hashed_as_before(tmp_path, former, present):
    before, now = recipe(tmp_path, former), recipe(tmp_path, present)
    assert config_id(before) == config_id(now)
    assert before == now
    key = former.split(", ")[1].split(":")[0]
    assert key in identity_tree(now)["model"]  # what ids are made of
    assert key not in dump(now)["model"]  # what is shown and written


def test_a_record_of_an_earlier_version_fills_the_renamed_key_in():
    record = {"task": {"name": "classification"}, "model": {"name": "vgg", "layers": 13}}
    assert recipe_from_identity(json.loads(json.dumps(record)))["model"]["depth"] == 13
    record["model"] = {"name": "resnetv2", "variant": 101}
    assert recipe_from_identity(record)["model"]["depth"] == 101


def test_a_renamed_key_is_searched_under_either_name(tmp_path):
    for key in ("layers", "depth"):
        text = model(f"{{name: vgg, {key}: 19}}") + f"sweep: {{space: {{model.{key}: [11, 13]}}}}\n"
        assert len(loaded(tmp_path, text).grid()) == 2


def test_both_names_of_a_key_are_refused(tmp_path):
    (problem,) = problems(tmp_path, model("{name: vgg, depth: 11, layers: 16}"))
    assert problem.startswith("exp.yaml:2:31: model.layers: depth and layers are one key under two names; say depth")
    assert recipe(tmp_path, "{name: vgg, depth: null, layers: 16}").model.depth == 16


def test_a_wrong_value_of_a_renamed_key_is_placed_where_it_stands(tmp_path):
    (problem,) = problems(tmp_path, model("{name: vgg, layers: 12}"))
    assert problem.startswith("exp.yaml:2:28: model.depth: expected 11, 13, 16, 19 or M, found 12")
