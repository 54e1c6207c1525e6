"""Networks of torchvision and timm: names and arguments as an experiment gives them, and what is built of them."""

import pickle
import subprocess
import sys

import pytest
import torch
import torchvision
from pydantic import ValidationError

from expflow.architectures import build, count, packages
from expflow.architectures.accounting import count_parameters
from expflow.architectures.constructors import timm_construction
from expflow.architectures.outputs import WithAuxiliary
from expflow.architectures.specs.package_models import ALIASES, AliasSpec, TimmSpec, TorchvisionSpec
from expflow.config.identity import dump, identity_tree, recipe_from_identity
from expflow.errors import UserError
from expflow.registry import MODELS
from tests.architectures.nets import large as data
from tests.config.files import BASE, loaded, problems

TORCHVISION = packages.package_models("torchvision")
VARIANTS = [(name, variant) for name, family in ALIASES.items() for variant in family.sources]


def model(text):
    return BASE.replace("{name: resnet, depth: 20}", text)


def adapter(name, **arguments):
    return MODELS.spec(name)(name=name, **arguments)


def refusal(name, **arguments):
    """The field and the message of a spec that is refused."""
    with pytest.raises(ValidationError) as raised:
        adapter(name, **arguments)
    error = raised.value.errors()[0]["ctx"]["error"]
    return error.field, str(error)


# -- names and arguments ---------------------------------------------------------------------------------------------


def test_all_classification_networks_have_names():
    assert len(TORCHVISION) >= 80
    assert len(packages.package_models("timm")) >= 1200
    assert "vit_gigantic_patch14_224" in packages.package_models("timm")
    assert not [name for name in TORCHVISION if "raft" in name or "fcn" in name or "r3d" in name]


@pytest.mark.parametrize("source", [f"torchvision/{name}" for name in TORCHVISION])
def test_every_argument_of_torchvision_is_described_and_taken(source):
    for key, argument in packages.package_arguments(source).items():
        assert argument.description
        assert argument.default is None or packages.check_package_model(source, {key: argument.default}) == {key}
    assert not packages.FILLED_BY_DATA & packages.package_arguments(source).keys()


def test_what_every_name_of_timm_constructs_can_be_told():
    families = {timm_construction(name, {}).cls: name for name in packages.package_models("timm")}
    assert len(families) > 80
    for name in families.values():
        assert all(argument.description for argument in packages.package_arguments(f"timm/{name}").values()), name


def test_arguments_have_the_values_of_that_name():
    known = packages.package_arguments("timm/resnet50")
    assert known["layers"].default == (3, 4, 6, 3)
    assert known["drop_path_rate"].default == 0
    assert "dropout" in known["drop_rate"].description.lower()
    assert packages.package_arguments("torchvision/wide_resnet50_2")["width_per_group"].default == 128


@pytest.mark.parametrize(
    ("name", "arguments", "field", "expected"),
    [
        ("timm/resnet5", {}, "name", "timm has no classification network named 'resnet5'; nearest: timm/resnet50"),
        ("torchvision/resnet55", {}, "name", "nearest: torchvision/resnet50"),
        ("torchvision/fcn_resnet5", {}, "name", "nearest: torchvision/fcn_resnet50"),
        ("torchvision/raft_large", {}, "name", "torchvision has no classification or segmentation or detection net"),
        ("torchvision/fcn_resnet50", {"aux_los": True}, "aux_los", "unknown key; nearest valid key: aux_loss"),
        ("torchvision/fcn_resnet50", {"weights_backbone": 1}, "weights_backbone", "unknown key"),
        ("smp/Unett", {}, "name", "smp has no segmentation network named 'Unett'; nearest: smp/Unet"),
        ("smp/Unet", {"encoder_nam": "resnet18"}, "encoder_nam", "unknown key; nearest valid key: encoder_name"),
        ("smp/Unet", {"classes": 2}, "classes", "smp/Unet takes it from the data; remove it here"),
        ("smp/Unet", {"encoder_depth": "deep"}, "encoder_depth", "expected a whole number, found 'deep'"),
        ("timm/qwen3_vit_88m_enc", {}, "name", "timm has no classification network"),
        ("timm/resnet50", {"drop_rat": 0.1}, "drop_rat", "unknown key; nearest valid key: drop_rate; it takes act"),
        ("torchvision/resnet18", {"qqq": 1}, "qqq", "unknown key; expected one of: groups, replace_stride_with"),
        ("timm/resnet50", {"num_classes": 7}, "num_classes", "timm/resnet50 takes it from the data; remove it here"),
        ("timm/resnet50", {"in_chans": 1}, "in_chans", "takes it from the data"),
        ("timm/resnet50", {"pretrained": True}, "pretrained", "unknown key"),
        ("torchvision/resnet50", {"weights": "DEFAULT"}, "weights", "unknown key"),
        ("torchvision/resnet50", {"layers": [1, 1, 1, 1]}, "layers", "torchvision/resnet50 fixes it; it takes groups"),
        ("timm/mixer_b16_224", {"num_blocks": 2}, "num_blocks", "timm/mixer_b16_224 fixes it; it takes"),
        ("timm/resnet50", {"drop_rate": "much"}, "drop_rate", "expected a number, found 'much'"),
        ("timm/vit_base_patch16_224", {"depth": 2.5}, "depth", "expected a whole number, found 2.5"),
        ("swin", {"mlp_ration": 2.0}, "mlp_ration", "unknown key; nearest valid key: mlp_ratio"),
    ],
)  # fmt: skip
def test_what_a_package_does_not_take_is_refused(name, arguments, field, expected):
    where, message = refusal(name, **arguments)
    assert where == field
    assert expected in message


def test_names_and_arguments_are_checked_when_an_experiment_is_read(tmp_path):
    reported = problems(tmp_path, model("{name: timm/resnet50, drop_rat: 0.1}"))
    assert reported[0].startswith("exp.yaml:2:30: model.drop_rat: unknown key; nearest valid key: drop_rate")
    reported = problems(tmp_path, model("timm/resnet5"))
    assert reported == [
        "exp.yaml:2:8: model.name: timm has no classification network named 'resnet5'; nearest: timm/resnet50"
    ]
    reported = problems(tmp_path, model("tinn/resnet50"))
    assert "no model is named 'tinn/resnet50'" in reported[0]
    reported = problems(tmp_path, model("{name: squeezenet, variant: 1_0}"))
    assert "expected v1_0 or v1_1" in reported[0]


def test_arguments_are_part_of_a_configs_identity(tmp_path):
    recipe = loaded(tmp_path, model("{name: timm/resnet50, drop_rate: 0.1, layers: [3, 4, 6, 3]}")).experiment.recipe
    assert identity_tree(recipe)["model"] == {"name": "timm/resnet50", "drop_rate": 0.1}  # its layers are the usual
    assert dump(recipe)["model"] == {"name": "timm/resnet50", "drop_rate": 0.1, "layers": [3, 4, 6, 3]}
    bare = loaded(tmp_path, model("{name: timm/resnet50, drop_rate: null}")).experiment.recipe
    assert identity_tree(bare)["model"] == {"name": "timm/resnet50"}
    swin = loaded(tmp_path, model("{name: swin, variant: small, dropout: 0.1}")).experiment.recipe
    assert identity_tree(swin)["model"] == {"name": "swin", "variant": "small", "dropout": 0.1}
    assert recipe_from_identity(identity_tree(swin))["model"] == {"name": "swin", "variant": "small", "dropout": 0.1}


def test_names_and_arguments_can_be_searched(tmp_path):
    space = "sweep: {space: {model.name: [timm/resnet18, timm/resnet34], model.drop_rate: [0.0, 0.1]}}\n"
    configs = loaded(tmp_path, model("timm/resnet18") + space).grid()
    assert len(configs) == 4
    space = "sweep: {space: {model.drop_rat: [0.0, 0.1]}}\n"
    reported = problems(tmp_path, model("timm/resnet18") + space, check=True)
    assert "nearest valid key: drop_rate" in reported[0]


def test_specs_are_torch_free_and_short_names_without_arguments_stay_so():
    code = (
        "import sys; from expflow.registry import MODELS; MODELS.spec('timm/resnet50');"
        "MODELS.spec('swin')(name='swin', variant='base'); print({'torch', 'timm'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("spec", [("swin", {"dropout": 0.1}), ("timm/resnet18", {"drop_rate": 0.1})])
def test_specs_can_be_pickled(spec):
    made = adapter(spec[0], **spec[1])
    again = pickle.loads(pickle.dumps(made))
    assert again == made
    assert again.non_default_arguments == made.non_default_arguments


# -- networks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "variant"), VARIANTS)
def test_every_short_name_stands_for_something(name, variant):
    package, _, rest = ALIASES[name].sources[variant].partition("/")
    assert rest in packages.package_models(package)
    assert issubclass(MODELS.spec(name), AliasSpec)


SIZES = {"inception_v3": 299, "inception_v4": 299, "inception_resnet_v2": 299, "xception": 299, "nasnet": 331}


@pytest.mark.parametrize(
    ("name", "variant", "params", "giga_macs"),
    [
        ("squeezenet", "v1_0", 1_248_424, 0.819),
        ("squeezenet", "v1_1", 1_235_496, 0.349),
        ("inception_v3", "v3", 23_834_568, 5.713),
        ("inception_v4", "v4", 42_679_816, 12.254),
        ("inception_resnet_v2", "v2", 55_843_464, 13.156),
        ("xception", "original", 22_855_952, 8.357),
        ("mobilenet_v2", "v2", 3_504_872, 0.301),
        ("shufflenet_v2", "x1_0", 2_278_604, 0.145),
        ("nasnet", "large", 88_753_150, 23.783),
        ("seresnet", 50, 28_088_024, 4.092),
        ("senet", 154, 115_088_984, 20.688),
        ("resnetv2", 152, 60_185_128, 11.514),
        ("convnext", "tiny", 28_589_128, 4.456),
        ("convnext", "base", 88_591_464, 15.355),
        ("efficientnet", "l2", 480_309_308, 475.704),
        ("swin", "tiny", 28_288_354, 4.491),
        ("swin", "large", 196_532_476, 34.476),
        ("mvit_v2", "base", 51_472_744, 10.102),
        ("deit3", "base", 86_585_320, 17.564),
        ("coatnet", 0, 25_036_820, 4.547),
        ("resmlp", 12, 15_350_872, 3.010),
    ],
)
def test_published_sizes_of_short_names(name, variant, params, giga_macs):
    spec = adapter(name, **{ALIASES[name].key: variant})
    size = SIZES.get(name, 800 if variant == "l2" else 224)
    assert packages.usual_image_shape(spec.source)[1:] == (size, size)
    counted = count(spec, data(size=size))
    assert counted.params == params
    assert counted.macs / 1e9 == pytest.approx(giga_macs, abs=5e-4)


UNTESTED_ABOVE = ["bit", "efficientnet", "efficientnet_v2", "mnasnet", "mobilenet_v3", "pnasnet", "swin_v2"]


@pytest.mark.parametrize("name", UNTESTED_ABOVE)
def test_the_other_short_names_build(name):
    assert count(adapter(name), data(1, 224, 7)).params > 1e6


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("vit_gigantic_patch14_224", 1_844_440_680),
        ("vit_huge_patch14_224", 632_045_800),  # tables that say 630,764,800 leave out its head
        ("seresnet152", 66_821_848),
        ("mixer_b16_224", 59_880_472),
        ("gmlp_s16_224", 19_422_656),
        ("convmixer_768_32", 21_110_248),
        ("densenet121", 7_978_856),
        ("mobilenetv1_100", 4_231_976),
    ],
)
def test_published_sizes_of_timm(name, params):
    assert count(TimmSpec(name=f"timm/{name}"), data()).params == params


# VmHWM, not ru_maxrss: Linux hands the latter on from the process that started this one.
MEMORY = """
from pathlib import Path
from expflow.architectures import count
from expflow.architectures.specs.package_models import TimmSpec
from expflow.data.dataspec import DataSpec, FieldSpec
spec = TimmSpec(name="timm/vit_gigantic_patch14_224")
data_spec = DataSpec({"image": FieldSpec((3, 224, 224), "uint8")}, tuple(map(str, range(1000))))
params = count(spec, data_spec).params
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print(params, status["VmHWM"].split()[0])
"""


def test_1844_million_parameters_take_less_than_a_gigabyte():
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    params, kilobytes = map(int, done.stdout.split())
    assert params == 1_844_440_680
    assert kilobytes < 1_000_000


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("timm/resnet18", 32),
        ("timm/vit_tiny_patch16_224", 32),
        ("timm/swin_tiny_patch4_window7_224", 64),
        ("timm/mixer_s32_224", 64),
        ("timm/efficientnet_b0", 32),
        ("timm/regnety_002", 32),
        ("torchvision/squeezenet1_1", 32),
        ("torchvision/vit_b_32", 64),
        ("torchvision/swin_t", 32),
        ("torchvision/regnet_y_400mf", 32),
        ("torchvision/maxvit_t", 224),
        ("torchvision/densenet121", 32),
    ],
)
def test_channels_classes_and_size_come_from_the_data(name, size):
    data_spec = data(2, size, 7)
    with torch.device("meta"):
        net = build(adapter(name), data_spec).eval()
        assert net(torch.zeros(3, *data_spec.image_shape)).shape == (3, 7)


@pytest.mark.parametrize("name", ["timm/resnet10t", "torchvision/shufflenet_v2_x0_5", "torchvision/mobilenet_v3_small"])
def test_small_ones_train(name):
    net = build(adapter(name), data(1, 32, 5))
    net(torch.randn(4, 1, 32, 32)).logsumexp(1).sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())
    again = pickle.loads(pickle.dumps(net))
    x_bchw = torch.randn(2, 1, 32, 32)
    assert torch.equal(net.eval()(x_bchw), again.eval()(x_bchw))


def test_arguments_reach_the_network():
    deeper = count(adapter("timm/vit_tiny_patch16_224", depth=3, patch_size=8), data(1, 32, 10))
    assert deeper.params < count(adapter("timm/vit_tiny_patch16_224"), data(1, 32, 10)).params
    assert count(adapter("timm/resnet50", layers=[1, 1, 1, 1]), data()).params < 25_557_032
    net = build(adapter("torchvision/mobilenet_v2", width_mult=0.25, dropout=0.4), data(3, 32, 10))
    assert net.classifier[0].p == 0.4


def test_another_number_of_channels_keeps_the_scale_of_what_the_first_convolution_gives():
    x_bchw = torch.randn(2, 1, 32, 32)
    actual, usual = build(adapter("torchvision/resnet18"), data(1, 32, 10)), torchvision.models.resnet18()
    first = actual.conv1
    assert (first.in_channels, first.kernel_size, first.stride, first.padding) == (1, (7, 7), (2, 2), (3, 3))
    expected = usual.conv1(torch.randn(2, 3, 32, 32)).std()
    assert first(x_bchw).std().item() == pytest.approx(expected.item(), rel=0.15)
    assert count_parameters(actual) == count(adapter("torchvision/resnet18"), data(1, 32, 10)).params


def test_an_auxiliary_classifier_is_off_unless_asked_for():
    plain = adapter("inception_v3")
    with torch.device("meta"):
        x_bchw = torch.zeros(2, 3, 299, 299)
        assert build(plain, data(3, 299, 7))(x_bchw).shape == (2, 7)
        net = build(adapter("inception_v3", aux_logits=True), data(3, 299, 7))
        scores = net(x_bchw)
        assert isinstance(scores, WithAuxiliary)
        assert [head.shape for head in (scores.logits, *scores.auxiliary)] == [(2, 7), (2, 7)]
        assert net.eval()(x_bchw).shape == (2, 7)
        both = build(adapter("torchvision/googlenet", aux_logits=True), data(3, 64, 7))(torch.zeros(2, 3, 64, 64))
        assert len(both.auxiliary) == 2


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("timm/vit_base_patch16_224", (28, 28), r"16x16 pixels do not tile .* 28x28; nearest patch_size: 14 and 28"),
        ("torchvision/vit_b_16", (28, 28), r"16x16 pixels do not tile .* 28x28; nearest image size: 16 and 32"),
        ("timm/crossvit_9_240", (100, 100), r"12x16 pixels do not tile .* 100x100; nearest image size: 120"),
        ("torchvision/vit_b_16", (32, 64), "square images only; these are 32x64; nearest: 32x32 and 64x64"),
        ("inception_v3", (32, 32), r"cannot take this data \(3x32x32\).*nearest legal size: 75x75"),
    ],
)
def test_images_that_do_not_fit_are_refused_with_the_reason(name, shape, message):
    with pytest.raises(UserError, match=message):
        count(adapter(name), data(3, *shape[:1], 10, width=shape[1]))


def test_branches_of_a_network_have_images_and_patches_of_their_own():
    # 408 pixels in patches of 12, and 384 in patches of 16: timm's pair is no height and width
    assert count(adapter("timm/crossvit_15_dagger_408"), data(3, 408)).params == 28_500_080
    assert count(adapter("timm/crossvit_9_240"), data(3, 120, 7)).params


def test_images_need_not_be_square():
    assert count(adapter("timm/vit_tiny_patch16_224"), data(3, 32, 10, width=64)).params
    assert TorchvisionSpec(name="torchvision/resnet18").source == "torchvision/resnet18"
